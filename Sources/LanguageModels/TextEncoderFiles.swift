import Foundation
import NN
import Support
import TensorFiles
import Torch

/// The paths of a text encoder's weights, configuration and tokenizer: in a folder in the layout of
/// `transformers`, or in one safetensors file in ComfyUI's layout, with the configuration in the
/// metadata as `gemma_config` and the text of `tokenizer.json` as a tensor of bytes,
/// `tokenizer_json` (ltx-core, `text_encoders/gemma/gemma_assets.py`). The other small files of the
/// folder are tensors `hf_asset__NAME` or metadata there; nothing here needs them.
public struct TextEncoderFiles: Sendable {
  public let path: String
  /// The single file; nil for a folder.
  private let packed: SafetensorsFile?

  static let configurationKey = "gemma_config"
  static let tokenizerKey = "tokenizer_json"
  private static let advice = "Give the folder or the file of the checkpoint's Gemma."

  /// Whether a tensor of a single file is a small file of the folder, and not a weight.
  static func isAsset(_ key: String) -> Bool {
    key == tokenizerKey || key.hasPrefix("hf_asset__")
  }

  /// - Throws: `Issue` if the path doesn't exist, `TensorFileError` for a file that is not
  ///   safetensors.
  public init(path: String) throws {
    guard FileManager.default.fileExists(atPath: path) else {
      throw Issue(
        ["textEncoder", .file(path)], "does not exist", suggestion: Self.advice)
    }
    self.path = path
    packed = isFolder(path) ? nil : try SafetensorsFile(path: path)
  }

  /// Whether the text encoder is a single file.
  public var isPacked: Bool { packed != nil }

  /// Whether the files include a tokenizer, which may still be damaged.
  var hasTokenizer: Bool {
    packed.map { $0.contains(Self.tokenizerKey) }
      ?? FileManager.default.fileExists(atPath: "\(path)/tokenizer.json")
  }

  /// Checks that all parts exist, before anything large is read.
  ///
  /// - Throws: `Issue` that names the missing part.
  public func requireAll() throws {
    if packed == nil {
      for name in ["config.json", "tokenizer.json"] { _ = try file(name) }
    } else {
      _ = try config()
      _ = try packedTokenizer()
    }
  }

  /// A file of the folder.
  private func file(_ name: String) throws -> String {
    let file = "\(path)/\(name)"
    guard FileManager.default.fileExists(atPath: file) else {
      throw Issue(
        ["textEncoder", .file(path)], "has no \(name)",
        suggestion: "Give the folder of the checkpoint's Gemma with all of its files.")
    }
    return file
  }

  /// Reads the configuration in the format of `transformers`.
  ///
  /// - Throws: `Issue` if it is missing or damaged, or describes an unsupported quantization.
  public func config() throws -> Configuration {
    let config = try storedConfig()
    try QuantizationConfiguration.requireSupported(config)
    if packed == nil {
      for (name, library) in QuantizationConfiguration.otherDescriptions
      where FileManager.default.fileExists(atPath: "\(path)/\(name)") {
        throw Issue(
          ["textEncoder", .file("\(path)/\(name)")],
          "describes weights in the format of \(library), which is not supported",
          suggestion: "Use the model's bfloat16, scaled fp8 or int8 files.")
      }
    }
    return config
  }

  private func storedConfig() throws -> Configuration {
    if let packed {
      guard let json = packed.metadata[Self.configurationKey] else {
        throw Issue(
          ["textEncoder", .file(path), "__metadata__", .name(Self.configurationKey)],
          "is missing, but holds the configuration of a text encoder in one file",
          suggestion: Self.advice)
      }
      return try Configuration(json: json, file: path, path: Self.configurationKey)
    }
    let file = try file("config.json")
    do {
      return try Configuration(json: String(contentsOfFile: file, encoding: .utf8), file: file)
    } catch let error as CocoaError {
      throw Issue(["textEncoder", .file(file)], "can't be read (\(reason(of: error)))")
    }
  }

  package func weights() throws -> any TensorSource {
    try DescribedTensors.describing(packed ?? ShardedSafetensors(folder: path))
  }

  /// - Throws: `Issue`, also for a file without a tokenizer.
  public func tokenizer() throws -> Tokenizer {
    guard packed != nil else {
      return try Tokenizer(contentsOf: URL(fileURLWithPath: file("tokenizer.json")))
    }
    // Any integer type may hold the bytes; conversion keeps their lowest eight bits.
    return try Tokenizer(
      json: packedTokenizer().to(.uint8).withUnsafeBytes { Array($0) },
      file: "\(path): \(Self.tokenizerKey)")
  }

  private func packedTokenizer() throws -> Tensor {
    guard let packed, let dtype = packed.entries[Self.tokenizerKey]?.dtype,
      !dtype.isFloatingPoint, dtype != .bool
    else {
      throw Issue(
        ["textEncoder", .file(path)],
        "has no tensor of bytes \(Self.tokenizerKey), the tokenizer of a text encoder in one file",
        suggestion: Self.advice)
    }
    return try packed.tensor(Self.tokenizerKey)
  }
}
