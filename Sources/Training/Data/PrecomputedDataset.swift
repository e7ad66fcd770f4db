// C latent channels, F H W latent frames, rows, columns, S text tokens, Wv/Wa widths of the text features.

import Datasets
import Foundation
import LTX
import TensorFiles
import Torch

/// One sample of a preprocessed dataset.
public struct CachedSample: Sendable {
  /// [C, F, H, W], normalised.
  public let latents: Tensor
  public let fps: Double
  /// Before the connectors: [S, Wv].
  public let videoFeatures: Tensor
  /// [S, Wa]; nil where they are the video's.
  public let audioFeatures: Tensor?
  /// [S], int64, 0 on padding.
  public let mask: Tensor
}

/// The cached latents and text features that `ltx preprocess`, or the official trainer's scripts, wrote.
///
/// A sample is a file below `latents/` with one of the same relative name below `conditions/`; safetensors or `.pt`.
public struct PrecomputedDataset: Sendable {
  struct Entry: Sendable {
    /// Relative to the folders, without the extension.
    let name: String
    let latents: String
    let conditions: String
    /// [C, F, H, W]
    let shape: [Int]
  }

  public let root: String
  let entries: [Entry]
  /// Latents without text features, which are left out.
  public let unmatchedCount: Int

  /// - Parameters:
  ///   - root: the dataset's folder, or its `.precomputed`.
  ///   - latentsFolder: below the root.
  /// - Throws: `DatasetError` when there is nothing to train on.
  public init(root: String, latentsFolder: String = "latents") throws {
    let nested = root + "/.precomputed"
    self.root = FileManager.default.fileExists(atPath: nested) ? nested : root
    let latents = try CacheFolder.files(below: "\(self.root)/\(latentsFolder)")
    let conditions = try CacheFolder.files(below: "\(self.root)/conditions")
    var entries: [Entry] = []
    for (name, path) in latents.sorted(by: { $0.key < $1.key }) {
      guard let condition = conditions[name] ?? conditions[Self.legacyConditionName(name)] else { continue }
      let shape = try SampleFile(path: path).tensorShape("latents")
      guard shape.count == 4 else {
        throw DatasetError(path: path, problem: "latents have shape \(shape); expected [C, F, H, W]")
      }
      entries.append(Entry(name: name, latents: path, conditions: condition, shape: shape))
    }
    guard !entries.isEmpty else {
      throw DatasetError(
        path: self.root,
        problem: latents.isEmpty
          ? "there are no .safetensors or .pt files in \(latentsFolder)/; run `ltx preprocess` first"
          : "none of the \(latents.count) files in \(latentsFolder)/ has a file of the same name in conditions/"
      )
    }
    self.entries = entries
    unmatchedCount = latents.count - entries.count
  }

  public var count: Int { entries.count }

  /// Checks, by the headers of the files, that a model can read every sample's text features.
  ///
  /// - Parameters:
  ///   - width: of the features that the model's connector takes.
  ///   - model: for the message.
  /// - Throws: `DatasetError` that names the first file that does not fit.
  func requireTextFeatures(width: Int, model: String) throws {
    var tokens: Int?
    for entry in entries {
      func fail(_ problem: String) -> DatasetError { DatasetError(path: entry.conditions, problem: problem) }
      let file = try SampleFile(path: entry.conditions)
      let features = try file.tensorShape(Self.videoFeatures(file))
      guard features.count == 2, features[1] == width else {
        throw fail(
          "holds text features of shape \(features), but the model \(model) takes a width of \(width); preprocess the "
            + "dataset with this model")
      }
      let mask = try file.tensorShape("prompt_attention_mask")
      guard mask == [features[0]] else {
        throw fail(
          "holds a mask of shape \(mask) for \(features[0]) text tokens; preprocess the sample again")
      }
      guard features[0] == tokens ?? features[0] else {
        throw fail(
          "holds \(features[0]) text tokens, and \(entries[0].conditions) \(tokens ?? 0); preprocess the whole dataset "
            + "with one text encoder")
      }
      tokens = features[0]
    }
  }

  /// Samples that were cached with another model file, as far as their metadata tells; the official trainer's caches
  /// tell nothing.
  ///
  /// - Parameter identity: `FileIdentity` of the model at hand.
  func samplesOfAnotherModel(than identity: String) throws -> Int {
    try entries.filter { entry in
      try [entry.latents, entry.conditions].contains { path in
        let model = try SampleFile(path: path).metadata["model"]
        return model != nil && model != identity
      }
    }.count
  }

  /// What the video stream's features are called; older caches hold one tensor for both streams.
  private static func videoFeatures(_ file: SampleFile) -> String {
    file.has("video_prompt_embeds") ? "video_prompt_embeds" : "prompt_embeds"
  }

  /// Reads a sample into memory.
  public func sample(_ index: Int) throws -> CachedSample {
    let entry = entries[index]
    let latents = try SampleFile(path: entry.latents)
    let conditions = try SampleFile(path: entry.conditions)
    return CachedSample(
      latents: try latents.tensor("latents"),
      fps: try latents.number("fps") ?? 24,
      videoFeatures: try conditions.tensor(Self.videoFeatures(conditions)),
      audioFeatures: conditions.has("audio_prompt_embeds")
        ? try conditions.tensor("audio_prompt_embeds") : nil,
      mask: try conditions.tensor("prompt_attention_mask").to(.int64))
  }

  /// Older caches name `latent_7` and `condition_7`.
  private static func legacyConditionName(_ name: String) -> String {
    var parts = name.split(separator: "/").map(String.init)
    if let last = parts.last, last.hasPrefix("latent_") {
      parts[parts.count - 1] = "condition_" + last.dropFirst(7)
    }
    return parts.joined(separator: "/")
  }
}
