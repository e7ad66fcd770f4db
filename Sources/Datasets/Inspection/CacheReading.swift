import Media
import Support
import TensorFiles
import Torch

/// The sizes that a cached file records, read by its artifact.
struct CachedFacts {
  struct Text {
    let rows: Int
    /// The rows that stand for tokens; the others are padding.
    let tokens: Int
  }

  /// The range of plausible frame rates.
  static let frameRates = 0.01..<10_000

  /// The name of the main tensor, which determines the dtype.
  let tensor: String
  /// A description of the layout that all files of a family should share; nil if layouts may
  /// differ.
  var signature: String?
  var video: LatentSizes?
  var fps: Double?
  var audio: AudioLatentSizes?
  var text: Text?
  /// The shape of a mask.
  var mask: [Int]?
}

/// The facts of all files of a cache. Files are opened one by one, and only the facts stay in
/// memory.
struct CacheReading {
  struct File {
    let path: String
    let metadata: [String: String]
    let facts: CachedFacts
    /// The dtype of the main tensor.
    let dtype: DType

    /// The layout in words, for comparisons within the family.
    var signature: String? { facts.signature.map { "\($0) in \(dtype)" } }
  }

  let cache: DatasetCache
  /// The files that can be used.
  private(set) var files: [CacheFolder: [String: File]] = [:]
  /// The problems of single files.
  private(set) var problems: [DatasetProblem] = []

  /// - Parameters:
  ///   - scansNumbers: Whether to look for values that aren't finite, which reads all bytes.
  ///   - progress: Called with the number of files read, and of all.
  init(_ cache: DatasetCache, scansNumbers: Bool, progress: (Int, Int) -> Void = { _, _ in }) {
    self.cache = cache
    let total = cache.files.values.map(\.count).reduce(0, +)
    var done = 0
    for artifact in Artifacts.all {
      let paths = (cache.files[artifact.folder] ?? [:]).sorted { $0.key < $1.key }
      for (name, path) in paths {
        read(artifact, name, path, scansNumbers)
        done += 1
        progress(done, total)
      }
    }
  }

  subscript(folder: CacheFolder, name: String) -> File? { files[folder]?[name] }

  private mutating func read(
    _ artifact: any Artifact, _ name: String, _ path: String, _ scans: Bool
  ) {
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
      files[artifact.folder, default: [:]][name] = try Self.file(stored, artifact)
    } catch {
      problems.append(problem(.tensors, describe(error)))
    }
    guard scans else { return }
    do {
      for (key, array) in stored.arrays.sorted(by: { $0.key < $1.key }) {
        let scan = try stored.withBytes(of: key) { NumberScan($0, array.dtype) }
        if scan.hasNaN {
          problems.append(problem(.numbers, "\(key) holds NaN. Preprocess the sample again"))
        } else if scan.hasInfinity {
          problems.append(
            problem(.numbers, "\(key) holds infinite values. Preprocess the sample again"))
        } else if scan.isAllZero, array.shape.reduce(1, *) > 1, !artifact.mayBeZero {
          problems.append(problem(.numbers, "\(key) holds only zeros"))
        }
      }
    } catch {
      problems.append(problem(.unreadable, describe(error)))
    }
  }

  private static func file(_ stored: SampleFile, _ artifact: any Artifact) throws -> File {
    func fail(_ problem: String) -> Issue {
      Issue([.file(stored.path)], problem)
    }
    let facts = try artifact.inspect(stored)
    guard let dtype = stored.arrays[facts.tensor]?.dtype else {
      throw fail("\(facts.tensor) is missing")
    }
    guard dtype.isFloatingPoint || facts.mask != nil else {
      throw fail("\(facts.tensor) is \(dtype); expected a floating-point dtype")
    }
    return File(path: stored.path, metadata: stored.metadata, facts: facts, dtype: dtype)
  }

  // MARK: Audio

  /// The loudness of the samples' audio, as far as their latents record it.
  var silentAudio: SilentAudio { SilentAudio(audioLevels(.audioLatents)) }

  func audioLevels(_ folder: CacheFolder) -> [String: SampleLevel] {
    (files[folder] ?? [:]).compactMapValues { SampleLevel(metadata: $0.metadata) }
  }
}
