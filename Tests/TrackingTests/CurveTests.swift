import Foundation
import Testing

@testable import Tracking

@Suite struct CurveTests {
  private func curve(_ count: Int, _ value: (Int) -> Double) -> Curve {
    var curve = Curve()
    for step in 1...count { curve.add(value(step), at: step) }
    return curve
  }

  /// A loss with noise and a few spikes.
  private func noisy(_ count: Int) -> Curve {
    curve(count) { step in
      let noise = Double((step &* 2_654_435_761) % 1000) / 1000
      return step % 9973 == 0 ? 40 : 1 / (1 + Double(step) / 1000) + 0.3 * noise
    }
  }

  @Test func fewPointsStay() {
    let few = noisy(2000)
    #expect(few.thinned(to: 2000) == few)
  }

  @Test(arguments: [2001, 2500, 10_000, 100_000])
  func thinningKeepsEveryExtreme(count: Int) {
    let whole = noisy(count)
    let thin = whole.thinned(to: 2000)
    #expect(thin.steps.count <= 2000 && thin.steps.count > 900)
    #expect(thin.steps == thin.steps.sorted() && Set(thin.steps).count == thin.steps.count)
    #expect(thin.steps.first == 1 && thin.steps.last == count)
    // all points belong to the curve
    #expect(zip(thin.steps, thin.values).allSatisfy { whole.values[$0 - 1] == $1 })
    #expect(thin.values.max() == whole.values.max() && thin.values.min() == whole.values.min())
    // all spikes are included
    let spikes = whole.steps.filter { $0 % 9973 == 0 }
    #expect(Set(spikes).isSubset(of: Set(thin.steps)))
    // and every eighth of the run keeps its own extremes
    for part in 0..<8 {
      let range = part * count / 8 + 1...(part + 1) * count / 8
      let all = zip(whole.steps, whole.values).filter { range.contains($0.0) }.map(\.1)
      let some = zip(thin.steps, thin.values).filter { range.contains($0.0) }.map(\.1)
      // Spans may extend beyond the ends of the parts.
      #expect(abs((all.max() ?? 0) - (some.max() ?? -1)) < 0.05)
      #expect(abs((all.min() ?? 0) - (some.min() ?? -1)) < 0.05)
    }
  }

  @Test func nonFiniteValuesAreNotPlotted() {
    let curve = curve(4) { [.nan, 1, .infinity, 2][$0 - 1] }
    #expect(curve.steps == [2, 4] && curve.values == [1, 2])
  }

