import Foundation
import Support

/// The number of times that each sample of a cache appears in an epoch of training: the dataset's
/// column `repeats`, which `ltx preprocess` copies into an index file of the cache.
///
/// The index is a separate file because the cached tensors don't depend on repeats: changing one
/// rewrites the index and encodes nothing.
public struct SampleRepeats: Equatable, Sendable {
  /// The index file in the folder of the cache: a JSON object of counts by the samples' names.
  public static let fileName = "repeats.json"

  /// The counts that the column accepts.
  public static let range = 1...10_000

  /// Counts by the samples' names, without those that are 1.
  private var counts: [String: Int] = [:]

  /// The repeats of a cache without an index: 1 for every sample.
  public init() {}

  /// Reads the index of a cache.
  ///
  /// - Parameter root: The folder of the cache, such as `.precomputed`.
  /// - Throws: `Issue` for a damaged index.
  public init(cache root: String) throws {
    let path = "\(root)/\(Self.fileName)"
    guard FileManager.default.fileExists(atPath: path) else { return }
    do {
      let data = try Data(contentsOf: URL(fileURLWithPath: path))
      counts = try JSON.decode([String: Int].self, from: data)
    } catch {
      throw Issue(
        [.file(path)], "is damaged (\(reason(of: error)))",
        suggestion: "Run `ltx preprocess` again.")
    }
    guard let wrong = counts.first(where: { !Self.range.contains($0.value) }) else { return }
    throw Issue(
      [.file(path), .name(wrong.key)],
      "must be between \(Self.range.lowerBound) and \(Self.range.upperBound) (got \(wrong.value))",
      suggestion: "Run `ltx preprocess` again.")
  }

  /// Returns the number of times that a sample appears in an epoch; 1 for samples that aren't in
  /// the index.
  ///
  /// - Parameter sample: The name of its cached files, such as `scenes/a`.
  public func repeats(of sample: String) -> Int { counts[sample] ?? 1 }

  mutating func set(_ count: Int, for sample: String) {
    counts[sample] = count == 1 ? nil : count
  }

  /// Writes the index, or removes it if every count is 1.
  ///
  /// - Throws: `WritingError`.
  func write(cache root: String) throws {
    let path = "\(root)/\(Self.fileName)"
    guard !counts.isEmpty else {
      if FileManager.default.fileExists(atPath: path) {
        do { try FileManager.default.removeItem(atPath: path) } catch {
          throw WritingError(path: path, error)
        }
      }
      return
    }
    try AtomicFile.write(try JSON(encoding: counts).data(.pretty), to: path)
  }
}
