import Media

/// The part of a page that answers whether the run has learned anything.
struct ReportLearning {
  let summary: LearningSummary
  /// The max number of names that are listed of each kind.
  private static let nameLimit = 50

  init(_ summary: LearningSummary) { self.summary = summary }

  var html: String {
    let sentence = summary.sentence.prefix(1).uppercased() + summary.sentence.dropFirst()
    var html =
      "<section class=\"learned\(summary.isSuspicious ? " bad" : "")\"><h2>Did it learn?</h2>\n"
      + "<p>\(TextFormats.html(sentence)).</p>\n"
    html +=
      "<table><tr><th>\(summary.subject.rawValue)<th>modules<th>unmoved<th>not finite<th>share of the base weights"
      + "\(summary.continues ? ", since the start" : "")\n"
    for group in summary.groups + (summary.groups.count > 1 ? [summary.total] : []) {
      html +=
        "<tr><td>\(TextFormats.html(group.name))<td>\(group.modules)<td>\(group.unmoved)<td>\(group.nonFinite)"
      html += "<td>\(group.change.map(percentText) ?? "unknown")\n"
    }
    html += "</table>\n" + losses
    for (title, names) in [
      ("Modules that did not move", summary.unmovedModules),
      ("Modules that are not finite", summary.nonFiniteModules),
    ] where !names.isEmpty {
      let more = names.count > Self.nameLimit ? "<li>and \(names.count - Self.nameLimit) more" : ""
      html += "<details><summary>\(title) (\(names.count))</summary><ul>"
      html += names.prefix(Self.nameLimit).map { "<li>\(TextFormats.html($0))" }.joined() + more
      html += "</ul></details>\n"
    }
    return html + charts + "</section>\n"
  }

  private var losses: String {
    guard let before = summary.before, let after = summary.after else { return "" }
    var html =
      "<table><tr><th>validation loss<th>step \(before.step)<th>step \(after.step)<th>change\n"
    for (name, first, last) in [
      ("video", before.videoLoss, after.videoLoss), ("audio", before.audioLoss, after.audioLoss),
      ("in all", before.loss, after.loss),
    ] {
      guard let first, let last else { continue }
      let change =
        first.isFinite && last.isFinite && first != 0 ? Self.signed((last / first - 1) * 100) : ""
      html += "<tr><td>\(name)<td>\(measured(first))<td>\(measured(last))<td>\(change)\n"
    }
    return html + "</table>\n"
  }

  /// `-37.5 %`, `+1.2 %`, `0.0 %`
  private static func signed(_ percent: Double) -> String {
    let text = fixed(abs(percent), 1)
    return (Double(text) == 0 ? "" : percent < 0 ? "-" : "+") + text + " %"
  }

  private var charts: String {
    let lines = summary.groups.enumerated().map { index, group in
      var curve = Curve()
      for block in summary.blocks where block.group == group.name && block.baseNorm > 0 {
        curve.add(100 * block.norm / block.baseNorm, at: block.index)
      }
      return CurveChart.Line(group.name, curve, color: index, .dotted)
    }
    let svg = CurveChart(
      title: "Change by depth, % of the base weights", lines: lines, axis: "block",
      mayBeLogarithmic: true
    ).svg
    return svg.isEmpty ? "" : "<div class=charts>\n\(svg)</div>\n"
  }
}
