// S text tokens.

import Foundation
import LTX
import Support
import TensorFiles
import Torch

extension CacheFolder {
  /// Text features of the caption, before the connectors.
  public static let conditions = CacheFolder(rawValue: "conditions")
}

/// The features that the text encoder computes from a caption. Captions are encoded before the
/// media, so that the text encoder can be freed first.
struct TextFeaturesArtifact: Artifact {
  let folder = CacheFolder.conditions
  let noun = "text features"
  let contents = "text features"
  let base: CacheFolder? = .latents
  /// The projection of the features; the text encoder has its own key in the fingerprint.
  let component: ModelFiles.Component? = .transformer
  let decoding: CacheDecoding? = nil

  func isWanted(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool { true }

  func expectation(_ inputs: ArtifactInputs) -> Expectation {
    .made(fingerprint(inputs.prompt, inputs.rules))
  }

  func fingerprint(_ prompt: String, _ rules: CacheRules) -> Fingerprint {
    Fingerprint(
      folder,
      [
        .prompt: prompt, .model: rules.identity(of: .transformer),
        .textEncoder: rules.textEncoder, .dtype: rules.options.dtype.rawValue,
      ])
  }

  /// The fingerprint with the settings that turned the caption into the prompt, which checks
  /// compare.
  func storedFingerprint(_ prompt: String, _ rules: CacheRules) -> Fingerprint {
    var fingerprint = fingerprint(prompt, rules)
    if let trigger = rules.options.captions.trigger {
      fingerprint = fingerprint.adding([.trigger: trigger])
    }
    return rules.options.removesLLMPrefixes
      ? fingerprint.adding([.options: "remove-llm-prefixes"]) : fingerprint
  }

  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample
  ) {}

  /// The tensors of one prompt.
  ///
  /// - Parameter features: video and audio features [1, S, width], mask [1, S].
  func values(_ features: TextFeatures) throws -> CachedValues {
    [
      "video_prompt_embeds": .tensor(try features.byModality.video.squeeze(0)),
      "audio_prompt_embeds": .tensor(try features.byModality.audio.squeeze(0)),
      "prompt_attention_mask": .tensor(try features.mask.squeeze(0)),
    ]
  }

  func inspect(_ file: SampleFile) throws -> CachedFacts {
    func fail(_ problem: String) -> Issue { Issue([.file(file.path)], problem) }
    let key = file.arrays["video_prompt_embeds"] == nil ? "prompt_embeds" : "video_prompt_embeds"
    guard let shape = file.arrays[key]?.shape else { throw fail("video_prompt_embeds is missing") }
    guard shape.count == 2, !shape.contains(0) else {
      throw fail("\(key) has shape \(shape); expected [tokens, width]")
    }
    var widths = [shape[1]]
    if let audio = file.arrays["audio_prompt_embeds"]?.shape {
      guard audio.count == 2, audio[0] == shape[0] else {
        throw fail("audio_prompt_embeds has shape \(audio), and \(key) \(shape)")
      }
      widths.append(audio[1])
    }
    guard let mask = file.arrays["prompt_attention_mask"]?.shape else {
      throw fail("prompt_attention_mask is missing")
    }
    guard mask == [shape[0]] else {
      throw fail(
        "prompt_attention_mask has shape \(mask), but there are \(shape[0]) rows of text features")
    }
    let tokens = try file.count(nonZeroIn: "prompt_attention_mask")
    guard tokens > 0 else { throw fail("prompt_attention_mask is 0 everywhere") }
    return CachedFacts(
      tensor: key,
      signature: "\(shape[0]) rows of text features of width "
        + widths.map(String.init).joined(separator: " and "),
      text: CachedFacts.Text(rows: shape[0], tokens: tokens))
  }
}

/// The text features of the empty prompt, for training with caption dropout: one file for the whole
/// cache, beside those of the captions.
public enum EmptyPrompt {
  /// The file's name in `conditions/`, without its extension. It belongs to no sample.
  public static let name = ".empty"

  /// Returns the path of the file in a cache; nil if the cache has none.
  public static func path(in cache: String) -> String? {
    CacheFormat.allCases.map {
      "\(cache)/\(CacheFolder.conditions.rawValue)/\(name).\($0.rawValue)"
    }
    .first { FileManager.default.fileExists(atPath: $0) }
  }

  /// Returns whether a file below `conditions/` is that of the empty prompt.
  ///
  /// - Parameter file: the path relative to the folder.
  static func isFile(_ file: String) -> Bool {
    CacheFormat.allCases.contains { file == "\(name).\($0.rawValue)" }
  }
}

extension PreprocessingPlan {
  /// The file of the empty prompt if it has to be written. The first process writes it for all. In
  /// upstream mode the cache contains only upstream's files.
  var pendingEmptyPrompt: CachedFile? {
    guard !work.isEmpty, options.share.index == 0, !options.isCompatible else { return nil }
    let artifact = TextFeaturesArtifact()
    let file = CachedFile(
      artifact.folder, EmptyPrompt.name, in: outputFolder, format: options.format)
    let isUpToDate =
      !options.overwrite
      && file.fingerprint.map(artifact.fingerprint("", check.rules).fits) ?? false
    return isUpToDate ? nil : file
  }
}
