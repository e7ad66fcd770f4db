import DemoData

/// The parameters of a clip's frames as classifiers see them.
public struct VideoVerdict: Sendable {
  public let color: DemoScene.Color?
  public let shape: DemoScene.Shape?
  public let size: DemoScene.Size?
  /// Nil if the shape hardly moves.
  public let direction: DemoScene.Direction?
  /// The displacement of the shape from the first to the last frames, in frame sides, y downward.
  public let displacement: (x: Double, y: Double)?
  /// How much the clip looks like a sketch: about 1 for sketches; for plain clips 0 on average, more
  /// with a light background and less with a dark one.
  public let sketch: Double
  /// How much snow falls: about 0 for plain clips, about 1 for snow.
  public let snow: Double

  public init(_ frames: DecodedFrames) {
    let background = BackgroundEstimate(frames)
    guard let color = ColorEstimate(frames, background) else {
      (self.color, shape, size, direction, displacement) = (nil, nil, nil, nil, nil)
      sketch = StyleEstimate.sketch(background, [])
      snow = StyleEstimate.snow(frames, frames.spread(6).map { ($0, nil) })
      return
    }
    self.color = color.nearest(background)
    let indices = frames.spread(11)
    let masks = indices.map { ShapeMask(frames, frame: $0, background, color) }
    let profiles = masks.map { $0.flatMap { RadialProfile($0) } }
    let shapes = zip(masks, profiles).compactMap { mask, profile in
      mask.flatMap { mask in profile.map { (mask: mask, profile: $0) } }
    }
    let complete = shapes.filter { !$0.mask.touchesBorder }
    let judged = complete.count > 2 ? complete : shapes
    shape = RadialProfile.shape(judged.map(\.profile))
    size = Self.size(judged.map(\.profile.meanRadius))
    let centers = zip(masks, profiles).compactMap { mask, profile in
      mask.map { profile?.center ?? $0.center }
    }
    let displacement = Self.displacement(centers)
    self.displacement = displacement
    direction = displacement.flatMap(Self.direction)
    sketch = StyleEstimate.sketch(background, judged)
    snow = StyleEstimate.snow(
      frames,
      stride(from: 0, to: indices.count, by: 2).map { (indices[$0], profiles[$0]) })
  }

  /// The limit lies between the mean radii of the largest small and the smallest large shape.
  private static func size(_ radii: [Float]) -> DemoScene.Size? {
    guard !radii.isEmpty else { return nil }
    return radii.sorted()[radii.count / 2] > 18.2 ? .large : .small
  }

  private static func displacement(
    _ centers: [(x: Float, y: Float)]
  ) -> (x: Double, y: Double)? {
    guard centers.count > 2 else { return nil }
    let count = max(1, min(3, centers.count / 3))
    let scale = Double(count * DecodedFrames.side)
    let mean = { (centers: ArraySlice<(x: Float, y: Float)>) in
      centers.reduce((x: 0.0, y: 0.0)) {
        (
          x: $0.x + Double($1.x) / scale,
          y: $0.y + Double($1.y) / scale
        )
      }
    }
    let (start, end) = (mean(centers.prefix(count)), mean(centers.suffix(count)))
    return (end.x - start.x, end.y - start.y)
  }

  private static func direction(_ displacement: (x: Double, y: Double)) -> DemoScene.Direction? {
    let (x, y) = displacement
    guard max(abs(x), abs(y)) > 0.08 else { return nil }
    return abs(x) > abs(y) ? (x > 0 ? .right : .left) : (y > 0 ? .down : .up)
  }

  /// The value of a style; 0 for `plain`, which has none.
  public func amount(of style: DemoScene.Style) -> Double {
    switch style {
    case .plain: 0
    case .sketch: sketch
    case .snow: snow
    }
  }
}
