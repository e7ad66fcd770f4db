import DemoData
import DemoReport
import Foundation
import FoundationXML
import Support
import TestSupport
import Testing
import Tracking

@Suite struct DemoReportTests {
  /// A folder like that of the demo, whose clips are drawn: plain ones without a LoRA, a sketch and
  /// a plain one at 0.5, sketches at 1.
  private struct Demo {
    static let prompts = ["SKETCHSTYLE. A <red> star.", "SKETCHSTYLE. A blue ball."]
    let scratch: ScratchFolder

    var folder: String { scratch.path }

    init() throws {
      scratch = try ScratchFolder()
      for (style, data, run) in [
        (DemoScene.Style.sketch, "sketches", "training-sketch"),
        (DemoScene.Style.snow, "snow", "training-snow"),
      ] {
        let drawn = try DemoDataset(world: DemoWorld(seed: 3, style: style), clipCount: 4)
        _ = try drawn.write(to: scratch.file(data))
        try FileManager.default.moveItem(
          atPath: scratch.file("\(data)/clips"), toPath: scratch.file("\(data)/scenes"))
        try makeFolder(scratch.file(run))
        let metrics = try MetricsFile(
          path: scratch.file("\(run)/metrics.jsonl"), resumingAfter: 0)
        for step in 1...5 {
          try metrics.append(
            StepRecord(
              step: step, loss: 1 / Double(step), gradientNorm: 1, learningRate: 1e-3,
              seconds: 0.1))
        }
        try metrics.close()
      }
      let plain = try DemoDataset(world: DemoWorld(seed: 4), clipCount: 3)
      _ = try plain.write(to: scratch.file("plain"))
      try makeFolder(scratch.file("clips"))
      for (source, name) in [
        ("plain/clips/0000", "strength-0-1"), ("plain/clips/0001", "strength-0-2"),
        ("plain/clips/0002", "strength-0.5-1"), ("sketches/scenes/0000", "strength-0.5-2"),
        ("sketches/scenes/0001", "strength-1-1"), ("sketches/scenes/0002", "strength-1-2"),
        ("snow/scenes/0000", "stacked-1"), ("snow/scenes/0001", "stacked-2"),
      ] {
        try FileManager.default.copyItem(
          atPath: scratch.file("\(source).mp4"), toPath: scratch.file("clips/\(name).mp4"))
      }
      try scratch.write(Self.prompts.joined(separator: "\n"), to: "prompts.txt")
      try scratch.write(
        """
        1.500\t1. Draw\tltx demo-data a
        0.500\t1. Draw\tltx demo-data b
        2.000\t2. Train\tltx train '<c>'

        """, to: "commands.tsv")
    }
  }

  @Test func aReportMeasuresTheStyleAndShowsEverything() throws {
    let demo = try Demo()
    let report = try DemoReport(folder: demo.folder)
    let whole = try #require(report.measures.share("strength-1"))
    let half = try #require(report.measures.share("strength-0.5"))
    #expect(abs(whole - 1) < 0.15)
    #expect(abs(half - 0.5) < 0.15)
    #expect(report.measures.share("strength-2") == nil)
    #expect(report.findings.count == 5)

    let page = try String(contentsOfFile: report.write(), encoding: .utf8)
    for text in [
      "A &lt;red&gt; star.", "src=\"clips/strength-0.5-2.mp4\"", "src=\"clips/stacked-1.mp4\"",
      "Loss of the snow LoRA", "href=\"training-sketch/report.html\"",
      "<td>1. Draw<td>2.0<td>50 %", "ltx train &#39;&lt;c&gt;&#39;", "3 commands in 4 s",
    ] { #expect(page.contains(text), "\(text)") }
    let loss = try String(contentsOfFile: demo.scratch.file("loss.svg"), encoding: .utf8)
    #expect(loss.hasPrefix("<svg xmlns=") && loss.contains("Loss of the sketch LoRA"))
    #expect(loss.contains("class=\"line c0 plain\" data-name=\"moving mean\""))
    let document = try XMLDocument(xmlString: loss)
    #expect(document.rootElement()?.name == "svg")
    let json = try JSON(
      parsing: Data(contentsOf: URL(fileURLWithPath: demo.scratch.file("style.json"))))
    let sketch = try #require(json["strength-1"]?["sketch"]?.double)
    #expect(sketch > 0.8)
  }

  @Test func filesThatAreMissingOrDamagedAreNamed() throws {
    let demo = try Demo()
    try demo.scratch.write("1.0\tonly two fields\n", to: "commands.tsv")
    let damaged = message { _ = try DemoReport(folder: demo.folder) }
    #expect(damaged.contains("commands.tsv") && damaged.contains("line 1 is not a command"))

    try demo.scratch.write("1.0\ta\tb\n", to: "commands.tsv")
    try FileManager.default.removeItem(atPath: demo.scratch.file("clips/stacked-2.mp4"))
    let missing = message { _ = try DemoReport(folder: demo.folder) }
    #expect(missing.contains("stacked-2.mp4"))
  }
}
