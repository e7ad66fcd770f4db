import Foundation
import LTX
import LoRAFiles
import NN
import TensorFiles
import Torch

/// The checkpoint and the LoRA files that Tests/Oracles made, and a folder for what tests write.
public final class LoRAFixture {
  public static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .appendingPathComponent("Fixtures").path

  public static func model(_ name: String) -> String { "\(root)/models/\(name).safetensors" }
  public static func lora(_ name: String) throws -> LoRAFile { try LoRAFile(path: model(name)) }
  public static func checkpoint() throws -> Checkpoint {
    try Checkpoint(path: model("ltx2_transformer"))
  }

  public let folder: String

  public init() throws {
    folder = NSTemporaryDirectory() + "lora-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit {
    do { try FileManager.default.removeItem(atPath: folder) } catch {
      print("cannot remove \(folder): \(error)")
    }
  }

  public func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// Writes a file of matrices with these keys, and a few others.
  public func file(
    _ shapes: [String: [Int]], metadata: [String: String] = [:], name: String = "a.safetensors"
  ) throws -> String {
    let generator = try Generator(seed: 1)
    let tensors = try shapes.sorted { $0.key < $1.key }.map {
      (key: $0, tensor: try generator.normal($1))
    }
    try writeSafetensors(tensors, metadata: metadata, to: path(name))
    return path(name)
  }

  /// scale * B A of every layer, in float64.
  public static func changes(_ file: LoRAFile) throws -> [String: Tensor] {
    Dictionary(
      uniqueKeysWithValues: try file.modules.map {
        ($0.path, try $0.up.to(.float64).matmul($0.down.to(.float64)) * $0.scale)
      })
  }

  /// The largest difference, relative to the largest wanted number.
  public static func distance(_ got: Tensor, _ want: Tensor) throws -> Double {
    let (g, w) = (try got.to(.float64), try want.to(.float64))
    return try (g - w).abs().max().item() / w.abs().max().item()
  }

  /// The velocity of the video for a recorded input.
  public static func velocity(_ transformer: Transformer) throws -> Tensor {
    let inputs = try SafetensorsFile(path: "\(root)/transformer/lora_kohya/inputs.safetensors")
    func stream(_ name: String) throws -> ModalityInput {
      ModalityInput(
        latent: try inputs.tensor("\(name).latent"),
        timesteps: try inputs.tensor("\(name).timesteps"),
        sigma: try inputs.tensor("\(name).sigma"),
        positions: try inputs.tensor("\(name).positions"),
        context: try inputs.tensor("\(name).context"))
    }
    let velocity = try withInference {
      try transformer(PerModality(video: stream("video"), audio: stream("audio"))).video
    }
    guard let velocity else { preconditionFailure("a joint transformer without video") }
    return velocity
  }
}
