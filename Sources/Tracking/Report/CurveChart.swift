import Foundation
import Media

/// Curves over one axis of steps, as an SVG.
struct CurveChart {
  struct Line {
    enum Style: String {
      /// Thin and pale, behind the others.
      case raw
      case plain
      /// A line with a dot at each value.
      case dotted
    }

    let name: String
    let curve: Curve
    /// The number of colors of the page, after which they repeat.
    static let colors = 7

    /// An index into the page's list of colors.
    let color: Int
    let style: Style

    init(_ name: String, _ curve: Curve, color: Int, _ style: Style = .plain) {
      self.name = name
      self.curve = curve
      self.color = color % Self.colors
      self.style = style
    }
  }

  let title: String
  let lines: [Line]
  /// The steps that are marked at the bottom.
  var marks: [Int] = []
  /// The unit of the horizontal axis.
  var axis = "step"
  /// Whether the values may have a logarithmic axis. It is used if the largest value is far above
  /// the middle ones.
  var mayBeLogarithmic = false

  /// The max number of points of a line.
  static let pointLimit = 2000
  private static let size = (width: 640.0, height: 262.0)
  private static let frame = (left: 62.0, top: 12.0, right: 628.0, bottom: 222.0)

  /// The chart for a page; empty if there is nothing to draw.
  var svg: String {
    guard let axes else { return "" }
    let size = Self.size
    var svg =
      "<figure class=chart><figcaption>\(TextFormats.html(title))\(axes.isLogarithmic ? " <small>logarithmic</small>" : "")"
    svg += legend(drawn) + "</figcaption>\n"
    svg += "<svg viewBox=\"0 0 \(Int(size.width)) \(Int(size.height))\" role=\"img\""
    svg +=
      " aria-label=\"\(TextFormats.html(title))\" data-x=\"\(axes.steps.lowerBound) \(axes.steps.upperBound)\""
    svg += " data-axis=\"\(axis)\""
    svg +=
      " data-y=\"\(axes.values.lowerBound) \(axes.values.upperBound)\"\(axes.isLogarithmic ? " data-log=\"\"" : "")>\n"
    return svg + drawing(axes) + "</svg></figure>\n"
  }

  /// The chart as a file of its own; empty if there is nothing to draw.
  var image: String {
    guard let axes else { return "" }
    let (size, top) = (Self.size, 26.0)
    var svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 \(-top) \(size.width) \(size.height + top)\">\n"
    svg += "<style>\(Self.imageStyle)</style>\n"
    svg += "<rect y=\"\(-top)\" width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    var x = Self.frame.left
    svg += "<text x=\"\(x)\" y=\"-8\">\(TextFormats.html(title))</text>\n"
    for line in drawn.reversed() {
      x = x == Self.frame.left ? Self.frame.right : x - 90
      svg +=
        "<text class=\"key c\(line.color) \(line.style.rawValue)\" x=\"\(x)\" y=\"-8\">\(TextFormats.html(line.name))</text>\n"
    }
    return svg + drawing(axes) + "</svg>\n"
  }

  private static let imageStyle = """
    text{fill:#6a6a66;font:11px sans-serif}.value,.key{text-anchor:end}.value{dominant-baseline:middle}.step{text-anchor:middle}
    .key{fill:var(--c)}.key.raw{opacity:.5}.grid{stroke:#e2e2de;fill:none}.mark{stroke:#b3261e}
    .line{fill:none;stroke:var(--c);stroke-width:1.6;stroke-linejoin:round}.line.raw{opacity:.35;stroke-width:1}circle{fill:var(--c)}
    .c0{--c:#3b6fb6}.c1{--c:#c8641b}.c2{--c:#2f8a57}
    """

  private var drawn: [Line] { lines.filter { !$0.curve.isEmpty } }

  private var axes: Axes? { Axes(drawn.map(\.curve), mayBeLogarithmic: mayBeLogarithmic) }

  /// The grid, its labels and the lines.
  private func drawing(_ axes: Axes) -> String {
    let frame = Self.frame
    func x(_ step: Double) -> Double { frame.left + (frame.right - frame.left) * axes.across(step) }
    func y(_ value: Double) -> Double { frame.bottom - (frame.bottom - frame.top) * axes.up(value) }
    var svg = ""
    for tick in axes.valueTicks {
      let place = fixed(y(tick), 1)
      svg += "<path class=\"grid\" d=\"M\(frame.left) \(place)H\(frame.right)\"/>"
      svg +=
        "<text class=\"value\" x=\"\(frame.left - 7)\" y=\"\(place)\">\(Axes.label(tick))</text>\n"
    }
    for tick in axes.stepTicks {
      let place = fixed(x(Double(tick)), 1)
      svg += "<path class=\"grid\" d=\"M\(place) \(frame.top)V\(frame.bottom)\"/>"
      svg += "<text class=\"step\" x=\"\(place)\" y=\"\(frame.bottom + 17)\">\(tick)</text>\n"
    }
    svg +=
      "<text class=\"step\" x=\"\((frame.left + frame.right) / 2)\" y=\"\(frame.bottom + 35)\">\(axis)</text>\n"
    var shown: Set<Int> = []
    for mark in marks
    where axes.steps.contains(Double(mark)) && shown.insert(Int(x(Double(mark)))).inserted {
      svg += "<path class=\"mark\" d=\"M\(fixed(x(Double(mark)), 1)) \(frame.bottom)v-9\"/>"
    }
    for line in drawn {
      let thin = line.curve.thinned(to: Self.pointLimit)
      let points = zip(thin.steps, thin.values).map { (x(Double($0)), y($1)) }
      svg +=
        "<path class=\"line c\(line.color) \(line.style.rawValue)\" data-name=\"\(TextFormats.html(line.name))\" d=\"M"
      // The round ends of a path with a single point draw it as a dot.
      svg += points.map { "\(fixed($0, 1)) \(fixed($1, 2))" }.joined(separator: "L")
      svg += (points.count == 1 ? "h0" : "") + "\"/>\n"
      if line.style == .dotted, points.count <= 200 {
        svg += points.map {
          "<circle class=\"c\(line.color)\" cx=\"\(fixed($0, 1))\" cy=\"\(fixed($1, 1))\" r=\"2.5\"/>"
        }
        .joined()
      }
    }
    return svg
  }

  private func legend(_ lines: [Line]) -> String {
    guard lines.count > 1 else { return "" }
    return lines.map {
      "<span class=\"key c\($0.color) \($0.style.rawValue)\">\(TextFormats.html($0.name))</span>"
    }
    .joined()
  }
}

