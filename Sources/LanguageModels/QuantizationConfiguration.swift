import Foundation
import NN
import TensorFiles

/// The quantization described in a text encoder's `config.json`, in the conventions of
/// `transformers`.
///
/// Two methods are supported: compressed-tensors with 8 bits per element and a scale for a matrix or
/// for each of its rows (such files store `weight` and `weight_scale`), and bitsandbytes with 4
/// bits, whose files describe each weight beside it. All others are rejected by name before anything
/// large is read.
enum QuantizationConfiguration {
  private static let key = "quantization_config"

  /// Files next to `config.json` in which libraries describe their own formats.
  static let otherDescriptions = [
    ("quantization_map.json", "optimum-quanto"), ("quanto_qmap.json", "optimum-quanto"),
    ("hf_quant_config.json", "NVIDIA ModelOpt"), ("quantize_config.json", "GPTQ"),
    ("quant_config.json", "AWQ"),
  ]

  private static let advice = "Use the model's bfloat16, scaled fp8 or int8 files."

  /// - Throws: `Issue` for a method or a setting that is not supported.
  static func requireSupported(_ config: Configuration) throws {
    try requireSupportedHere(config)
    if config.has("text_config") { try requireSupportedHere(config.object("text_config")) }
  }

  private static func requireSupportedHere(_ config: Configuration) throws {
    let keys = [key, "compression_config"].filter(config.has)
    for key in keys {
      let c = try config.object(key)
      let method = try c.string("quant_method", default: guess(c))
      if method == "bitsandbytes" {
        try requireFourBits(c)
        continue
      }
      guard method == "compressed-tensors" else {
        throw c.error(
          "quant_method",
          "is \"\(method.displayed(limit: 40))\", which is not supported (\(title(method))). \(advice)"
        )
      }
      try requireSupportedCompression(c)
    }
  }

  /// The other settings of bitsandbytes are repeated in the state of each weight.
  private static func requireFourBits(_ c: Configuration) throws {
    func isSet(_ name: String) throws -> Bool {
      try c.bool(name, default: c.bool("_\(name)", default: false))
    }
    guard try isSet("load_in_4bit"), try !isSet("load_in_8bit") else {
      throw c.error(
        "quant_method",
        "is \"bitsandbytes\" with int8 weights, which is not supported (expected load_in_4bit). "
          + advice)
    }
  }

  /// The method of older files, which don't state it.
  private static func guess(_ c: Configuration) -> String {
    if c.has("load_in_4bit") || c.has("load_in_8bit") || c.has("_load_in_4bit") {
      return "bitsandbytes"
    }
    return c.has("config_groups") ? "compressed-tensors" : "not stated"
  }

  private static func title(_ method: String) -> String {
    switch method {
    case "gptq", "awq", "auto-round", "hqq", "aqlm", "quip", "vptq", "higgs", "spqr":
      "packed weights"
    case "fp8", "fbgemm_fp8", "finegrained_fp8": "fp8 with scales in blocks or of its own layout"
    case "mxfp4", "nvfp4", "modelopt", "modelopt_fp4", "fp_quant": "4-bit floats in blocks"
    case "quanto", "torchao", "eetq", "quark": "a layout of its own"
    default: "unknown method"
    }
  }

  private static func requireSupportedCompression(_ c: Configuration) throws {
    let format = try c.string("format", default: "dense")
    guard ["float-quantized", "int-quantized", "naive-quantized", "dense"].contains(format) else {
      throw c.error(
        "format",
        "is \"\(format.displayed(limit: 40))\", which is not supported (packed weights). \(advice)")
    }
    for key in ["kv_cache_scheme", "transform_config", "sparsity_config"] where c.has(key) {
      // These objects may be present without having any effect.
      let object = try c.object(key)
      let isDense =
        try key == "sparsity_config" && object.string("format", default: "dense") == "dense"
      guard object.keys.isEmpty || isDense else {
        throw c.error(key, "is set, which is not supported. \(advice)")
      }
    }
    let groups = try c.object("config_groups", isOptional: true)
    for name in groups.keys {
      let group = try groups.object(name)
      guard group.has("weights") else { continue }
      let weights = try group.object("weights")
      let bits = try weights.int("num_bits", default: 8, in: 1...64)
      guard bits == 8 else { throw weights.error("num_bits", "must be 8 (got \(bits)). \(advice)") }
      let strategy = try weights.string("strategy", default: "tensor")
      guard ["tensor", "channel"].contains(strategy) else {
        throw weights.error(
          "strategy",
          "is \"\(strategy.displayed(limit: 40))\" (expected tensor or channel). \(advice)")
      }
      guard try weights.bool("symmetric", default: true) else {
        throw weights.error(
          "symmetric", "is false (expected true: there are no zero points). \(advice)")
      }
    }
  }
}
