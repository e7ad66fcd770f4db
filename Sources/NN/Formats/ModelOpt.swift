import Foundation
import TensorFiles

/// NVFP4 as NVIDIA ModelOpt writes it, which has the names, dtypes and, unless scales need padding,
/// the shapes of ComfyUI's, but the first of two elements in the lower bits of a byte, and usually
/// the scales row by row.
enum ModelOpt {
  /// The keys of metadata that hold ModelOpt's description of a file.
  private static let metadataKeys = ["quantization_config", "hf_quant_config"]
  /// Tensors beside a weight in ModelOpt's own checkpoints.
  private static let companions = [
    "weight_quantizer._amax", "weight_quantizer._scale", "weight_quantizer._double_scale",
    "input_quantizer._amax", "svdquant_lora_a",
  ]

  /// The tensor, metadata or file that shows that ModelOpt wrote a weight, for messages; nil if
  /// nothing does.
  ///
  /// If the weight has a description of its own, the file that ModelOpt writes beside the weights
  /// is ignored.
  static func evidence(_ header: WeightHeader) -> String? {
    if let key = companions.lazy.compactMap(header.companion).first { return key }
    let metadata = header.source.metadata(of: header.key)
    for key in metadataKeys {
      if let text = metadata[key], isDescription(text) { return "\(key) in the file's metadata" }
    }
    guard header.description == nil else { return nil }
    let folder = URL(fileURLWithPath: header.source.file(of: header.key))
      .deletingLastPathComponent()
    for name in ["hf_quant_config.json", "config.json"] {
      let file = folder.appendingPathComponent(name)
      // A file that is missing or can't be read shows nothing.
      if let text = try? String(contentsOf: file, encoding: .utf8), isDescription(text) {
        return "\(name) beside the file"
      }
    }
    return nil
  }

  /// ModelOpt names itself as the `producer` or the `quant_method`.
  private static func isDescription(_ text: String) -> Bool {
    text.contains("modelopt") && text.contains("quant_algo")
  }
}
