import Support
import TensorFiles
import Torch

/// What each file of a cache says about itself. Files are opened one after the other; only these
/// facts stay in memory.
struct CacheReading {
  struct File {
    enum Content {
      case video(LatentSizes, fps: Double?)
      case audio(AudioLatentSizes)
      /// Rows of text features, how many of them stand for tokens, and the features' widths.
      case text(rows: Int, tokens: Int, widths: [Int])
      case mask([Int])
    }

    let path: String
    let metadata: [String: String]
    let content: Content
    /// Of its main tensor.
    let dtype: DType

    var video: LatentSizes? { if case .video(let sizes, _) = content { sizes } else { nil } }
    var fps: Double? { if case .video(_, let fps) = content { fps } else { nil } }
    var audio: AudioLatentSizes? { if case .audio(let sizes) = content { sizes } else { nil } }
  }

  /// Frame rates that are taken for one.
  static let frameRates = 0.01..<10_000

  let cache: DatasetCache
  private(set) var files: [CacheFolder: [String: File]] = [:]
  /// Of single files: those that can't be used are not in `files`.
  private(set) var problems: [DatasetProblem] = []

  /// - Parameters:
  ///   - scansNumbers: whether to look for what is no finite number, which reads all of the files.
  ///   - progress: called with the number of files that have been read, and of all.
  init(_ cache: DatasetCache, scansNumbers: Bool, progress: (Int, Int) -> Void = { _, _ in }) {
    self.cache = cache
    let total = cache.files.values.map(\.count).reduce(0, +)
    var done = 0
    for content in CacheFolder.allCases {
      for (name, path) in (cache.files[content] ?? [:]).sorted(by: { $0.key < $1.key }) {
        read(content, name, path, scansNumbers)
        done += 1
        progress(done, total)
      }
    }
  }

  subscript(content: CacheFolder, name: String) -> File? { files[content]?[name] }

  private mutating func read(_ content: CacheFolder, _ name: String, _ path: String, _ scans: Bool)
  {
    func problem(_ kind: DatasetProblem.Kind, _ text: String) -> DatasetProblem {
      let own = text.hasPrefix(path + ": ") ? String(text.dropFirst(path.count + 2)) : text
      return DatasetProblem(kind, file: cache.relative(path), sample: name, own)
    }
    let stored: SampleFile
    do {
      stored = try SampleFile(path: path)
    } catch {
      problems.append(problem(.unreadable, describe(error)))
      return
    }
    do {
      files[content, default: [:]][name] = try Self.file(stored, content)
    } catch {
      problems.append(problem(.tensors, describe(error)))
    }
    guard scans else { return }
    do {
      for (key, array) in stored.arrays.sorted(by: { $0.key < $1.key }) {
        let scan = try stored.withBytes(of: key) { NumberScan($0, array.dtype) }
        if scan.hasNaN {
          problems.append(problem(.numbers, "\(key) holds NaN; preprocess the sample again"))
        } else if scan.hasInfinity {
          problems.append(
            problem(.numbers, "\(key) holds infinite numbers; preprocess the sample again"))
        } else if scan.isAllZero, array.shape.reduce(1, *) > 1, content.shape != .mask {
          problems.append(problem(.numbers, "\(key) holds nothing but zeros"))
        }
      }
    } catch {
      problems.append(problem(.unreadable, describe(error)))
    }
  }

  private static func file(_ stored: SampleFile, _ content: CacheFolder) throws -> File {
    func fail(_ problem: String) -> DatasetError {
      DatasetError(path: stored.path, problem: problem)
    }
    func make(_ facts: File.Content, _ key: String) throws -> File {
      guard let dtype = stored.arrays[key]?.dtype else { throw fail("\(key) is missing") }
      guard dtype.isFloatingPoint || content.shape == .mask else {
        throw fail("\(key) is \(dtype); expected a floating-point type")
      }
      return File(path: stored.path, metadata: stored.metadata, content: facts, dtype: dtype)
    }
    switch content.shape {
    case .video:
      let fps = try stored.number("fps")
      if let fps, !Self.frameRates.contains(fps) {
        throw fail("fps is \(fps), which is no frame rate")
      }
      return try make(.video(LatentSizes(stored), fps: fps), "latents")
    case .audio: return try make(.audio(AudioLatentSizes(stored)), "latents")
    case .mask:
      guard let shape = stored.arrays["mask"]?.shape else { throw fail("mask is missing") }
      guard shape.count == (content == .videoMasks ? 3 : 1), !shape.contains(0) else {
        throw fail(
          "mask has shape \(shape); expected \(content == .videoMasks ? "[frames, rows, columns]" : "[time steps]")"
        )
      }
      return try make(.mask(shape), "mask")
    case .text:
      let key =
        stored.arrays["video_prompt_embeds"] == nil ? "prompt_embeds" : "video_prompt_embeds"
      guard let shape = stored.arrays[key]?.shape else {
        throw fail("video_prompt_embeds is missing")
      }
      guard shape.count == 2, !shape.contains(0) else {
        throw fail("\(key) has shape \(shape); expected [tokens, width]")
      }
      var widths = [shape[1]]
      if let audio = stored.arrays["audio_prompt_embeds"]?.shape {
        guard audio.count == 2, audio[0] == shape[0] else {
          throw fail("audio_prompt_embeds has shape \(audio), and \(key) \(shape)")
        }
        widths.append(audio[1])
      }
      guard let mask = stored.arrays["prompt_attention_mask"]?.shape else {
        throw fail("prompt_attention_mask is missing")
      }
      guard mask == [shape[0]] else {
        throw fail(
          "prompt_attention_mask has shape \(mask), but there are \(shape[0]) rows of text features"
        )
      }
      let tokens = try stored.count(nonZeroIn: "prompt_attention_mask")
      guard tokens > 0 else { throw fail("prompt_attention_mask is 0 everywhere") }
      return try make(.text(rows: shape[0], tokens: tokens, widths: widths), key)
    }
  }
}
