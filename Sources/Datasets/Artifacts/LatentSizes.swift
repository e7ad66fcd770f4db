import LTX
import TensorFiles

/// What latents stand for: pixels, frames, seconds.
struct LatentSizes: Equatable {
  let channels: Int
  /// Latent frames, rows, columns.
  let frames: Int
  let rows: Int
  let columns: Int

  /// The bucket that the latents were made of.
  func bucket(_ factors: CompressionFactors) -> ResolutionBucket {
    ResolutionBucket(
      width: columns * factors.width, height: rows * factors.height,
      frames: (frames - 1) * factors.time + 1)
  }

  /// Reads them from a file's tensor `latents`: [C, F, H, W] or, in older caches, [F H W, C] with
  /// the numbers beside it.
  ///
  /// - Throws: `DatasetError` where they contradict each other.
  init(_ file: SampleFile) throws {
    let sizes = try file.latentSizes(["num_frames", "height", "width"])
    (channels, frames, rows, columns) = (sizes[0], sizes[1], sizes[2], sizes[3])
  }
}

/// What audio latents stand for.
struct AudioLatentSizes: Equatable {
  let channels: Int
  /// Latent frames, frequency bins.
  let steps: Int
  let bins: Int
  /// Seconds of the sound; nil where the file does not say.
  let duration: Double?

  /// Reads them from a file's tensor `latents`: [C, T, N] or, in older caches, [T N, C] with the
  /// numbers beside it.
  ///
  /// - Throws: `DatasetError` where they contradict each other.
  init(_ file: SampleFile) throws {
    let sizes = try file.latentSizes(["num_time_steps", "frequency_bins"])
    (channels, steps, bins) = (sizes[0], sizes[1], sizes[2])
    duration = try file.number("duration")
    if let duration, !(duration > 0 && duration < 1e7) {
      throw DatasetError(path: file.path, problem: "duration is \(duration)")
    }
  }
}

extension SampleFile {
  /// The shape of the tensor `latents` as if it were [C, ...]: in older caches it is a list of
  /// tokens, [..., C].
  ///
  /// - Parameter keys: of the numbers that say each size but the channels'; a list of tokens needs
  ///   them.
  /// - Throws: `DatasetError` where they contradict the shape.
  fileprivate func latentSizes(_ keys: [String]) throws -> [Int] {
    func fail(_ problem: String) -> DatasetError { DatasetError(path: path, problem: problem) }
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
        throw fail("latents is a list of tokens, \(shape), and not all of \(names) are there")
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
