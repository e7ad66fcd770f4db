import NN
import Support
import Torch

/// The format that a transformer's frozen weights are quantized to while they are loaded. Except for
/// `nf4`, the names are those of upstream's `acceleration.quantization` and of optimum-quanto's
/// types.
public enum BaseQuantization: String, Sendable, CaseIterable {
  case int8 = "int8-quanto"
  case int4 = "int4-quanto"
  case int2 = "int2-quanto"
  case float8 = "fp8-quanto"
  case float8UZ = "fp8uz-quanto"
  /// bitsandbytes' NF4, without its second quantization of the scales.
  case nf4

  /// The formats that are supported.
  public static let supported = allCases.filter { $0 != .float8UZ }

  /// - Throws: `Issue` for an unsupported format.
  public func storage() throws -> WeightStorage {
    switch self {
    case .int8: .quanto(.int8, excluding: Self.isExcluded)
    case .float8: .quanto(.float8E4M3, excluding: Self.isExcluded)
    case .int4: .quanto(bits: 4, excluding: Self.isExcluded)
    case .int2: .quanto(bits: 2, excluding: Self.isExcluded)
    case .nf4: .normalFloat(excluding: Self.isExcluded)
    case .float8UZ:
      throw Issue(
        ["quantization"], "\(rawValue) is not supported",
        suggestion: "Use \(BaseQuantization.float8.rawValue), which takes the same memory.")
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
