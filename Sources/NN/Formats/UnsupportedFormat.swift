import Support
import TensorFiles
import Torch

/// Formats of quantized weights that are recognized, so that an error can name them, but not
/// supported: packed 4-bit formats, scales in blocks, other libraries' layouts.
///
/// The tensors beside a weight show the format. Only layers that can't be read are compared, so a
/// model may use one of the names for something else. A format that is in `WeightFormats.all` is
/// never reported.
enum UnsupportedFormat {
  /// The advice for a file in such a format.
  static let advice = "Use the model's bfloat16, scaled fp8 or int8 file."

  /// The formats by names of tensors that only they have, below the path of a layer. The first
  /// match is used.
  private static let signatures = allSignatures.filter {
    !WeightFormats.companions.contains($0.name)
  }

  private static let allSignatures: [(name: String, format: String)] = [
    ("weight_packed", "compressed-tensors' packed 4-bit format"),
    ("weight_global_scale", "NVFP4 as compressed-tensors packs it"),
    ("weight_scale_2", "NVFP4 (4-bit floats with a scale for each 16)"),
    ("weight_s_rel", "asym_w4a8_int8 (4-bit codes with scales in groups)"),
    ("weight_s_channel", "asym_w4a8_int8 (4-bit codes with scales in groups)"),
    ("weight_codebook", "asym_w4a8_int8 (4-bit codes with scales in groups)"),
    ("weight_zeros", "awq_w4a16 (4-bit integers with zero points)"),
    ("weight_zero_point", "an asymmetric integer format with zero points"),
    ("weight_scale_inv", "fp8 with scales in blocks (Hugging Face's FP8)"),
    ("pre_quant_scale", "ModelOpt's AWQ, which scales a layer's inputs"),
    ("weight.absmax", "bitsandbytes' 4-bit format"),
    ("weight.quant_map", "bitsandbytes' 4-bit format"),
    ("weight.nested_absmax", "bitsandbytes' 4-bit format"),
    ("SCB", "bitsandbytes' int8 format"),
    ("weight_format", "bitsandbytes' int8 format"),
    ("wscales", "SVDQuant (nunchaku)"),
    ("wtscale", "SVDQuant (nunchaku)"),
    ("wcscales", "SVDQuant (nunchaku)"),
    ("smooth_factor", "SVDQuant (nunchaku)"),
    ("proj_down", "SVDQuant (nunchaku)"),
    ("g_idx", "GPTQ"),
    ("qzeros", "AWQ or GPTQ"),
    ("wzeros", "AWQ as nunchaku packs it"),
    ("qweight", "AWQ, GPTQ or SVDQuant"),
    ("W_q", "HQQ"),
    ("weight_qdata", "torchao's format"),
    ("weight._weight_qdata", "torchao's format"),
    ("_weight_qdata", "torchao's format"),
    ("weight:_data", "torchao's format"),
    ("weight.qdata", "torchao's format"),
    ("weight_blocks", "MXFP4 (4-bit floats with a scale for each 32)"),
    ("weight_scales", "EETQ's int8 format"),
    ("codebooks", "AQLM"),
  ]

  private static let prefixes = allPrefixes.filter { !WeightFormats.companions.contains($0.name) }

  private static let allPrefixes: [(name: String, format: String)] = [
    ("weight.quant_state.bitsandbytes__nf4", "bitsandbytes' NF4"),
    ("weight.quant_state.bitsandbytes__fp4", "bitsandbytes' FP4"),
    ("weight.quant_state.", "bitsandbytes' 4-bit format"),
  ]

  /// Returns the format of a layer's weight, and the tensor that shows it; nil if none is
  /// recognized.
  ///
  /// - Parameter prefix: The path of the layer with its trailing dot.
  static func recognize(_ prefix: String, in entries: [String: TensorEntry]) -> (
    format: String, key: String
  )? {
    for (name, format) in prefixes {
      let keys = entries.keys.filter {
        $0.hasPrefix(prefix + name) && !WeightFormats.isCompanion($0)
      }
      if let key = keys.min() { return (format, key) }
    }
    for (name, format) in signatures where entries[prefix + name] != nil {
      return (format, prefix + name)
    }
    guard let scale = entries[prefix + "weight_scale"], let weight = entries[prefix + "weight"]
    else {
      return nil
    }
    let key = prefix + "weight_scale"
    switch (weight.dtype, scale.dtype) {
    case (.uint8, .float8E4M3): return ("NVFP4 (4-bit floats with a scale for each 16)", key)
    case (.uint8, .uint8): return ("MXFP4 (4-bit floats with a scale for each 32)", key)
    case (.float8E4M3, .uint8), (.float8E5M2, .uint8):
      return ("MXFP8 (8-bit floats with a scale for each 32)", key)
    default: return nil
    }
  }

  /// Names that layers of other models may have as well.
  private static let unspecific: Set<String> = ["g_idx", "proj_down", "codebooks"]

  /// Recognizes a format by any layer of a part of a model. Other libraries' files may have
  /// different layers, such as one for queries, keys and values together.
  ///
  /// - Parameter scope: The prefix of the keys; empty for all.
  static func recognizeAny(_ scope: String, in entries: [String: TensorEntry]) -> (
    format: String, key: String
  )? {
    let names = signatures.filter { !unspecific.contains($0.name) }.map {
      (".\($0.name)", $0.format)
    }
    for key in entries.keys.sorted() where key.hasPrefix(scope) {
      for (name, format) in prefixes
      where key.contains(".\(name)") && !WeightFormats.isCompanion(key) { return (format, key) }
      for (name, format) in names where key.hasSuffix(name) { return (format, key) }
    }
    return nil
  }

  /// An explanation to follow the name of one of ComfyUI's unsupported formats.
  static func title(ofComfyFormat name: String) -> String {
    switch name {
    case "mxfp8": " (8-bit floats with a scale for each 32)"
    case "convrot_w4a4": " (rotated 4-bit integers)"
    case "asym_w4a8_int8": " (4-bit codes with scales in groups)"
    case "awq_w4a16": " (4-bit integers with zero points)"
    case _ where name.hasSuffix("blockwise"): " (scales in blocks)"
    default: ""
    }
  }
}

extension TensorSource {
  /// The error for a layer that can't be read because its format is unsupported; nil if no format
  /// is recognized.
  ///
  /// - Parameter prefix: The path of the layer with its trailing dot.
  package func unsupportedFormatError(layer prefix: String) -> (any Error)? {
    // The description gives the clearest error.
    do {
      _ = try quantizationDescription(prefix)
    } catch let error where error is WeightError || error is Issue {
      return error
    } catch {
      // A file that can't be read fails again when its tensors are read.
    }
    return UnsupportedFormat.recognize(prefix, in: entries).map(unsupportedFormatError)
  }

  /// The error for a file that lacks a layer of its model because the file is in an unsupported
  /// format; nil if no format is recognized.
  ///
  /// - Parameter scope: The prefix of the keys of a part of the model; empty for the complete file.
  package func unsupportedFormatError(anywhereBelow scope: String) -> WeightError? {
    UnsupportedFormat.recognizeAny(scope, in: entries).map(unsupportedFormatError)
  }

  private func unsupportedFormatError(_ found: (format: String, key: String)) -> WeightError {
    let (format, key) = found
    return WeightError(
      file: file(of: key), key: key,
      problem: "shows that the layer is in \(format), which is not supported. "
        + UnsupportedFormat.advice)
  }
}
