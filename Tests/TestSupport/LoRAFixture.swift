import Foundation
import LTX
import LoRAFiles
import NN
import TensorFiles
import Torch

/// The checkpoint and the LoRA files from Tests/Oracles, and a folder that tests write to.
public final class LoRAFixture {

  public static func lora(_ name: String) throws -> LoRAFile {
    try LoRAFile(path: Fixtures.model(name))
  }
  public static func checkpoint() throws -> Checkpoint {
    try Checkpoint(path: Fixtures.model("ltx2_transformer"))
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

  /// Writes a file of matrices with these keys, and a few other tensors.
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

  /// scale * B A of every LoRA in float64, and the change of every other adapter.
  public static func changes(_ file: LoRAFile) throws -> [String: Tensor] {
    Dictionary(
      uniqueKeysWithValues: try file.modules.map {
        guard $0.kind != LoRAAdapter.kind else {
          return ($0.path, try $0.up.to(.float64).matmul($0.down.to(.float64)) * $0.scale)
        }
        let weight = try Tensor.zeros($0.adapter.weightShape ?? [])
        return ($0.path, try $0.adapter.change(ofWeight: weight).to(.float64))
      })
  }

  /// The largest difference, relative to the largest expected value.
  public static func distance(_ got: Tensor, _ want: Tensor) throws -> Double {
    let (g, w) = (try got.to(.float64), try want.to(.float64))
    return try (g - w).abs().max().item() / w.abs().max().item()
  }

  /// The velocity of the video for a recorded input.
  public static func velocity(_ transformer: Transformer) throws -> Tensor {
    let inputs = try SafetensorsFile(
      path: "\(Fixtures.root)/transformer/lora_kohya/inputs.safetensors")
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

/// The tensors of modules that are LoRAs or DoRAs.
extension LoRAFile.Module {
  public var down: Tensor { adapter.tensors[0].tensor }
  public var up: Tensor { adapter.tensors[1].tensor }
  public var scale: Double { adapter.scale }
  public var rank: Int? { adapter.rank }
  public var magnitude: Tensor? { adapter["lora_magnitude_vector"] }
}

extension LoRA.Layer {
  public var down: Tensor { adapter.tensors[0].tensor }
  public var up: Tensor { adapter.tensors[1].tensor }
}

extension FreshAdapters {
  public init(
    targets: [String], rank: Int, alpha: Double, isRankStabilized: Bool = false,
    kind: AdapterKind = LoRAAdapter.kind, dropout: AdapterDropout? = nil,
    dtype: DType = .float32, generator: Generator
  ) {
    self.init(
      targets: targets, kind: kind,
      settings: AdapterSettings(
        rank: rank, alpha: alpha,
        scaling: isRankStabilized ? .alphaOverSquareRootOfRank : .alphaOverRank),
      dropout: dropout, dtype: dtype, generator: generator)
  }
}

extension [Parameter] {
  /// The parameters that are zero in a new adapter, so that it changes nothing.
  public var startingAtZero: [Parameter] {
    get throws { try filter { try $0.tensor.abs().max().item() == 0 } }
  }
}

extension LoRAFixture {
  /// Writes a file with an adapter of a kind for some layers of `checkpoint()`, as after training.
  ///
  /// - Parameter modules: The paths in ComfyUI's format.
  public func file(
    of kind: AdapterKind, _ modules: [String], settings: AdapterSettings = .init(rank: 2, alpha: 3),
    name: String = "kind.safetensors"
  ) throws -> String {
    let weights = try Self.checkpoint().weights(LoadPolicy(dtype: .float32))
    let generator = try Generator(seed: 11)
    var tensors: [(key: String, tensor: Tensor)] = []
    for module in modules {
      let linear = try Linear(weights / LoRAFile.checkpointPath(module))
      let layer = BaseLayer(weight: FixedWeight(values: try linear.weight))
      let fresh = try kind.type.init(for: layer, settings, generator: generator, dtype: .float32)
      let trained = try fresh.mapTensors { _, tensor in
        try tensor + generator.normal(tensor.shape) * 0.2
      }
      tensors += try trained.fileTensors(.comfyUI).map { ("\(module).\($0.name)", $0.tensor) }
    }
    try writeSafetensors(tensors, metadata: ["format": "pt"], to: path(name))
    return path(name)
  }

  private struct FixedWeight: StoredWeight {
    let values: Tensor
    var shape: [Int] { values.shape }
    var dtype: DType { values.dtype }
    var slots: [WeightSlot] { [] }
    func dequantized() throws -> Tensor { values }
    func matmul(_ x: Tensor, _ bias: Tensor?, adding term: LowRankTerm?) throws -> Tensor {
      let y = try x.linear(values, bias)
      return try term.map { try y + $0(x) } ?? y
    }
  }
}
