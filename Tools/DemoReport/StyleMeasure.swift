import DemoData
import DemoJudges
import Support

/// How much clips look like sketches and like snow, as classifiers see them: 0 on average for plain
/// clips, about 1 for the style.
public struct StyleMeasure: Sendable, Equatable {
  public var sketch: Double
  public var snow: Double

  init(sketch: Double, snow: Double) { (self.sketch, self.snow) = (sketch, snow) }

  /// The mean of clips.
  init(_ clips: [JudgedClip]) {
    let count = Double(max(1, clips.count))
    sketch = clips.reduce(0) { $0 + $1.video.sketch } / count
    snow = clips.reduce(0) { $0 + $1.video.snow } / count
  }

  /// The share of the way from one measure to another that this one has gone.
  ///
  /// - Returns: Nil if the two hardly differ.
  static func share(of value: Double, from start: Double, to end: Double) -> Double? {
    abs(end - start) > 0.05 ? (value - start) / (end - start) : nil
  }
}

/// The measures of the columns of a report, and those of the drawn clips of each style.
public struct StyleMeasures: Sendable {
  /// The measure of each column.
  public let columns: [(name: String, measure: StyleMeasure)]
  public let sketches: StyleMeasure
  public let snow: StyleMeasure

  /// The share of the way from the model's own style to that of the drawn sketches.
  ///
  /// - Parameter column: The name of a column, such as `strength-1`.
  /// - Returns: Nil for an unknown column, or if the model draws sketches without a LoRA.
  public func share(_ column: String) -> Double? {
    guard let base = measure("strength-0"), let value = measure(column) else { return nil }
    return StyleMeasure.share(of: value.sketch, from: base.sketch, to: sketches.sketch)
  }

  func measure(_ column: String) -> StyleMeasure? {
    columns.first { $0.name == column }?.measure
  }

  var json: JSON {
    func json(_ measure: StyleMeasure) -> JSON {
      ["sketch": JSON(measure.sketch), "snow": JSON(measure.snow)]
    }
    var members: JSONObject = [
      "drawn_sketches": json(sketches), "drawn_snow": json(snow),
    ]
    for column in columns {
      members[column.name] = json(column.measure)
    }
    return .object(members)
  }
}
