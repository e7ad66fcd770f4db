import Foundation

/// The boundary of a drawn shape: one closed contour, or two with the area between them.
struct DemoOutline {
  private enum Contour {
    case circle(x: Double, y: Double, radius: Double)
    case polygon([DemoMotion.Point])
  }

  private let contours: [Contour]
  /// The rows that the shape touches.
  let rows: Range<Int>

  /// - Parameters:
  ///   - center: In pixels.
  ///   - radius: The nominal radius in pixels.
  ///   - lineWidth: The width of the line in pixels; nil for a filled shape.
  init(
    _ shape: DemoScene.Shape, center: DemoMotion.Point, radius: Double,
    lineWidth: Double?, height: Int
  ) {
    let corners = Self.corners(of: shape)
    // All edges of a shape have the same distance from its center, so that a scaled copy is an
    // offset one.
    let edge = radius * Self.edgeDistance(of: shape)
    let offset = (lineWidth ?? 0) / 2 / edge
    let scales: [Double] = lineWidth == nil ? [1] : [1 + offset, max(0, 1 - offset)]
    var contours: [Contour] = []
    for scale in scales {
      guard !corners.isEmpty else {
        contours.append(.circle(x: center.x, y: center.y, radius: radius * scale))
        continue
      }
      let placed = corners.map { corner in
        DemoMotion.Point(
          x: center.x + corner.x * radius * scale, y: center.y + corner.y * radius * scale)
      }
      contours.append(.polygon(placed))
    }
    self.contours = contours
    let reach = radius * 1.3 * (1 + offset)
    let first = min(height, max(0, Int((center.y - reach).rounded(.down))))
    rows = first..<max(first, min(height, Int((center.y + reach).rounded(.up))))
  }

  /// The corners of a shape of radius 1, pointing up; empty for a circle.
  private static func corners(of shape: DemoScene.Shape) -> [DemoMotion.Point] {
    switch shape {
    case .circle: []
    case .square: corners(count: 4, radii: [1.24], first: .pi / 4)
    case .triangle: corners(count: 3, radii: [1.25], first: 0)
    case .star: corners(count: 10, radii: [1.25, 0.56], first: 0)
    }
  }

  private static func corners(
    count: Int, radii: [Double], first: Double
  ) -> [DemoMotion.Point] {
    (0..<count).map { index in
      let angle = first + 2 * Double.pi * Double(index) / Double(count)
      let radius = radii[index % radii.count]
      return DemoMotion.Point(x: radius * sin(angle), y: -radius * cos(angle))
    }
  }

  /// The distance from the center to the edges' lines, for a radius of 1.
  private static func edgeDistance(of shape: DemoScene.Shape) -> Double {
    let corners = corners(of: shape)
    guard corners.count > 1 else { return 1 }
    let (a, b) = (corners[0], corners[1])
    return abs(a.x * b.y - a.y * b.x) / hypot(b.x - a.x, b.y - a.y)
  }

  /// The number of lines per row along which coverage is measured, exactly in x.
  private static let linesPerRow = 4

  /// Measures how much of each pixel of a row is covered, from 0 to 1.
  ///
  /// - Parameter coverage: One value per pixel. Values outside the result must be 0.
  /// - Returns: The columns with values above 0.
  func cover(row: Int, _ coverage: inout [Float]) -> Range<Int> {
    var (first, end) = (coverage.count, 0)
    for line in 0..<Self.linesPerRow {
      let y = Double(row) + (Double(line) + 0.5) / Double(Self.linesPerRow)
      let crossings = crossings(at: y)
      for index in stride(from: 0, to: crossings.count - 1, by: 2) {
        let columns = Self.add(crossings[index], crossings[index + 1], to: &coverage)
        guard !columns.isEmpty else { continue }
        (first, end) = (min(first, columns.lowerBound), max(end, columns.upperBound))
      }
    }
    return first..<max(first, end)
  }

  /// The places where a horizontal line enters and leaves the shape, in order.
  private func crossings(at y: Double) -> [Double] {
    var places: [Double] = []
    for contour in contours {
      switch contour {
      case .circle(let x, let centerY, let radius):
        let square = radius * radius - (y - centerY) * (y - centerY)
        if square > 0 {
          places.append(x - square.squareRoot())
          places.append(x + square.squareRoot())
        }
      case .polygon(let corners):
        guard var previous = corners.last else { continue }
        for corner in corners {
          if (previous.y <= y) != (corner.y <= y) {
            let part = (y - previous.y) / (corner.y - previous.y)
            places.append(previous.x + (corner.x - previous.x) * part)
          }
          previous = corner
        }
      }
    }
    return places.sorted()
  }

  /// Adds the part of one line between two places.
  private static func add(
    _ from: Double, _ to: Double, to coverage: inout [Float]
  ) -> Range<Int> {
    let start = max(0, from)
    let end = min(Double(coverage.count), to)
    guard end > start else { return 0..<0 }
    let columns = Int(start)..<Int(end.rounded(.up))
    let weight = 1 / Float(linesPerRow)
    for column in columns { coverage[column] += weight }
    coverage[columns.lowerBound] -= weight * Float(start - Double(columns.lowerBound))
    coverage[columns.upperBound - 1] -= weight * Float(Double(columns.upperBound) - end)
    return columns
  }
}
