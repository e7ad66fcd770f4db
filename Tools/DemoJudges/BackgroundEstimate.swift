/// The background of a clip: a color for each row, because backgrounds are vertical gradients.
///
/// It is the median of the columns at both sides over all frames. No shape covers both sides for
/// half of the time.
struct BackgroundEstimate {
  let rows: [RGB]

  init(_ frames: DecodedFrames) {
    let side = DecodedFrames.side
    let columns = Array(0..<6) + Array(side - 6..<side)
    let indices = frames.spread(13)
    let medians = (0..<side).map { row in
      let channels = (0..<3).map { channel in
        let start = channel * DecodedFrames.area + row * side
        return Self.median(
          indices.flatMap { frame in
            let plane = frames.planes[frame]
            return columns.map { plane[start + $0] }
          })
      }
      return RGB(red: channels[0], green: channels[1], blue: channels[2])
    }
    rows = (0..<side).map { row in
      Self.mean(medians[max(0, row - 4)...min(side - 1, row + 4)])
    }
  }

  /// The mean color of the background.
  var mean: RGB { Self.mean(rows[...]) }

  private static func mean(_ colors: ArraySlice<RGB>) -> RGB {
    var sum = RGB(red: 0, green: 0, blue: 0)
    for color in colors {
      sum.red += color.red
      sum.green += color.green
      sum.blue += color.blue
    }
    let count = Float(max(1, colors.count))
    return RGB(red: sum.red / count, green: sum.green / count, blue: sum.blue / count)
  }

  private static func median(_ values: [Float]) -> Float {
    values.isEmpty ? 0 : values.sorted()[values.count / 2]
  }
}
