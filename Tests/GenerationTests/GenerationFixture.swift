import Foundation
import LTX
import LoRAFiles
import Media
import Support
import TensorFiles
import Torch

@testable import Generation

/// The tiny model, written once for all tests.
enum TinyFiles {
  private static let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
    "inference-\(UUID().uuidString)"
  ).path

  static let files = Result {
    atexit {
      do { try FileManager.default.removeItem(atPath: TinyFiles.folder) } catch {
        print("cannot remove \(TinyFiles.folder): \(error)")
      }
    }
    return try TinyModel.write(to: folder, seed: 7)
  }
}

/// A folder that is removed after the test, and the files that tests create in it.
final class Scratch {
  let folder: String

  init() throws {
    folder =
      FileManager.default.temporaryDirectory.appendingPathComponent("generate-\(UUID().uuidString)")
      .path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit {
    do { try FileManager.default.removeItem(atPath: folder) } catch {
      print("cannot remove \(folder): \(error)")
    }
  }

  func path(_ name: String) -> String { folder + "/" + name }
  func contents() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
  }

  func models(_ loras: [LoRARef] = []) throws -> GenerationModels {
    let files = try TinyFiles.files.get()
    return GenerationModels(
      ModelFiles(unified: files.checkpoint, textEncoder: files.textEncoder), loras: loras)
  }

  /// A small and quick request, for video only.
  func request() -> GenerationRequest {
    var request = GenerationRequest(prompts: ["a red ball rolls over green grass"])
    request.hasAudio = false
    (request.width, request.height, request.frames, request.frameRate, request.steps) = (
      96, 64, 9, 25, 2
    )
    request.seed = 3
    return request
  }

  func plan(
    _ request: GenerationRequest? = nil, loras: [LoRARef] = [],
    output: String = "out.mp4"
  ) throws -> GenerationPlan {
    try GenerationPlan(request ?? self.request(), models: models(loras), output: path(output))
  }

  /// Generates and returns the file's bytes.
  func generate(
    _ request: GenerationRequest? = nil, loras: [LoRARef] = [],
    output: String = "out.mp4"
  ) throws -> Data {
    try GenerationPipeline(plan(request, loras: loras, output: output)).run()
    return try Data(contentsOf: URL(fileURLWithPath: path(output)))
  }

  /// A LoRA for layers of the tiny checkpoint, large enough to be visible in 8 bits.
  ///
  /// - Parameter modules: Modules below `model.diffusion_model`; their sizes are read from the
  ///   checkpoint.
  func lora(
    _ name: String = "a.safetensors", modules: [String] = defaultModules, rank: Int = 2,
    widen: Int = 0,
    seed: UInt64 = 1
  ) throws -> String {
    let checkpoint = try Checkpoint(path: TinyFiles.files.get().checkpoint)
    let generator = try Generator(seed: seed)
    var tensors: [(key: String, tensor: Tensor)] = []
    for module in modules {
      let shape =
        checkpoint.source.entries["model.diffusion_model.\(module).weight"]?.shape ?? [8, 8]
      tensors.append(
        ("diffusion_model.\(module).lora_A.weight", try generator.normal([rank, shape[1] + widen])))
      tensors.append(
        ("diffusion_model.\(module).lora_B.weight", try generator.normal([shape[0], rank])))
    }
    try writeSafetensors(tensors, metadata: ["format": "pt"], to: path(name))
    return path(name)
  }

  static let defaultModules = [
    "transformer_blocks.0.attn1.to_v", "transformer_blocks.0.attn1.to_out.0",
    "transformer_blocks.1.ff.net.2",
  ]
  static let audioModules = [
    "transformer_blocks.0.audio_attn1.to_q", "transformer_blocks.0.audio_to_video_attn.to_k",
    "transformer_blocks.1.video_to_audio_attn.to_v", "transformer_blocks.1.audio_ff.net.2",
  ]

  func image(_ name: String = "picture.png") throws -> String {
    var bytes = [UInt8](repeating: 0, count: 3 * 120 * 80)
    for index in bytes.indices { bytes[index] = UInt8(index % 3 == 0 ? 220 : 30) }
    try RGBFrame(bytes: bytes, width: 120, height: 80).writePNG(to: path(name))
    return path(name)
  }

  func frames(_ output: String = "out.mp4") throws -> (reader: VideoReader, frames: [RGBFrame]) {
    let reader = try VideoReader(path: path(output))
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return (reader, frames)
  }
}

extension Support.Issue {
  /// The subject without the files that it names.
  var place: [PathComponent] {
    subject.filter { if case .file = $0 { false } else { true } }
  }
}
