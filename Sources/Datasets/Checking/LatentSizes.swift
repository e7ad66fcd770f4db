import LTX
import TensorFiles

/// What latents stand for: pixels, frames, seconds.
struct LatentSizes: Equatable {
  var channels: Int
  /// Latent frames, rows, columns.
  var frames: Int
  var rows: Int
  var columns: Int

  /// The bucket that the latents were made of.
  func bucket(_ factors: CompressionFactors) -> ResolutionBucket {
    ResolutionBucket(
      width: columns * factors.width, height: rows * factors.height, frames: (frames - 1) * factors.time + 1)
  }

  /// Reads them from a file's tensor `latents`: [C, F, H, W] or, in older caches, [F H W, C] with the numbers beside it.
  ///
  /// - Throws: `DatasetError` where they contradict each other.
  init(_ file: StoredSample) throws {
    func fail(_ problem: String) -> DatasetError { DatasetError(path: file.path, problem: problem) }
    guard let shape = file.arrays["latents"]?.shape else { throw fail("latents is missing") }
    func size(_ key: String) throws -> Int? {
      guard let value = try file.number(key) else { return nil }
      guard let whole = Int(exactly: value), (1...1_000_000).contains(whole) else {
        throw fail("\(key) is \(value)")
      }
      return whole
    }
    let (f, h, w) = (try size("num_frames"), try size("height"), try size("width"))
    switch shape.count {
    case 4:
      (channels, frames, rows, columns) = (shape[0], shape[1], shape[2], shape[3])
      guard shape.allSatisfy({ $0 > 0 }) else { throw fail("latents is empty: \(shape)") }
      for (key, said, found) in [("num_frames", f, frames), ("height", h, rows), ("width", w, columns)] {
        if let said, said != found { throw fail("\(key) is \(said), but latents has shape \(shape)") }
      }
    case 2:
      guard let f, let h, let w else {
        throw fail("latents is a list of tokens, \(shape), and num_frames, height or width is missing")
      }
      guard shape[1] > 0, shape[0] == f * h * w else {
        throw fail("latents has shape \(shape), but num_frames, height and width are \(f), \(h), \(w)")
      }
      (channels, frames, rows, columns) = (shape[1], f, h, w)
    default: throw fail("latents has shape \(shape); expected [channels, frames, rows, columns]")
    }
  }
}

/// What audio latents stand for.
struct SoundSizes: Equatable {
  var channels: Int
  /// Latent frames, frequency bins.
  var steps: Int
  var bins: Int
  /// Seconds of the sound; nil where the file does not say.
  var duration: Double?

  /// Reads them from a file's tensor `latents`: [C, T, N] or, in older caches, [T N, C] with the numbers beside it.
  ///
  /// - Throws: `DatasetError` where they contradict each other.
  init(_ file: StoredSample) throws {
    func fail(_ problem: String) -> DatasetError { DatasetError(path: file.path, problem: problem) }
    guard let shape = file.arrays["latents"]?.shape else { throw fail("latents is missing") }
    func size(_ key: String) throws -> Int? {
      guard let value = try file.number(key) else { return nil }
      guard let whole = Int(exactly: value), (1...1_000_000).contains(whole) else {
        throw fail("\(key) is \(value)")
      }
      return whole
    }
    let (t, n) = (try size("num_time_steps"), try size("frequency_bins"))
    switch shape.count {
    case 3:
      (channels, steps, bins) = (shape[0], shape[1], shape[2])
      guard shape.allSatisfy({ $0 > 0 }) else { throw fail("latents is empty: \(shape)") }
      for (key, said, found) in [("num_time_steps", t, steps), ("frequency_bins", n, bins)] {
        if let said, said != found { throw fail("\(key) is \(said), but latents has shape \(shape)") }
      }
    case 2:
      guard let t, let n else {
        throw fail("latents is a list of tokens, \(shape), and num_time_steps or frequency_bins is missing")
      }
      guard shape[1] > 0, shape[0] == t * n else {
        throw fail("latents has shape \(shape), but num_time_steps and frequency_bins are \(t), \(n)")
      }
      (channels, steps, bins) = (shape[1], t, n)
    default: throw fail("latents has shape \(shape); expected [channels, time steps, frequencies]")
    }
    duration = try file.number("duration")
    if let duration, !(duration > 0 && duration < 1e7) { throw fail("duration is \(duration)") }
  }
}
