import Foundation
import Media
import Support

/// A run as one HTML page: curves, samples over time, configuration, timings, memory. The page
/// needs no network.
///
/// The value grows with the run and can make the page at any time. A page of 100,000 steps is as
/// large as one of 2,000.
public struct TrainingReport: Sendable {
  public let title: String
  public let totalSteps: Int
  /// The resolved configuration as YAML.
  public let configuration: String
  /// More facts about the run: device, trained parameters, dataset.
  public var facts: [(name: String, value: String)] = []
  /// Warnings, in the order in which the user saw them.
  public var messages: [String] = []
  /// Nil while the run is in progress.
  public var outcome: RunOutcome?
  /// The learning summary at the end of the run.
  public var learning: LearningSummary?
  /// The unit of memory; nil to choose it by the largest amount.
  public var memoryUnit: MemoryUnit?
  public private(set) var curves: RunCurves
  private(set) var samples: [ReportSample] = []

  /// - Parameter metrics: the records of earlier starts, up to the step that the run resumes after.
  public init(
    title: String, totalSteps: Int, configuration: String,
    metrics: RecordedMetrics = RecordedMetrics()
  ) {
    self.title = title
    self.totalSteps = totalSteps
    self.configuration = configuration
    curves = RunCurves(metrics)
  }

  public mutating func add(_ record: StepRecord) { curves.add(record) }
  public mutating func add(_ record: ValidationRecord) { curves.add(record) }

  /// Adds the samples of a validation, and makes small images of them. A sample of the same name
  /// and step is replaced.
  public mutating func add(_ media: [ValidationMedia], step: Int) {
    for item in media {
      samples.removeAll { $0.step == step && $0.media.name == item.name }
      samples.append(ReportSample(item, step: step))
    }
  }

  /// Writes the page atomically.
  ///
  /// - Throws: `WritingError`.
  public func write(to path: String) throws {
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
    try AtomicFile.write(Data(html(in: folder).utf8), to: path, isDurable: false)
  }