/// The spans of a chart and their ticks.
struct Axes {
  let steps: ClosedRange<Double>
  let values: ClosedRange<Double>
  let isLogarithmic: Bool

  /// Nil if there are no points.
  init?(_ curves: [Curve], mayBeLogarithmic: Bool) {
    let allSteps = curves.flatMap { [$0.steps.first, $0.steps.last].compactMap { $0 } }
    guard let first = allSteps.min(), let last = allSteps.max(),
      let low = curves.compactMap({ $0.values.min() }).min(),
      let high = curves.compactMap({ $0.values.max() }).max()
    else { return nil }
    steps = first < last ? Double(first)...Double(last) : Double(first) - 1...Double(first) + 1
    // On a linear axis, half of the values below a fiftieth of the largest would form a line at the
    // bottom.
    let middle = curves.filter { !$0.isEmpty }.map(Self.middle).min() ?? low
    isLogarithmic = mayBeLogarithmic && low > 0 && high > 50 * middle
    if low == high {
      let room = low == 0 ? 1 : abs(low) / 10
      values = low - room...high + room
    } else if isLogarithmic {
      values = low...high
    } else {
      let room = high / 20 - low / 20
      // If no value is negative and 0 is near, the axis starts at 0.
      values = (low >= 0 && low < high / 3 ? 0 : low - room)...(high + room)
    }
  }

  /// Returns the median of about a thousand evenly spaced values.
  private static func middle(_ curve: Curve) -> Double {
    let some = stride(from: 0, to: curve.values.count, by: curve.values.count / 1000 + 1)
      .map { curve.values[$0] }.sorted()
    return some[some.count / 2]
  }

  /// Returns 0 to 1 from the first step to the last.
  func across(_ step: Double) -> Double {
    (step - steps.lowerBound) / (steps.upperBound - steps.lowerBound)
  }

  /// Returns 0 to 1 from the lowest value to the highest.
  func up(_ value: Double) -> Double {
    isLogarithmic
      ? log(value / values.lowerBound) / log(values.upperBound / values.lowerBound)
      : (value - values.lowerBound) / (values.upperBound - values.lowerBound)
  }

  var stepTicks: [Int] {
    let unit = max(1, Self.unit(steps.upperBound - steps.lowerBound, parts: 7))
    return Self.multiples(of: unit, in: steps).map { Int($0) }
  }

  var valueTicks: [Double] {
    guard isLogarithmic else {
      return Self.multiples(
        of: Self.unit(values.upperBound - values.lowerBound, parts: 6), in: values)
    }
    let powers =
      Int(
        log10(values.lowerBound).rounded(.up))...max(
        Int(log10(values.lowerBound).rounded(.up)), Int(log10(values.upperBound).rounded(.down)))
    let stride = powers.count / 7 + 1
    return powers.filter { $0.isMultiple(of: stride) }.map { pow(10, Double($0)) }.filter(
      values.contains)
  }

  /// Returns 1, 2 or 5 times a power of ten, which divides the length into about the wanted number
  /// of parts.
  static func unit(_ length: Double, parts: Int) -> Double {
    let rough = length / Double(parts)
    let power = pow(10, log10(rough).rounded(.down))
    return ([1, 2, 5].first { $0 * power >= rough } ?? 10) * power
  }

  private static func multiples(of unit: Double, in range: ClosedRange<Double>) -> [Double] {
    let first = (range.lowerBound / unit).rounded(.up)
    let last = (range.upperBound / unit).rounded(.down)
    // The ticks of a span that is tiny relative to its values would all be equal.
    guard first.isFinite, last.isFinite, last >= first, last - first < 100, abs(last) < 1e15 else {
      return []
    }
    return stride(from: first, through: last, by: 1).map { $0 * unit }
  }

  static func label(_ value: Double) -> String { String(format: "%.4g", value) }
}
