import Media

/// A reference's frames, to be shown beside the result.
struct ShownReference: Sendable {
  /// Frames of one size: the height and width of the result, both divided by the same number.
  let frames: [RGBFrame]
  let temporalScale: Int

  /// Returns the frame that is shown beside one of the result's frames.
  ///
  /// If the reference has fewer frames, frames are repeated. With a temporal scale of n, its first
  /// frame is shown once and the others n times, as its latents are placed in time; otherwise its
  /// frames are spread evenly (ltx-trainer, `validation_runner.py`).
  func frame(beside index: Int, of count: Int) -> RGBFrame {
    let last = frames.count - 1
    guard frames.count < count else { return frames[min(index, last)] }
    if temporalScale > 1 {
      return frames[index == 0 ? 0 : min(1 + (index - 1) / temporalScale, last)]
    }
    let place = count == 1 ? 0 : Float(last) * Float(index) / Float(count - 1)
    return frames[Int(place.rounded(.toNearestOrEven))]
  }
}

/// Puts references to the left of the result's frames, the last one outermost.
struct SideBySide {
  let references: [ShownReference]
  let size: GenerationPlan.OutputSize

  func joined(_ frame: RGBFrame, index: Int) throws -> RGBFrame {
    guard !references.isEmpty else { return frame }
    let parts =
      try references.reversed().map { reference in
        let shown = reference.frame(beside: index, of: size.frames)
        guard (shown.width, shown.height) != (size.width, size.height) else { return shown }
        let pixels = try FrameTensors.stack([FrameTensors.filled(shown, (size.width, size.height))])
        return try FrameTensors.frames(pixels)[0]
      } + [frame]
    var bytes: [UInt8] = []
    bytes.reserveCapacity(parts.reduce(0) { $0 + $1.bytes.count })
    for row in 0..<size.height {
      for part in parts { bytes += part.bytes[3 * part.width * row..<3 * part.width * (row + 1)] }
    }
    return RGBFrame(
      bytes: bytes, width: size.width * parts.count, height: size.height, index: frame.index,
      seconds: frame.seconds)
  }
}
