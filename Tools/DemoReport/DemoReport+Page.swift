import DemoData
import Foundation
import Media
import Support
import Tracking

extension DemoReport {
  /// The page, which links the clips beside it and loads nothing else.
  var html: String {
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; media-src 'self' file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
    <title>swift-ltx demo</title>
    <style>\(TrainingReport.style)\(Self.style)</style>
    </head>
    <body>
    <header><h1>A style LoRA, trained and used</h1><p>\(summary)</p></header>
    <main>
    \(clips)\(strengths)\(charts)\(timings)\(transcript)</main>
    <script>\(TrainingReport.script)\(Self.script)</script>
    </body>
    </html>

    """
  }

  private var summary: String {
    let seconds = commands.reduce(0) { $0 + $1.seconds }
    return "\(commands.count) commands in \(Int(seconds.rounded())) s, with a model of 25 MB"
  }

  // MARK: Clips

  private var clips: String {
    var html = "<section><h2>The same prompt and noise with other strengths</h2>\n"
    html +=
      "<p class=caption>Click a clip to hear it. The model knows neither style: it was trained "
      + "on plain clips only.</p>\n"
    for (index, prompt) in prompts.enumerated() {
      html += "<div class=sample><p class=caption>\(TextFormats.html(prompt))</p>\n<div class=row>"
      for column in DemoFolder.columns {
        let link = DemoFolder.clip(column, prompt: index + 1, of: prompts.count)
        html +=
          "<figure><video src=\"\(link)\" muted loop autoplay playsinline></video>"
          + "<figcaption>\(TextFormats.html(column.title))</figcaption></figure>\n"
      }
      html += "</div></div>\n"
    }
    return html + "</section>\n"
  }

  // MARK: Strengths

  /// A bar for each column, from 0 to the drawn clips.
  private var strengths: String {
    var html = "<section><h2>How far the style moves</h2>\n<table>"
    html += "<tr><th>clips<th>sketch<th><th>of the way<th>snow<th></tr>\n"
    func row(_ title: String, _ measure: StyleMeasure, share: Double?) -> String {
      let way = share.map { String(format: "%.0f %%", 100 * $0) } ?? ""
      return "<tr><td>\(TextFormats.html(title))"
        + "<td>\(number(measure.sketch))<td>\(bar(measure.sketch, color: 0))<td>\(way)"
        + "<td>\(number(measure.snow))<td>\(bar(measure.snow, color: 1))</tr>\n"
    }
    for column in DemoFolder.columns {
      guard let measure = measures.measure(column.name) else { continue }
      html += row(
        column.title, measure,
        share: column.strength == 0 ? nil : measures.share(column.name))
    }
    html += row("drawn sketches", measures.sketches, share: 1)
    html += row("drawn clips with snow", measures.snow, share: nil)
    return html
      + "</table>\n<p class=caption>Classifiers that know only the drawn clips measure paper, "
      + "outlines and moving flakes: 0 on average in plain clips, about 1 in the style.</p></section>\n"
  }

  private func number(_ value: Double) -> String { String(format: "%.2f", value) }

  private func bar(_ value: Double, color: Int) -> String {
    let width = String(format: "%.0f", 120 * min(1.2, max(0, value)))
    return "<i class=\"bar c\(color)\" style=\"width:\(width)px\"></i>"
  }

  // MARK: Training

  private var charts: String {
    let charts = curves.map { style, curves in
      TrainingReport.lossChart(of: curves, title: "Loss of the \(style.rawValue) LoRA")
    }
    let links = DemoFolder.styles.map {
      "<a href=\"\($0.training)/report.html\">\($0.style.rawValue)</a>"
    }
    return "<section><h2>Training</h2><p class=caption>The whole reports: "
      + links.joined(separator: ", ")
      + "</p>\n<div class=charts>\n\(charts.joined())</div></section>\n"
  }

  /// The seconds of each step.
  private var timings: String {
    var steps: [(name: String, seconds: Double)] = []
    for command in commands {
      if steps.last?.name != command.step { steps.append((command.step, 0)) }
      steps[steps.count - 1].seconds += command.seconds
    }
    let total = max(steps.reduce(0) { $0 + $1.seconds }, 0.001)
    var html = "<section><h2>Time</h2>\n<table><tr><th>step<th>seconds<th>share</tr>\n"
    for step in steps {
      html +=
        "<tr><td>\(TextFormats.html(step.name))<td>\(String(format: "%.1f", step.seconds))"
        + "<td>\(String(format: "%.0f %%", 100 * step.seconds / total))</tr>\n"
    }
    return html + "</table></section>\n"
  }

  private var transcript: String {
    let text = commands.map { "\(TextFormats.html($0.text))\n" }.joined()
    return "<section><h2>Commands</h2>\n<p><button type=button id=copy>Copy</button></p>"
      + "<pre id=commands>\(text)</pre></section>\n"
  }

  private static let style = """

    .row figure{width:min(23%,260px);min-width:150px}.row video{width:100%;height:auto;cursor:pointer}
    .bar{display:inline-block;height:10px;border-radius:5px;background:var(--c)}
    video.on{outline:3px solid var(--c0)}
    """

  /// A click plays one clip from its start with sound; the others become silent.
  private static let script = """

    for(const v of document.querySelectorAll('video'))v.addEventListener('click',()=>{const on=v.muted;
    for(const o of document.querySelectorAll('video')){o.muted=true;o.classList.remove('on')}
    if(on){v.muted=false;v.classList.add('on');v.currentTime=0;v.play()}});
    document.getElementById('copy').addEventListener('click',()=>navigator.clipboard.writeText(document.getElementById('commands').textContent))
    """
}
