// C latent channels, F H W latent frames, rows, columns, Z audio latent channels, T time steps, S
// text tokens, Wv/Wa widths of the text features.

import Datasets
import Foundation
import LTX
import Media
import Support
import TensorFiles
import Torch

/// The cached latents and text features that `ltx preprocess` or the official trainer's scripts
/// wrote.
///
/// A sample is a name with a file in every folder that the strategy reads, as safetensors or `.pt`.
public struct PrecomputedDataset: Sendable {
  struct Entry: Sendable {
    /// The path relative to the folders, without the extension.
    let name: String
    /// The paths of the files by folder.
    let files: [String: String]
    /// The shapes of the training latents by folder: [C, F, H, W] or [Z, T, 16].
    var shapes: [String: [Int]]
    /// The frame rates of video by folder of latents.
    let fps: [String: Double]
    /// The loudness of the sample's audio; nil without audio, or if its file does not hold it.
    let audioLevel: SampleLevel?
    /// The number of times that the sample appears in an epoch.
    let repeats: Int
  }

  public let root: String
  let strategies: PerModality<ModalityStrategy?>
  let entries: [Entry]
  /// Names that some folders have and others lack, which are skipped, by the first folder that
  /// lacks them.
  public let unmatched: [String: [String]]

  static let textFolder = "conditions"

  /// - Parameters:
  ///   - root: the dataset's folder, or its `.precomputed`.
  ///   - strategies: the strategies, which name the folders to read.
  /// - Throws: `Issue` if there is nothing to train on.
  public init(root: String, strategies: PerModality<ModalityStrategy?>) throws {
    let nested = root + "/.precomputed"
    self.root = FileManager.default.fileExists(atPath: nested) ? nested : root
    self.strategies = strategies
    let folders = Self.folders(strategies)
    var files: [String: [String: String]] = [:]
    for folder in folders { files[folder] = try CacheFolder.files(below: "\(self.root)/\(folder)") }

    let repeats = try SampleRepeats(cache: self.root)
    var entries: [Entry] = []
    var unmatched: [String: [String]] = [:]
    let kinds = Self.latentFolders(strategies)
    for name in (files[folders[0]] ?? [:]).keys.sorted() {
      var own: [String: String] = [:]
      for folder in folders {
        own[folder] =
          files[folder]?[name]
          ?? (folder == Self.textFolder ? files[folder]?[Self.legacyTextName(name)] : nil)
      }
      if let missing = folders.first(where: { own[$0] == nil }) {
        unmatched[missing, default: []].append(name)
        continue
      }
      var shapes: [String: [Int]] = [:]
      var fps: [String: Double] = [:]
      var level: SampleLevel?
      for (folder, kind) in kinds {
        guard let path = own[folder] else { continue }
        let file = try SampleFile(path: path)
        let shape = try Self.latentShape(file, kind)
        guard shape.allSatisfy({ $0 > 0 }) else {
          throw Issue([.file(path)], "holds latents of shape \(shape), which is empty")
        }
        shapes[folder] = shape
        if folder == strategies.audio?.latentsFolder {
          level = SampleLevel(metadata: file.metadata)
        }
        guard kind == .video else { continue }
        let rate = try file.number("fps") ?? 24
        guard rate > 0, rate < 1e6 else {
          throw Issue([.file(path)], "has an invalid fps (got \(rate))")
        }
        fps[folder] = rate
      }
      entries.append(
        Entry(
          name: name, files: own, shapes: shapes, fps: fps, audioLevel: level,
          repeats: repeats.repeats(of: name)))
    }
    guard !entries.isEmpty else {
      let first = folders[0]
      throw Issue(
        [.file(self.root)],
        files[first]?.isEmpty ?? true
          ? "there are no .safetensors or .pt files in \(first)/. Run `ltx preprocess` first"
          : "none of the \(files[first]?.count ?? 0) files in \(first)/ has a file of the same name in "
            + folders.dropFirst().map { $0 + "/" }.joined(separator: ", "))
    }
    self.entries = entries
    self.unmatched = unmatched
  }

  init(_ other: PrecomputedDataset, entries: [Entry]) {
    (root, strategies, unmatched) = (other.root, other.strategies, other.unmatched)
    self.entries = entries
  }

  /// The same dataset with only some of its samples.
  func keeping(_ isKept: (Entry) -> Bool) -> PrecomputedDataset {
    PrecomputedDataset(self, entries: entries.filter(isKept))
  }

  public var count: Int { entries.count }

  /// The number of samples in an epoch, counting repeats.
  var samplesPerEpoch: Int { entries.reduce(0) { $0 + $1.repeats } }

  /// The samples with silent audio if audio is generated in training; otherwise empty.
  var silentAudio: SilentAudio {
    guard strategies.audio?.isGenerated == true else { return SilentAudio([:]) }
    return SilentAudio(
      Dictionary(
        uniqueKeysWithValues: entries.compactMap { entry in
          entry.audioLevel.map { (entry.name, $0) }
        }))
  }

  public var unmatchedCount: Int { unmatched.values.reduce(0) { $0 + $1.count } }

  /// The folders that a strategy reads: latents first, text last.
  static func folders(_ strategies: PerModality<ModalityStrategy?>) -> [String] {
    var folders: [String] = []
    let own = strategies.values().map(\.latentsFolder)
    for folder in own + strategies.conditionFolders + [textFolder] where !folders.contains(folder) {
      folders.append(folder)
    }
    return folders
  }

  static func latentFolders(_ strategies: PerModality<ModalityStrategy?>) -> [(
    folder: String, kind: Modality
  )] {
    strategies.compactMap { modality, strategy in
      ([strategy.latentsFolder] + strategy.conditions.compactMap(\.referenceFolder)).map {
        (folder: $0, kind: modality)
      }
    }.values().flatMap { $0 }
  }

