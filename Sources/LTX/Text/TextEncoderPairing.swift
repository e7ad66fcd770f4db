import LanguageModels
import NN
import Support
import TensorFiles

/// The rule that tells whether a text encoder is the one that a checkpoint was trained with, from
/// the metadata of the checkpoint and the configuration of the text encoder (ltx-core,
/// `_check_gemma_version` in `text_encoders/gemma/encoders/encoder_configurator.py`).
///
/// A checkpoint names its text encoder by `gemma_version` in `gemma_source_checkpoint`. Checkpoints
/// before 2.4 don't, because all of them use Gemma 3.
struct TextEncoderPairing {
  /// The text encoder that a checkpoint needs.
  private enum Need {
    /// One with this `gemma_version`; nil: one without any.
    case version(JSON?)
    /// Not stated, though the checkpoint's version requires it.
    case unknown
    case gemma3
  }

  static let key = "gemma_source_checkpoint"

  private let need: Need
  private let file: String
  private let modelVersion: String?

  /// - Parameters:
  ///   - metadata: The metadata of the checkpoint's first file: the unified one, or the
  ///     transformer's.
  ///   - file: That file.
  /// - Throws: `Issue` for damaged metadata.
  init(metadata: [String: String], file: String) throws {
    self.file = file
    modelVersion = metadata["model_version"]
    if let text = metadata[Self.key], text != "null" {
      let source = try Configuration(json: text, file: file, path: "__metadata__.\(Self.key)")
      need = .version(Self.version(of: source))
    } else {
      let parts = modelVersion.map(Self.parts) ?? []
      need = parts.lexicographicallyPrecedes([2, 4, 0]) ? .gemma3 : .unknown
    }
  }

  /// `gemma_version`; nil if it is missing or null.
  private static func version(of config: Configuration) -> JSON? {
    config.has("gemma_version") ? config.value("gemma_version") : nil
  }

  /// The numbers between dots, up to the first part that isn't one. Unlike in `ModelVersion`, a
  /// dash doesn't separate parts: `2.5-rc1` is 2.
  private static func parts(_ version: String) -> [Int] {
    var parts: [Int] = []
    for part in version.split(separator: ".", omittingEmptySubsequences: false) {
      guard !part.isEmpty, part.allSatisfy({ ("0"..."9").contains($0) }), let number = Int(part)
      else { break }
      parts.append(number)
    }
    return parts
  }

  /// Compares with a text encoder.
  ///
  /// - Parameters:
  ///   - config: The complete configuration of the text encoder.
  ///   - path: Its folder or file.
  /// - Returns: A problem, or nil if the text encoder fits or can't be compared.
  func mismatch(_ config: Configuration, path: String) throws -> Issue? {
    let found = Self.version(of: config)
    let type = try config.string("model_type", default: "")
    func issue(_ problem: String, _ suggestion: String) -> Issue {
      Issue(["textEncoder", .file(path)], problem, suggestion: suggestion)
    }
    switch need {
    case .version(let wanted):
      guard wanted != found else { return nil }
      func words(_ version: JSON?) -> String {
        version.map { "gemma_version \(Self.text($0))" } ?? "no gemma_version"
      }
      return issue(
        "is not the text encoder that \(file) was trained with (\(type.displayed(limit: 40)) with "
          + "\(words(found)), expected \(words(wanted)))",
        "Give the text encoder that was published with the checkpoint. A Gemma from elsewhere has "
          + "other weights.")
    case .unknown:
      guard let found else { return nil }
      return Issue(
        [.file(file), .name("__metadata__.\(Self.key)")],
        "is missing, so the text encoder \(path) with gemma_version \(Self.text(found)) can't be "
          + "compared (model_version \(modelVersion?.displayed(limit: 40) ?? "")). "
          + "Use the original file of the checkpoint, whose metadata names its text encoder")
    case .gemma3:
      guard GemmaConfiguration.Family(modelType: type) != .gemma3 else { return nil }
      let version = modelVersion.map { "model_version \($0.displayed(limit: 40))" }
      return issue(
        "is not the text encoder that \(file) was trained with (model_type "
          + "\(type.displayed(limit: 40)), expected gemma3 for \(version ?? "LTX-2"))",
        "Give the folder or the file of Gemma 3 12B.")
    }
  }

