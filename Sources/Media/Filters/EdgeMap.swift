/// The edges that PySceneDetect's statistics compare: Canny's, with limits a third below and above
/// the median, then dilated by a square.
package enum EdgeMap {
  /// - Parameter plane: The brightness, [height, width].
  /// - Returns: 255 at edges, 0 elsewhere; [height, width].
  package static func edges(of plane: [UInt8], width: Int, height: Int) -> [UInt8] {
    guard width > 0, height > 0 else { return [] }
    let median = median(of: plane)
    let third = 1.0 / 3.0
    let low = Int(max(0, (1 - third) * median))
    let high = Int(min(255, (1 + third) * median))
    let thin = CannyEdges(low: low, high: high).mask(of: plane, width: width, height: height)
    let size = 4 + Int((Double(width * height).squareRoot() / 192).rounded(.toNearestOrEven))
    return dilate(thin, width: width, height: height, reach: (size | 1) / 2)
  }

  private static func median(of plane: [UInt8]) -> Double {
    var counts = [Int](repeating: 0, count: 256)
    for value in plane { counts[Int(value)] += 1 }
    func value(at place: Int) -> Double {
      var below = 0
      for (value, count) in counts.enumerated() {
        below += count
        if below > place { return Double(value) }
      }
      return 0
    }
    return (value(at: (plane.count - 1) / 2) + value(at: plane.count / 2)) / 2
  }

  /// Computes the maximum within a square, ignoring pixels outside of the image.
  private static func dilate(_ plane: [UInt8], width: Int, height: Int, reach: Int) -> [UInt8] {
    var wide = plane
    var result = plane
    for y in 0..<height {
      for x in 0..<width where plane[y * width + x] != 0 {
        for column in max(0, x - reach)...min(width - 1, x + reach) {
          wide[y * width + column] = 255
        }
      }
    }
    for y in 0..<height {
      for x in 0..<width where wide[y * width + x] != 0 {
        for row in max(0, y - reach)...min(height - 1, y + reach) { result[row * width + x] = 255 }
      }
    }
    return result
  }
}