  /// The shape of latents; older caches hold video as tokens, [F * H * W, C].
  private static func latentShape(_ file: SampleFile, _ kind: Modality) throws -> [Int] {
    let shape = try file.tensorShape("latents")
    switch (kind, shape.count) {
    case (.video, 4), (.audio, 3): return shape
    case (.video, 2):
      let size = try ["num_frames", "height", "width"].map {
        Int(exactly: try file.number($0) ?? 0) ?? 0
      }
      // Computed in floating point, which doesn't overflow.
      if size.reduce(1, { $0 * Double($1) }) == Double(shape[0]) { return [shape[1]] + size }
      throw Issue(
        [.file(file.path)], "holds \(shape[0]) latent tokens, but their dimensions are \(size)")
    default:
      throw Issue(
        [.file(file.path)],
        "latents have shape \(shape); expected \(kind == .video ? "[C, F, H, W]" : "[Z, T, 16]")")
    }
  }

  /// Older caches use names such as `latent_7` and `condition_7`.
  private static func legacyTextName(_ name: String) -> String {
    var parts = name.split(separator: "/").map(String.init)
    if let last = parts.last, last.hasPrefix("latent_") {
      parts[parts.count - 1] = "condition_" + last.dropFirst(7)
    }
    return parts.joined(separator: "/")
  }

  /// The key of the video's features; older caches hold one tensor for both modalities.
  static func videoFeatures(_ file: SampleFile) -> String {
    file.has("video_prompt_embeds") ? "video_prompt_embeds" : "prompt_embeds"
  }
}

/// One sample of a preprocessed dataset.
public struct CachedSample: Sendable {
  /// Normalized latents by folder: [C, F, H, W] or [Z, T, 16].
  public let latents: [String: CachedLatents]
  /// Masks by folder: [F, H, W] or [T].
  public let masks: [String: Tensor]
  /// The video's text features before the connectors: [S, Wv].
  public let videoFeatures: Tensor
  /// The audio's text features, [S, Wa]; nil if they equal the video's.
  public let audioFeatures: Tensor?
  /// The mask of the text tokens: [S], int64, 0 for padding.
  public let textMask: Tensor
}

extension PrecomputedDataset {
  /// Loads a sample.
  ///
  /// - Parameter textFile: a file of text features that replaces the sample's own.
  /// - Throws: `Issue` if values are not finite, because they would ruin the run;
  ///   `TensorFileError`.
  public func sample(_ index: Int, textFile: String? = nil) throws -> CachedSample {
    let entry = entries[index]
    func file(_ folder: String) throws -> SampleFile {
      guard let path = entry.files[folder] else {
        throw Issue([.file(root)], "\(entry.name) has no file in \(folder)/")
      }
      return try SampleFile(path: path)
    }
    var latents: [String: CachedLatents] = [:]
    for (folder, shape) in entry.shapes {
      let source = try file(folder)
      var tensor = try source.tensor("latents").to(.float32)
      guard try tensor.isAllFinite() else {
        throw Issue(
          [.file(source.path)],
          "holds latents that are not finite numbers",
          suggestion: "Remove the file and run `ltx preprocess` again."
        )
      }
      if tensor.shape.count == 2 { tensor = try tensor.transpose(0, 1).reshape(shape) }
      if shape.count == 3, shape[1] < tensor.size(1) {
        tensor = try tensor.slice(1, from: 0, to: shape[1])
      }
      latents[folder] = CachedLatents(tensor, fps: entry.fps[folder] ?? 24)
    }
    var masks: [String: Tensor] = [:]
    for folder in strategies.conditionFolders where entry.shapes[folder] == nil {
      masks[folder] = try file(folder).tensor("mask").to(.float32)
    }
    // Audio that is cut to share batches has its mask cut too.
    if let audio = strategies.audio, let shape = entry.shapes[audio.latentsFolder] {
      for folder in audio.conditions.compactMap(\.maskFolder) {
        guard let mask = masks[folder], mask.count > shape[1] else { continue }
        masks[folder] = try mask.flatten(from: 0, through: -1).slice(0, from: 0, to: shape[1])
      }
    }
    let text = try Self.text(
      textFile.map { try SampleFile(path: $0) } ?? file(Self.textFolder))
    return CachedSample(
      latents: latents, masks: masks, videoFeatures: text.video, audioFeatures: text.audio,
      textMask: text.mask)
  }

  /// Loads the text features of a sample: [S, Wv], [S, Wa] or nil if they equal the video's, and the
  /// mask [S].
  static func text(_ file: SampleFile) throws -> (video: Tensor, audio: Tensor?, mask: Tensor) {
    let features = try file.tensor(videoFeatures(file))
    let audioFeatures =
      file.has("audio_prompt_embeds") ? try file.tensor("audio_prompt_embeds") : nil
    guard try features.isAllFinite(), try audioFeatures?.isAllFinite() ?? true else {
      throw Issue(
        [.file(file.path)],
        "holds text features that are not finite numbers",
        suggestion: "Remove the file and run `ltx preprocess` again."
      )
    }
    return (features, audioFeatures, try file.tensor("prompt_attention_mask").to(.int64))
  }

  /// The files of text features that training may read.
  ///
  /// - Parameter emptyPrompt: the file that replaces dropped captions, if there is one.
  func textFiles(emptyPrompt: String?) -> Set<String> {
    Set(entries.compactMap { $0.files[Self.textFolder] } + [emptyPrompt].compactMap(\.self))
  }
}
