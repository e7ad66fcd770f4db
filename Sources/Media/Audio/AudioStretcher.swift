import Foundation

/// Makes a frame of audio a few samples longer or shorter, by interpolation with a windowed sinc.
enum AudioStretcher {
  /// The number of samples on each side that contribute to a new one.
  static let reach = 12

  /// - Parameters:
  ///   - samples: The samples of one channel.
  ///   - change: The number of samples to add, or to remove if negative.
  ///   - before: The preceding samples, in order; fewer than `reach` at the beginning of the audio.
  ///   - after: The following samples.
  static func stretch(
    _ samples: [Float], by change: Int, before: ArraySlice<Float>, after: ArraySlice<Float>
  ) -> [Float] {
    let count = samples.count + change
    guard change != 0, count > 0, let first = samples.first, let last = samples.last else {
      return samples
    }
    let head = before.suffix(reach)
    let tail = after.prefix(reach)
    var source = [Float](repeating: head.first ?? first, count: reach - head.count)
    source += head
    source += samples
    source += tail
    source += [Float](repeating: tail.last ?? last, count: reach - tail.count + 1)
    let step = Double(samples.count) / Double(count)
    var result = [Float](repeating: 0, count: count)
    source.withUnsafeBufferPointer { source in
      for i in result.indices {
        let position = Double(i) * step
        let whole = Int(position)
        let fraction = position - Double(whole)
        if fraction == 0 {
          result[i] = source[whole + reach]
          continue
        }
        let sine = sin(.pi * fraction)
        var (sum, weights) = (0.0, 0.0)
        for tap in (1 - reach)...reach {
          let distance = Double(tap) - fraction
          let window = 0.5 + 0.5 * cos(.pi * distance / Double(reach))
          // sin(pi (tap - fraction)) is sin(pi fraction) with alternating signs; the constant
          // cancels out below.
          let weight = (tap & 1 == 0 ? -sine : sine) / (.pi * distance) * window
          sum += weight * Double(source[whole + reach + tap])
          weights += weight
        }
        result[i] = Float(sum / weights)
      }
    }
    return result
  }
}
