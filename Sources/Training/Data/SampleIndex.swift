import Datasets
import Foundation
import LTX
import Media
import Support

/// The facts about the samples of a cache that training needs before it loads any: names, shapes,
/// frame rates and the records of the files' headers. Each header is read once.
struct SampleIndex: Sendable, Equatable {
  /// In the order of their names.
  var entries: [PrecomputedDataset.Entry] = []
  /// Names that some folders have and others lack, by the first folder that lacks them.
  var unmatched: [String: [String]] = [:]
  /// Text that identifies the files of each sample, by name; nil in an index from another rank.
  var identities: [String: String]?

  /// The number of samples that a thread reads at a time.
  private static let chunk = 64

  /// The number of threads that read headers. File systems over a network answer several requests
  /// at a time.
  private static var threads: Int { min(16, max(4, ProcessInfo.processInfo.activeProcessorCount)) }

  /// Reads the headers of a cache's files.
  ///
  /// - Throws: `Issue` for a cache without samples, `Issue` or `TensorFileError` for the first
  ///   sample with a file that can't be used.
  init(root: String, _ strategies: PerModality<ModalityStrategy?>) throws {
    let folders = PrecomputedDataset.folders(strategies)
    var files: [String: [String: String]] = [:]
    for folder in folders { files[folder] = try CacheFolder.files(below: "\(root)/\(folder)") }
    let repeats = try SampleRepeats(cache: root)
    var samples: [(name: String, files: [String: String])] = []
    for name in (files[folders[0]] ?? [:]).keys.sorted() {
      var own: [String: String] = [:]
      for folder in folders {
        own[folder] =
          files[folder]?[name]
          ?? (folder == PrecomputedDataset.textFolder
            ? files[folder]?[Self.legacyTextName(name)] : nil)
      }
      if let missing = folders.first(where: { own[$0] == nil }) {
        unmatched[missing, default: []].append(name)
      } else {
        samples.append((name, own))
      }
    }
    guard !samples.isEmpty else {
      let first = folders[0]
      throw Issue(
        [.file(root)],
        files[first]?.isEmpty ?? true
          ? "there are no .safetensors or .pt files in \(first)/. Run `ltx preprocess` first"
          : "none of the \(files[first]?.count ?? 0) files in \(first)/ has a file of the same name in "
            + folders.dropFirst().map { $0 + "/" }.joined(separator: ", "))
    }
    let chunks = stride(from: 0, to: samples.count, by: Self.chunk).map {
      samples[$0..<min($0 + Self.chunk, samples.count)]
    }
    let threads = Self.threads
    let reading = ReadAhead(count: chunks.count, capacity: 4 * threads, threads: threads) {
      try chunks[$0].map { sample in
        try Self.read(sample.name, sample.files, strategies, repeats.repeats(of: sample.name))
      }
    }
    var identities: [String: String] = [:]
    while let read = try reading.next() {
      for (entry, identity) in read {
        entries.append(entry)
        identities[entry.name] = identity
      }
    }
    self.identities = identities
  }

  /// Older caches use names such as `latent_7` and `condition_7`.
  private static func legacyTextName(_ name: String) -> String {
    var parts = name.split(separator: "/").map(String.init)
    if let last = parts.last, last.hasPrefix("latent_") {
      parts[parts.count - 1] = "condition_" + last.dropFirst(7)
    }
    return parts.joined(separator: "/")
  }

  /// Reads the headers of a sample's files, given by folder.
  private static func read(
    _ name: String, _ paths: [String: String], _ strategies: PerModality<ModalityStrategy?>,
    _ repeats: Int
  ) throws -> (entry: PrecomputedDataset.Entry, identity: String) {
    let files = try paths.mapValues { try SampleFile(path: $0) }
    var entry = PrecomputedDataset.Entry(name: name, files: paths, repeats: repeats)
    for (folder, kind) in PrecomputedDataset.latentFolders(strategies) {
      guard let file = files[folder] else { continue }
      let shape = try latentShape(file, kind)
      guard shape.allSatisfy({ $0 > 0 }) else {
        throw Issue([.file(file.path)], "holds latents of shape \(shape), which is empty")
      }
      entry.shapes[folder] = shape
      if folder == strategies.audio?.latentsFolder {
        entry.audioLevel = SampleLevel(metadata: file.metadata)
      }
      guard kind == .video else { continue }
      let rate = try file.number("fps") ?? 24
      guard rate > 0, rate < 1e6 else {
        throw Issue([.file(file.path)], "has an invalid fps (got \(rate))")
      }
      entry.fps[folder] = rate
      if folder == strategies.video?.latentsFolder {
        entry.buckets[folder] = file.metadata[Fingerprint.Key.bucket.rawValue]
      }
    }
    for folder in strategies.conditionFolders where entry.shapes[folder] == nil {
      if let file = files[folder] { entry.masks[folder] = try file.tensorShape("mask") }
    }
    if let file = files[PrecomputedDataset.textFolder] {
      entry.text = try TextShapes(file)
      entry.textEncoder = file.metadata[Fingerprint.Key.textEncoder.rawValue]
    }
    let models = files.values.compactMap { $0.metadata[Fingerprint.Key.model.rawValue] }
    entry.models = Set(models).sorted()
    let identities = try files.sorted { $0.key < $1.key }.map { try identity($0, of: $1) }
    let repeated = repeats == 1 ? [] : ["repeats \(repeats)"]
    return (entry, ([name] + identities + repeated).joined(separator: "\n"))
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

  /// Identifies a file by its size and the sources in its metadata.
  ///
  /// - Parameter name: The name under which it counts, such as its folder.
  static func identity(_ name: String, of file: SampleFile) throws -> String {
    var status = stat()
    // The size of a link itself, which runs of earlier versions have recorded.
    guard lstat(file.path, &status) == 0 else {
      throw Issue([.file(file.path)], "can't be read: \(describe(errno: errno))")
    }
    let made = file.metadata.sorted { $0.key < $1.key }
    return
      "\(name) \(status.st_size) \(made.map { "\($0.key)=\($0.value)" }.joined(separator: " "))"
  }
}

/// The shapes of a sample's text features and of their mask.
struct TextShapes: Sendable, Equatable {
  /// [S, Wv]
  var video: [Int]
  /// [S, Wa]; nil if the audio's features equal the video's.
  var audio: [Int]?
  /// [S]
  var mask: [Int]

  /// - Throws: `Issue` for a tensor that is missing.
  init(_ file: SampleFile) throws {
    video = try file.tensorShape(PrecomputedDataset.videoFeatures(file))
    audio = file.has("audio_prompt_embeds") ? try file.tensorShape("audio_prompt_embeds") : nil
    mask = try file.tensorShape("prompt_attention_mask")
  }

  init(video: [Int], audio: [Int]?, mask: [Int]) {
    (self.video, self.audio, self.mask) = (video, audio, mask)
  }
}
