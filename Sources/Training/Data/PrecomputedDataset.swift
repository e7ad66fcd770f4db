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
  struct Entry: Sendable, Equatable {
    /// The path relative to the folders, without the extension.
    let name: String
    /// The paths of the files by folder.
    var files: [String: String]
    /// The number of times that the sample appears in an epoch.
    var repeats: Int
    /// The shapes of the training latents by folder: [C, F, H, W] or [Z, T, 16].
    var shapes: [String: [Int]] = [:]
    /// The frame rates of video by folder of latents.
    var fps: [String: Double] = [:]
    /// The sizes that the clips of video latents were scaled to, by folder, if they are recorded.
    var buckets: [String: String] = [:]
    /// The shapes of the masks by folder.
    var masks: [String: [Int]] = [:]
    var text: TextShapes?
    /// The loudness of the sample's audio; nil without audio, or if its file does not hold it.
    var audioLevel: SampleLevel?
    /// The models that the files were made with, by their records.
    var models: [String] = []
    /// The text encoder that the text features were made with; nil without a record.
    var textEncoder: String?
  }

  public let root: String
  let strategies: PerModality<ModalityStrategy?>
  let entries: [Entry]
  /// Names that some folders have and others lack, which are skipped, by the first folder that
  /// lacks them.
  public let unmatched: [String: [String]]

  static let textFolder = "conditions"

  /// Text that identifies each sample's files, by name; nil if another rank has read them.
  private let identityTexts: [String: String]?

  /// - Parameters:
  ///   - root: the dataset's folder, or its `.precomputed`.
  ///   - strategies: the strategies, which name the folders to read.
  ///   - group: the ranks that use the dataset. Only the first reads all headers if the others see
  ///     the same folder.
  /// - Throws: `Issue` if there is nothing to train on, `TorchError` of kind `.collective`.
  public init(
    root: String, strategies: PerModality<ModalityStrategy?>, group: ProcessGroup = .single
  ) throws {
    let nested = root + "/.precomputed"
    self.root = FileManager.default.fileExists(atPath: nested) ? nested : root
    self.strategies = strategies
    let index = try SampleIndex.shared(root: self.root, strategies, group: group)
    (entries, unmatched, identityTexts) = (index.entries, index.unmatched, index.identities)
  }

  init(_ other: PrecomputedDataset, entries: [Entry], keepsIdentities: Bool = true) {
    (root, strategies, unmatched) = (other.root, other.strategies, other.unmatched)
    self.entries = entries
    identityTexts = keepsIdentities ? other.identityTexts : nil
  }

  /// The same dataset without the texts of `identityTexts`, which take memory.
  func withoutIdentities() -> PrecomputedDataset {
    PrecomputedDataset(self, entries: entries, keepsIdentities: false)
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

  /// Identifies the dataset by its samples' names, the sizes of their files, and the sources in their
  /// metadata. The official trainer's caches have no metadata, so values that were changed in place
  /// go unnoticed.
  ///
  /// - Parameter emptyPrompt: the file that replaces dropped captions, if there is one.
  /// - Returns: nil if another rank has read the files.
  func identities(emptyPrompt: String? = nil) throws -> [String]? {
    guard let identityTexts else { return nil }
    let empty = try emptyPrompt.map {
      try SampleIndex.identity(EmptyPrompt.name, of: SampleFile(path: $0))
    }
    return entries.compactMap { identityTexts[$0.name] } + [empty].compactMap(\.self)
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