  /// A warning if the files don't say whether they belong together.
  func doubt(_ config: Configuration, path: String) -> String? {
    guard case .unknown = need, Self.version(of: config) == nil else { return nil }
    return "\(file) does not name its text encoder, so whether \(path) belongs to it is not known"
  }

  private static func text(_ version: JSON) -> String {
    version.string?.displayed(limit: 60) ?? version.text().displayed(limit: 60)
  }
}

extension Checkpoint {
  /// The rule for this checkpoint's text encoder; nil for files without a transformer. A
  /// transformer beside a unified checkpoint is a fine-tuned one, which has the same text encoder.
  private func textEncoderPairing() throws -> TextEncoderPairing? {
    guard let path = files.unified ?? files[.transformer] else { return nil }
    return try TextEncoderPairing(metadata: openTensors(at: path).metadata, file: path)
  }

  /// Compares a text encoder with the one that this checkpoint was trained with. Reads headers and
  /// configurations only.
  ///
  /// - Returns: The problem of a text encoder that doesn't belong to the checkpoint, else nil.
  /// - Throws: `Issue` or `TensorFileError` for files that can't be read.
  public func textEncoderMismatch(at path: String) throws -> Issue? {
    try textEncoderPairing()?.mismatch(TextEncoderFiles(path: path).config(), path: path)
  }

  /// Checks that a text encoder belongs to this checkpoint and has all of its parts, and that the
  /// projection of its features exists. Reads headers and configurations only.
  ///
  /// - Parameter path: The text encoder's folder or file; nil for that of `files`.
  /// - Returns: A warning if the files don't say whether they belong together.
  /// - Throws: `Issue`, `WeightError` or `TensorFileError`, which name the file that is wrong or
  ///   missing.
  @discardableResult
  public func requireTextEncoder(_ path: String? = nil) throws -> String? {
    let path = try textEncoderPath(path)
    let files = try TextEncoderFiles(path: path)
    let config = try files.config()
    let pairing = try textEncoderPairing()
    if let mismatch = try pairing?.mismatch(config, path: path) { throw mismatch }
    try files.requireAll()
    let configuration = try GemmaConfiguration(config)
    try FeatureExtractor.requireFit(
      textProjectionRoot(textEncoder: path, LoadPolicy(isInspected: true)),
      configuration: TextConfiguration(self.config), width: configuration.width,
      hiddenStateCount: configuration.layers.count + 1)
    return pairing?.doubt(config, path: path)
  }

  /// The path of the text encoder.
  ///
  /// - Throws: `Issue` without a text encoder.
  func textEncoderPath(_ path: String?) throws -> String {
    guard let path = path ?? files.textEncoder else {
      throw Issue(
        ["textEncoder"], "is missing",
        suggestion: "Give the folder or the file of the checkpoint's Gemma.")
    }
    return path
  }

  /// The root of the file that holds the projection of text features: this checkpoint, or else the
  /// text encoder's file.
  ///
  /// - Throws: `WeightError` if neither has it.
  func textProjectionRoot(textEncoder path: String, _ policy: LoadPolicy) throws -> Weights {
    let own = weights(policy)
    if (own / Prefix.textProjection).isPresent { return own }
    let files = try TextEncoderFiles(path: path)
    if files.isPacked {
      let packed = Weights(try files.weights(), policy)
      if (packed / Prefix.textProjection).isPresent { return packed }
    }
    throw WeightError(
      file: self.files.path(of: .transformer) ?? source.name, key: "\(Prefix.textProjection).*",
      problem: "is missing, and \(path) doesn't have it either. The projection of text features is "
        + "in the unified checkpoint or in the text encoder's single file: give one of them")
  }
}
