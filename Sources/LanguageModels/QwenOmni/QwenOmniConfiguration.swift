import Foundation
import NN
import Support

/// The generation of an omni model.
public enum QwenOmniFamily: String, Sendable, CaseIterable {
  /// Qwen2.5-Omni: a dense language model.
  case qwen25 = "qwen2_5_omni"
  /// Qwen3-Omni: a mixture of experts.
  case qwen3 = "qwen3_omni_moe"
}

/// The ids of the tokens with a meaning of their own.
public struct QwenOmniTokens: Sendable, Equatable {
  /// The placeholders, repeated once for each embedding.
  public let image: Int
  public let video: Int
  public let audio: Int
  public let visionStart: Int
  public let visionEnd: Int
  public let audioStart: Int
  public let audioEnd: Int
  public let pad: Int
  /// The tokens that end an answer.
  public let ends: [Int]
}

/// The configuration of an omni model's thinker, the part that reads media and text and writes
/// text.
///
/// Everything is read from the `config.json` and the `generation_config.json` of the model folder.
public struct QwenOmniConfiguration: Sendable {
  public let family: QwenOmniFamily
  public let text: DecoderConfiguration
  public let vision: VisionConfiguration
  public let audio: AudioConfiguration
  public let tokens: QwenOmniTokens
  /// The number of positions that a second of video takes.
  public let positionsPerSecond: Double
  /// Qwen2.5-Omni: the length of the pieces in which frames and audio are interleaved.
  public let secondsPerChunk: Double

  /// - Parameter folder: A model folder in the layout of `transformers`.
  /// - Throws: `Issue` if a file is missing, describes another model, or has a value that is
  ///   missing, invalid or not supported.
  public init(folder: String) throws {
    guard let config = try Self.file("config.json", in: folder) else {
      throw Issue(
        ["captionerModel", .file(folder)],
        isFolder(folder) ? "has no config.json" : "is not a folder", suggestion: Self.advice)
    }
    let kind = try config.string("model_type", default: "not stated")
    guard let family = QwenOmniFamily(rawValue: kind) else {
      let known = QwenOmniFamily.allCases.map(\.rawValue).joined(separator: " or ")
      throw Issue(
        ["captionerModel", .file("\(folder)/config.json")],
        "has the model_type \"\(kind.displayed(limit: 40))\" (expected \(known))",
        suggestion: Self.advice)
    }
    let thinker = try config.object("thinker_config")
    for c in [config, thinker] { try QuantizationConfiguration.requireSupported(c) }
    self.family = family
    text = try DecoderConfiguration(thinker.object("text_config"), family: family)
    vision = try VisionConfiguration(thinker.object("vision_config"), family: family)
    audio = try AudioConfiguration(thinker.object("audio_config"), family: family)
    positionsPerSecond = try thinker.positiveDouble("position_id_per_seconds")
    secondsPerChunk = try thinker.positiveDouble("seconds_per_chunk", default: 2)
    tokens = try QwenOmniTokens(
      thinker, config, generation: Self.file("generation_config.json", in: folder))
  }

  private static let advice =
    "Give the folder of Qwen2.5-Omni or Qwen3-Omni-30B-A3B with all of its files."

  /// A file of the folder; nil if it doesn't exist.
  private static func file(_ name: String, in folder: String) throws -> Configuration? {
    let path = "\(folder)/\(name)"
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    do {
      return try Configuration(
        json: String(contentsOfFile: path, encoding: .utf8), file: path, path: "config")
    } catch let error as CocoaError {
      throw Issue(["captionerModel", .file(path)], "can't be read (\(reason(of: error)))")
    }
  }
}

extension QwenOmniTokens {
  /// - Parameters:
  ///   - thinker, config: The thinker's part of the configuration, and all of it.
  ///   - generation: The settings of generation, if the folder has them.
  fileprivate init(
    _ thinker: Configuration, _ config: Configuration, generation: Configuration?
  ) throws {
    let ids = 0...Configuration.maxSize
    /// The id under the first of several names that the configuration has.
    func id(_ names: String...) throws -> Int {
      try thinker.int(names.first(where: thinker.has) ?? names[0], in: ids)
    }
    image = try id("image_token_id", "image_token_index")
    video = try id("video_token_id", "video_token_index")
    audio = try id("audio_token_id", "audio_token_index")
    visionStart = try id("vision_start_token_id")
    audioStart = try id("audio_start_token_id")
    // If a file names only the starts, the ends are the tokens after them.
    visionEnd = try thinker.int("vision_end_token_id", default: visionStart + 1, in: ids)
    audioEnd = try thinker.int("audio_end_token_id", default: audioStart + 1, in: ids)
    let sources = [generation, thinker, config].compactMap { $0 }
    let ends = try sources.first { $0.has("eos_token_id") }
      .map { try Self.ends($0, "eos_token_id", in: ids) }
    guard let ends = try ends ?? Self.imEnd(config, in: ids) else {
      throw thinker.error("eos_token_id", "is missing, and generation_config.json has none either")
    }
    self.ends = ends
    pad =
      try sources.first { $0.has("pad_token_id") }.map { try $0.int("pad_token_id", in: ids) }
      ?? ends[0]
  }

  /// One id or a list of ids.
  private static func ends(
    _ c: Configuration, _ key: String, in range: ClosedRange<Int>
  ) throws -> [Int] {
    if case .array = c.value(key) { return try c.ints(key, in: range, count: 1...256) }
    return [try c.int(key, in: range)]
  }

  /// The end of a turn, by which files without a setting end an answer.
  private static func imEnd(_ c: Configuration, in range: ClosedRange<Int>) throws -> [Int]? {
    c.has("im_end_token_id") ? [try c.int("im_end_token_id", in: range)] : nil
  }
}