  @Test func curvesOfARun() throws {
    var curves = RunCurves()
    for step in 1...3 {
      curves.add(
        StepRecord(
          step: step, loss: Double(step), sigmaLosses: step == 2 ? ["0.00-0.25": 8] : [:],
          videoLoss: 0.5,
          gradientNorm: 2, learningRate: 0.1, learningRates: ["audio": 0.2], seconds: 1,
          dataSeconds: 0.125,
          forwardSeconds: 0.25, backwardSeconds: 0.5, optimizerSeconds: 0.0625, savingSeconds: 0.5,
          tensorBytes: step << 30))
    }
    curves.add(
      StepRecord(
        step: 4, loss: .nan, gradientNorm: .nan, learningRate: 0.1, seconds: 1,
        skipped: "non-finite loss"))
    curves.add(ValidationRecord(step: 4, loss: 0.75, sigmaLosses: ["0.75-1.00": 3], seconds: 5))
    #expect(curves.step == 4 && curves.skippedSteps == [4])
    #expect(curves.loss.values == [1, 2, 3])
    #expect(curves.sigmaLosses.mapValues(\.steps) == ["0.00-0.25": [2]])
    #expect(curves.learningRates["audio"]?.values == [0.2, 0.2, 0.2])
    #expect(curves.memory.values == [1, 2, 3].map { $0 * 0x1p30 })
    #expect(curves.audioLoss.isEmpty && curves.videoLoss.values == [0.5, 0.5, 0.5])
    #expect(
      curves.validationLoss.steps == [4] && curves.validationSigmaLosses["0.75-1.00"]?.values == [3]
    )
    #expect(
      curves.timings.parts.map(\.name) == [
        "data", "forward", "backward", "optimizer", "rest of the steps", "saving", "validation",
      ])
    #expect(curves.timings.parts.map(\.seconds) == [0.375, 0.75, 1.5, 0.1875, 1.1875, 1.5, 5])
  }

  // MARK: Charts

  /// The points of a line as the page's script reads them: from the path, scaled by the ranges of
  /// the axes.
  private func points(_ svg: String) throws -> [[Double]] {
    func numbers(_ name: String) throws -> [Double] {
      let start = try #require(svg.range(of: "\(name)=\"")?.upperBound)
      let text = svg[start...].prefix { $0 != "\"" }
      return text.replacingOccurrences(of: "M", with: "").replacingOccurrences(of: "h0", with: "")
        .split {
          $0 == " " || $0 == "L"
        }.compactMap { Double($0) }
    }
    let (x, y) = (try numbers("data-x"), try numbers("data-y"))
    let line = try #require(svg.range(of: "<path class=\"line")?.lowerBound)
    let path = try #require(svg[line...].range(of: " d=\"")?.upperBound)
    let flat = svg[path...].prefix { $0 != "\"" }.dropFirst().replacingOccurrences(
      of: "h0", with: ""
    )
    .split { $0 == " " || $0 == "L" }.compactMap { Double($0) }
    let isLogarithmic = svg.contains("data-log")
    return stride(from: 0, to: flat.count, by: 2).map { index in
      let up = (222 - flat[index + 1]) / 210
      return [
        x[0] + (flat[index] - 62) / 566 * (x[1] - x[0]),
        isLogarithmic ? y[0] * pow(y[1] / y[0], up) : y[0] + up * (y[1] - y[0]),
      ]
    }
  }

  @Test(
    arguments: [
      [3, 1, 2], [0.5, 0.5, 0.5], [0, 0, 0], [-1, 4, -3], [1e-8, 3e-8, 2e-8], [1e12, -1e12, 0], [7],
      [0.001, 0.0012, 0.001, 0.0015, 0.8],  // logarithmic
    ] as [[Double]])
  func aLineShowsItsValues(values: [Double]) throws {
    let curve = curve(values.count) { values[$0 - 1] }
    let svg = CurveChart(
      title: "Loss", lines: [.init("loss", curve, color: 0)], mayBeLogarithmic: true
    ).svg
    let shown = try points(svg)
    #expect(shown.count == values.count)
    // A hundredth of a pixel out of 210.
    let tolerance = 1e-4 * max((values.max() ?? 0) - (values.min() ?? 0), abs(values[0]) / 5, 1e-12)
    for (index, value) in values.enumerated() {
      #expect(abs(shown[index][0] - Double(index + 1)) < 0.01)
      #expect(abs(shown[index][1] - value) <= tolerance)
    }
    #expect(svg.contains("data-log") == (values.count == 5))
  }

  @Test func withoutPointsThereIsNoChart() {
    #expect(CurveChart(title: "Loss", lines: [.init("loss", Curve(), color: 0)]).svg.isEmpty)
  }

  @Test(
    arguments: [
      (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]), (0, 47, ["0", "10", "20", "30", "40"]),
      (1e-5, 3e-5, ["1e-05", "1.5e-05", "2e-05", "2.5e-05", "3e-05"]),
    ] as [(Double, Double, [String])])
  func ticksAreRoundNumbers(low: Double, high: Double, labels: [String]) throws {
    let axes = try #require(Axes([curve(2) { $0 == 1 ? low : high }], mayBeLogarithmic: false))
    #expect(axes.valueTicks.map(Axes.label) == labels)
  }

  @Test func logarithmicTicksArePowersOfTen() throws {
    let curve = curve(9) { $0 == 9 ? 5000 : 0.02 }
    let axes = try #require(Axes([curve], mayBeLogarithmic: true))
    #expect(axes.valueTicks.map(Axes.label) == ["0.1", "1", "10", "100", "1000"])
  }

  /// Extreme numbers must not stop a run.
  @Test(
    arguments: [
      [-.greatestFiniteMagnitude, .greatestFiniteMagnitude], [0, .leastNonzeroMagnitude],
      [1, 1 + .ulpOfOne],
      [.leastNonzeroMagnitude, .greatestFiniteMagnitude, .leastNonzeroMagnitude],
    ] as [[Double]])
  func extremeNumbersMakeAChart(values: [Double]) {
    let curve = curve(values.count) { values[$0 - 1] }
    let svg = CurveChart(title: "x", lines: [.init("x", curve, color: 0)], mayBeLogarithmic: true)
      .svg
    #expect(svg.hasSuffix("</svg></figure>\n"))
  }
}
