import LTX
import Support
import Torch

/// Frames that the model generates on their own in addition to the video, which shares a latent
/// frame among several. They give the video around them more detail in time.
public enum GeneratedKeyframes: Sendable, Equatable {
  /// A number of evenly spaced frames, without the first and the last one.
  case count(Int)
  /// Pixel frames in increasing order.
  case frames([Int])

  /// The max number of keyframes: each costs as much as a latent frame.
  private static let limit = 1024

  /// The pixel frames in a video (ltx-pipelines, `utils/helpers.py`).
  ///
  /// - Parameter total: The number of the video's pixel frames.
  /// - Throws: `Issue` with the subject `generatedKeyframes` if they don't fit.
  func indices(of total: Int) throws -> [Int] {
    func fail(_ problem: String) -> Issue { Issue(["generatedKeyframes"], problem) }
    switch self {
    case .count(let count):
      guard (0...Self.limit).contains(count) else {
        throw fail("must be between 0 and \(Self.limit) (got \(count))")
      }
      guard count > 0 else { return [] }
      guard count + 2 <= total else {
        throw fail("must leave out the first and the last of \(total) frames (got \(count))")
      }
      let places: [Float] = try Tensor.linspace(from: 0, to: Double(total - 1), steps: count + 2)
        .array()
      return places.dropFirst().dropLast().map { Int($0.rounded(.toNearestOrEven)) }
    case .frames(let frames):
      guard frames.count <= Self.limit, frames.allSatisfy((0..<total).contains),
        zip(frames, frames.dropFirst()).allSatisfy({ $0 < $1 })
      else {
        throw fail(
          "must be at most \(Self.limit) increasing frames from 0 to \(total - 1) (got "
            + "\(frames.prefix(8).map(String.init).joined(separator: ", ")))")
      }
      return frames
    }
  }
}