  /// - Parameter folder: the folder of the page, which links are relative to.
  public func html(in folder: String) -> String {
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: 'self' file:; media-src data: 'self' file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
    <title>\(TextFormats.html(title))</title>
    <style>\(Self.style)</style>
    </head>
    <body>
    <header><h1>\(TextFormats.html(title))</h1><p>\(TextFormats.html(state))</p></header>
    <main>
    \(summary)\(learned)\(charts)\(ReportSamples(samples: samples, folder: folder).html)\(timings)\(notes)\(details)</main>
    <script>\(Self.script)</script>
    </body>
    </html>

    """
  }

  // MARK: Parts

  private var state: String {
    let steps = "\(curves.step) of \(totalSteps) steps"
    return switch outcome {
    case nil: "running, \(steps)"
    case .success: "finished, \(steps)"
    case .failed: "failed after \(steps)"
    case .interrupted: "interrupted after \(steps)"
    }
  }

  private var summary: String {
    var rows: [(name: String, value: String)] = []
    if let loss = curves.meanLoss.values.last { rows.append(("loss, moving mean", measured(loss))) }
    if let loss = curves.validationLoss.values.last {
      let parts = [("video", curves.validationVideoLoss), ("audio", curves.validationAudioLoss)]
        .compactMap {
          name, curve in curve.values.last.map { "\(name) \(measured($0))" }
        }
      rows.append(
        (
          "validation loss",
          measured(loss) + (parts.count == 2 ? " (\(parts.joined(separator: ", ")))" : "")
        ))
    }
    if let best = zip(curves.validationLoss.values, curves.validationLoss.steps).min(by: {
      $0.0 < $1.0
    }) {
      rows.append(("lowest validation loss", "\(measured(best.0)) at step \(best.1)"))
    }
    let timings = curves.timings
    if let rate = rateText(secondsPerStep: timings.total / Double(max(1, timings.steps))) {
      rows.append(("speed", rate))
    }
    if let peak = curves.memory.values.max(), let last = curves.memory.values.last {
      rows.append(
        ("tensors after a step", "\(unit.text(Int(last))), at most \(unit.text(Int(peak)))"))
    }
    if !curves.skippedSteps.isEmpty {
      rows.append(("skipped steps", "\(curves.skippedSteps.count)"))
    }
    let items = (rows + facts).map {
      "<div><dt>\(TextFormats.html($0.name))</dt><dd>\(TextFormats.html($0.value))</dd></div>"
    }
    return items.isEmpty ? "" : "<dl class=facts>\(items.joined())</dl>\n"
  }

  private var unit: MemoryUnit {
    memoryUnit ?? MemoryUnit(fitting: Int(curves.memory.values.max() ?? 0))
  }

  private var charts: String {
    let c = curves
    let hasBoth = !c.validationVideoLoss.isEmpty && !c.validationAudioLoss.isEmpty
    func perSigma(_ curves: [String: Curve], _ style: CurveChart.Line.Style) -> [CurveChart.Line] {
      curves.sorted { $0.key < $1.key }.enumerated().map {
        CurveChart.Line("sigma \($1.key)", $1.value, color: $0, style)
      }
    }
    let rates =
      [CurveChart.Line("learning rate", c.learningRate, color: 0)]
      + c.learningRates.sorted { $0.key < $1.key }.enumerated().map {
        CurveChart.Line($1.key, $1.value, color: $0 + 1)
      }
    let all = [
      Self.lossChart(c, title: "Loss"),
      CurveChart(
        title: "Loss by noise level, moving means", lines: perSigma(c.sigmaLosses, .plain),
        mayBeLogarithmic: true),
      CurveChart(
        title: "Validation loss by noise level", lines: perSigma(c.validationSigmaLosses, .dotted),
        mayBeLogarithmic: true),
      CurveChart(
        title: "Loss by modality, moving means",
        lines: [.init("video", c.videoLoss, color: 0), .init("audio", c.audioLoss, color: 1)],
        mayBeLogarithmic: true),
      CurveChart(
        title: "Validation loss by modality",
        lines: hasBoth
          ? [
            .init("video", c.validationVideoLoss, color: 0, .dotted),
            .init("audio", c.validationAudioLoss, color: 1, .dotted),
          ] : [],
        mayBeLogarithmic: true),
      CurveChart(
        title: "Gradient norm",
        lines: [
          .init("each step", c.gradientNorm, color: 0, .raw),
          .init("moving mean", c.meanGradientNorm, color: 0),
        ], mayBeLogarithmic: true),
      CurveChart(title: "Learning rate", lines: rates),
      CurveChart(
        title: "Seconds per step",
        lines: [
          .init("each step", c.stepSeconds, color: 0, .raw),
          .init("moving mean", c.meanStepSeconds, color: 0),
        ], mayBeLogarithmic: true),
      CurveChart(
        title: "Memory of tensors after a step, \(unit.rawValue)",
        lines: [.init(unit.rawValue, c.memory.divided(by: unit.bytes), color: 0)]),
    ].map(\.svg).joined()
    return all.isEmpty
      ? "<p class=none>no step is done yet</p>\n" : "<section class=charts>\n\(all)</section>\n"
  }

  private static func lossChart(_ c: RunCurves, title: String) -> CurveChart {
    CurveChart(
      title: title,
      lines: [
        .init("each step", c.loss, color: 0, .raw), .init("moving mean", c.meanLoss, color: 0),
        .init("validation", c.validationLoss, color: 1, .dotted),
      ], marks: c.skippedSteps, mayBeLogarithmic: true)
  }

  /// The chart of a run's loss for other pages, which need `style` and `script`.
  ///
  /// - Returns: HTML.
  package static func lossChart(of curves: RunCurves, title: String) -> String {
    lossChart(curves, title: title).svg
  }

  /// The chart of a run's loss as an SVG file.
  package static func lossImage(of curves: RunCurves, title: String) -> String {
    lossChart(curves, title: title).image
  }

  private var timings: String {
    let parts = curves.timings.parts
    let total = parts.map(\.seconds).reduce(0, +)
    guard total > 0 else { return "" }
    var html = "<section><h2>Time</h2>\n<div class=shares>"
    for (index, part) in parts.enumerated() {
      html += "<i class=c\(index) style=\"width:\(fixed(100 * part.seconds / total, 2))%\"></i>"
    }
    html += "</div>\n<table><tr><th>part<th>time<th>share<th>per step\n"
    for (index, part) in parts.enumerated() {
      html +=
        "<tr><td><span class=\"key c\(index)\">\(part.name)</span><td>\(part.seconds < 10 ? fixed(part.seconds, 2) + " s" : timeText(part.seconds))"
      html += "<td>\(fixed(100 * part.seconds / total, 1))%"
      html += "<td>\(fixed(part.seconds / Double(max(1, curves.timings.steps)), 4)) s\n"
    }
    return html + "</table></section>\n"
  }

  private var learned: String { learning.map { ReportLearning($0).html } ?? "" }

  private var notes: String {
    messages.isEmpty
      ? ""
      : "<section><h2>Messages</h2><ul>\(messages.map { "<li>\(TextFormats.html($0))</li>" }.joined())</ul></section>\n"
  }

  private var details: String {
    configuration.isEmpty
      ? ""
      : "<section><details><summary>Configuration</summary><pre>\(TextFormats.html(configuration))</pre></details></section>\n"
  }
}
