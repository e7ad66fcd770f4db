import LTX
import Support
import TensorFiles

/// The sizes of video latents.
struct LatentSizes: Equatable {
  let channels: Int
  /// The number of latent frames; with `rows` and `columns`, the latent size.
  let frames: Int
  let rows: Int
  let columns: Int

  /// Returns the bucket that the latents were made from.
  func bucket(_ factors: CompressionFactors) -> ResolutionBucket {
    ResolutionBucket(
      width: columns * factors.width, height: rows * factors.height,
      frames: (frames - 1) * factors.time + 1)
  }

  /// Reads the sizes from a file's tensor `latents`: [C, F, H, W] or, in older caches, [F H W, C]
  /// with the sizes beside it.
  ///
  /// - Throws: `Issue` for sizes that contradict each other.
  init(_ file: SampleFile) throws {
    let sizes = try file.latentSizes(["num_frames", "height", "width"])
    (channels, frames, rows, columns) = (sizes[0], sizes[1], sizes[2], sizes[3])
  }
}

/// The sizes of audio latents.
struct AudioLatentSizes: Equatable {
  let channels: Int
  /// The number of latent time steps.
  let steps: Int
  let bins: Int
  /// The seconds of the audio; nil if the file does not record them.
  let duration: Double?

  /// Reads the sizes from a file's tensor `latents`: [C, T, N] or, in older caches, [T N, C] with
  /// the sizes beside it.
  ///
  /// - Throws: `Issue` for sizes that contradict each other.
  init(_ file: SampleFile) throws {
    let sizes = try file.latentSizes(["num_time_steps", "frequency_bins"])
    (channels, steps, bins) = (sizes[0], sizes[1], sizes[2])
    duration = try file.number("duration")
    if let duration, !(duration > 0 && duration < 1e7) {
      throw Issue([.file(file.path)], "duration is \(duration)")
    }
  }
}

extension SampleFile {
  /// Returns the shape of the tensor `latents` as [C, ...], also if it is a list of tokens,
  /// [..., C], as in older caches.
  ///
  /// - Parameter keys: the keys of all sizes except the channels. A list of tokens needs them.
  /// - Throws: `Issue` for sizes that contradict the shape.
  fileprivate func latentSizes(_ keys: [String]) throws -> [Int] {
    func fail(_ problem: String) -> Issue { Issue([.file(path)], problem) }
    let shape = try tensorShape("latents")
    guard shape.allSatisfy({ $0 > 0 }) else { throw fail("latents is empty: \(shape)") }
    let said = try keys.map { key -> Int? in
      guard let value = try number(key) else { return nil }
      guard let whole = Int(exactly: value), (1...1_000_000).contains(whole) else {
        throw fail("\(key) is \(value)")
      }
      return whole
    }
    let names = keys.joined(separator: ", ")
    switch shape.count {
    case keys.count + 1:
      for (key, (said, found)) in zip(keys, zip(said, shape.dropFirst())) {
        if let said, said != found {
          throw fail("\(key) is \(said), but latents has shape \(shape)")
        }
      }
      return shape
    case 2:
      let sizes = said.compactMap { $0 }
      guard sizes.count == keys.count else {
        throw fail("latents is a list of tokens, \(shape), but not all of \(names) are recorded")
      }
      guard shape[0] == sizes.reduce(1, *) else {
        throw fail(
          "latents has shape \(shape), but \(names) are \(sizes.map(String.init).joined(separator: ", "))"
        )
      }
      return [shape[1]] + sizes
    default:
      throw fail("latents has shape \(shape); expected [channels, \(keys.joined(separator: ", "))]")
    }
  }
}
