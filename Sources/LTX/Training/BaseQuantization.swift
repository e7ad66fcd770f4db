import NN
import Support
import Torch

/// The format of the frozen weights while adapters are trained. The names are those of upstream's
/// `acceleration.quantization` and of optimum-quanto's types.
public enum BaseQuantization: String, Sendable, CaseIterable {
  case int8 = "int8-quanto"
  case int4 = "int4-quanto"
  case int2 = "int2-quanto"
  case float8 = "fp8-quanto"
  case float8UZ = "fp8uz-quanto"

  /// - Throws: `Issue` for an unsupported format.
  public func storage() throws -> WeightStorage {
    switch self {
    case .int8: .quanto(.int8, excluding: Self.isExcluded)
    case .float8: .quanto(.float8E4M3, excluding: Self.isExcluded)
    case .int4, .int2, .float8UZ:
      throw Issue(
        ["quantization"], "\(rawValue) is not supported",
        suggestion: "Use \(BaseQuantization.int8.rawValue) or \(BaseQuantization.float8.rawValue), "
          + "which keep a weight in one byte.")
    }
  }

  /// Whether upstream leaves a linear layer unquantized (ltx-trainer, `quantization.py`): the input
  /// and output projections, and the projection of the audio's text. Upstream's patterns also name
  /// the modulation, but are compared with names that lack that part, so those layers are
  /// quantized.
  static func isExcluded(_ path: String) -> Bool {
    let name =
      path.hasPrefix("\(Checkpoint.Prefix.transformer).")
      ? path.dropFirst(Checkpoint.Prefix.transformer.count + 1) : path[...]
    return ["patchify_proj", "audio_patchify_proj", "proj_out", "audio_proj_out"].contains(name)
      || name.hasPrefix("audio_caption_projection.")
  }
}
