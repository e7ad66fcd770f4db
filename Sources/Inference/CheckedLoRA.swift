import LTX
import NN
import TensorFiles
import Torch

/// A LoRA whose every adapter has been found to fit a layer of a checkpoint.
public struct CheckedLoRA: Sendable {
  public let strength: Double
  /// What the file says of itself.
  let metadata: [String: String]
  private let modules: [(path: String, down: Tensor, up: Tensor)]
  /// How many adapters belong to layers that the streams leave out.
  let skippedCount: Int

  /// Reads the headers of the two files only.
  ///
  /// - Parameter streams: what will be built of the transformer. Adapters of what will not be are left out.
  /// - Throws: `GenerationError` that names the LoRA's first key that does not fit, and both shapes.
  init(_ choice: GenerationModels.LoRA, checkpoint: Checkpoint, streams: Streams) throws {
    func fail(_ problem: String) -> GenerationError { GenerationError(.lora, "\(choice.path): \(problem)") }
    guard choice.strength.isFinite else {
      throw fail("a strength of \(choice.strength) is no number to multiply by")
    }
    strength = choice.strength
    let file: LoRAFile
    do {
      file = try LoRAFile(path: choice.path)
    } catch let error as TensorFileError where error.kind == .notFound && choice.path.contains(":") {
      throw fail("there is no such file; to give a strength, write FILE:0.8 with a number after the colon")
    } catch {
      throw GenerationError(.lora, "\(error)")
    }
    for module in file.modules {
      guard let layer = checkpoint.source.entries[LoRAFile.checkpointPath(module.path) + ".weight"] else {
        throw fail(
          "\(module.path) is no layer of \(checkpoint.source.name); the LoRA was made for another model")
      }
      let (down, up) = (module.down.shape, module.up.shape)
      guard down.count == 2, up.count == 2, up[1] == down[0], layer.shape == [up[0], down[1]] else {
        throw fail(
          "\(module.path) has A of \(down) and B of \(up), but the layer of \(checkpoint.source.name) is "
            + "\(layer.shape); the LoRA was made for another model")
      }
    }
    metadata = file.metadata
    modules = file.modules.filter { Self.isBuilt($0.path, streams) }
    skippedCount = file.modules.count - modules.count
  }

  /// Whether a layer is there if only some streams are built. Attention between the streams takes both.
  private static func isBuilt(_ path: String, _ streams: Streams) -> Bool {
    guard streams != .both else { return true }
    let parts = path.split(separator: ".")
    let isCross = parts.contains {
      $0 == "audio_to_video_attn" || $0 == "video_to_audio_attn" || $0.hasPrefix("av_ca_")
    }
    return !isCross && parts.contains { $0.hasPrefix("audio_") } == streams.hasAudio
  }

  /// Stacks the adapters on the modules that they modify. A strength of 0 adds nothing, so that the result is the very
  /// same as without the LoRA.
  func add(to adapters: inout AdapterSet, dtype: DType?, device: Device) throws {
    guard strength != 0 else { return }
    for module in modules {
      adapters.add(
        LowRankAdapter(
          down: try module.down.to(device, dtype), up: try module.up.to(device, dtype), scale: strength),
        to: LoRAFile.checkpointPath(module.path))
    }
  }
}

extension [CheckedLoRA] {
  func adapters(dtype: DType?, device: Device) throws -> AdapterSet {
    var adapters = AdapterSet()
    for lora in self { try lora.add(to: &adapters, dtype: dtype, device: device) }
    return adapters
  }
}
