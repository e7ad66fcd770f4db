import Foundation
import NN
import Support
import TensorFiles
import Torch

@testable import LanguageModels

/// A Gemma 3 with random weights in a temporary folder, in the format of `transformers`; removed
/// with the value.
final class TinyGemma3 {
  let folder: String

  static let width = 12
  static let vocabulary = 40

  /// Three layers, the last one global.
  static var sizes: [String: Any] {
    [
      "model_type": "gemma3_text", "vocab_size": vocabulary, "hidden_size": width,
      "intermediate_size": 20,
      "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
      "query_pre_attn_scalar": 9, "sliding_window": 4, "sliding_window_pattern": 3,
    ]
  }

  /// - Parameters:
  ///   - changes: Changes of the text configuration; NSNull removes a key.
  ///   - prefix: The prefix of the keys.
  ///   - replacing: Tensors by their key after the prefix; nil omits one.
  init(
    _ changes: [String: Any] = [:], prefix: String = "language_model.model",
    replacing: [String: Tensor?] = [:], dtype: DType = .float32
  ) throws {
    folder = FileManager.default.temporaryDirectory.path + "/tiny-gemma3-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    var text = Self.sizes.merging(changes) { $1 }
    text = text.filter { !($0.value is NSNull) }
    let json = try JSONSerialization.data(withJSONObject: [
      "model_type": "gemma3", "text_config": text,
    ])
    try json.write(to: URL(filePath: folder + "/config.json"))
    let all = try Self.tensors().merging(replacing) { $1 }
    try writeSafetensors(
      all.compactMap { key, tensor in try tensor.map { ("\(prefix).\(key)", try $0.to(dtype)) } },
      to: folder + "/model.safetensors")
  }

  deinit {
    do {
      try FileManager.default.removeItem(atPath: folder)
    } catch {
      print("a test's folder remains: \(error)")
    }
  }

  private static func tensors() throws -> [String: Tensor?] {
    let random = try Generator(seed: 7)
    var all: [String: Tensor?] = [:]
    func add(_ key: String, _ shape: [Int]) throws {
      all[key + ".weight"] = try random.normal(shape) * 0.3
    }
    try add("embed_tokens", [vocabulary, width])
    for layer in 0..<3 {
      let path = "layers.\(layer)"
      try add("\(path).self_attn.q_proj", [24, width])
      try add("\(path).self_attn.k_proj", [12, width])
      try add("\(path).self_attn.v_proj", [12, width])
      try add("\(path).self_attn.o_proj", [width, 24])
      try add("\(path).self_attn.q_norm", [6])
      try add("\(path).self_attn.k_norm", [6])
      try add("\(path).mlp.gate_proj", [20, width])
      try add("\(path).mlp.up_proj", [20, width])
      try add("\(path).mlp.down_proj", [width, 20])
      for norm in [
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
      ] { try add("\(path).\(norm)", [width]) }
    }
    try add("norm", [width])
    return all
  }

  /// The hidden states for ids, [states, N, S, D] in float32; without a mask there is no padding.
  func states(_ ids: [[Int]], mask: [[Int]]? = nil, dtype: DType? = nil) throws -> Tensor {
    let mask = mask ?? ids.map { $0.map { _ in 1 } }
    let shape = [ids.count, ids[0].count]
    var states: [Tensor] = []
    try openTextEncoder(at: folder, dtype: dtype).forEachHiddenState(
      ids: Tensor(ids.flatMap { $0 }, shape: shape), mask: Tensor(mask.flatMap { $0 }, shape: shape)
    ) { index, state in
      guard index == states.count else {
        throw Support.Issue("state \(index) came out of order")
      }
      states.append(state)
    }
    return try Tensor.stack(states).to(.float32)
  }
}

/// The largest difference of two tensors.
func difference(_ a: Tensor, _ b: Tensor) throws -> Double { try (a - b).abs().max().item() }

/// The text of the error that `body` throws.
func message(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "nothing was thrown"
  } catch {
    return "\(error)"
  }
}
