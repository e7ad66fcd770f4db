import DemoData
import DemoJudges
import Foundation
import Media
import Support
import Tracking

/// The page that `./demo` ends with: generated clips side by side, how far a LoRA moves the style,
/// loss curves, and the commands with their times.
public struct DemoReport: Sendable {
  /// A command of the demo.
  struct Command: Sendable, Equatable {
    let seconds: Double
    let step: String
    let text: String
  }

  let folder: String
  let prompts: [String]
  let commands: [Command]
  let curves: [(style: DemoScene.Style, curves: RunCurves)]
  public let measures: StyleMeasures

  /// Reads the files of the demo, and judges its clips.
  ///
  /// - Throws: `Issue` or `MediaError` for a file that is missing or has other content.
  public init(folder: String) throws {
    self.folder = URL(fileURLWithPath: folder).standardizedFileURL.path
    let prompts = try Self.lines("\(folder)/\(DemoFolder.promptsName)")
    self.prompts = prompts
    commands = try Self.commands("\(folder)/\(DemoFolder.commandsName)")
    curves = try DemoFolder.styles.map { style in
      let records = try RecordedMetrics(path: "\(folder)/\(style.training)/metrics.jsonl")
      return (style.style, RunCurves(records))
    }
    let columns = try DemoFolder.columns.map { column in
      let clips = try prompts.indices.map { prompt in
        try JudgedClip(
          path: "\(folder)/"
            + DemoFolder.clip(column, prompt: prompt + 1, of: prompts.count))
      }
      return (name: column.name, measure: StyleMeasure(clips))
    }
    let drawn = try DemoFolder.styles.map { try Self.drawn("\(folder)/\($0.data)") }
    measures = StyleMeasures(columns: columns, sketches: drawn[0], snow: drawn[1])
  }

  /// The measure of the clips that a LoRA is trained with.
  private static func drawn(_ folder: String) throws -> StyleMeasure {
    let scenes = "\(folder)/\(DemoDataset.splitName)"
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: scenes)
    } catch {
      throw Issue([.file(scenes)], "can't be read (\(reason(of: error)))")
    }
    let clips = names.filter { $0.hasSuffix(".mp4") }.sorted()
    guard !clips.isEmpty else { throw Issue([.file(scenes)], "has no clips") }
    return StyleMeasure(try clips.map { try JudgedClip(path: "\(scenes)/\($0)") })
  }

  private static func lines(_ path: String) throws -> [String] {
    do {
      return try String(contentsOfFile: path, encoding: .utf8)
        .split(separator: "\n").map(String.init)
    } catch {
      throw Issue([.file(path)], "can't be read (\(reason(of: error)))")
    }
  }

  private static func commands(_ path: String) throws -> [Command] {
    try lines(path).enumerated().map { number, line in
      let fields = line.split(separator: "\t", maxSplits: 2).map(String.init)
      guard fields.count == 3, let seconds = Double(fields[0]) else {
        throw Issue(
          [.file(path)],
          "line \(number + 1) is not a command: seconds, a step and the command must have tabs "
            + "between them")
      }
      return Command(seconds: seconds, step: fields[1], text: fields[2])
    }
  }

  /// Writes the page, the measures and an image of the loss into the folder.
  ///
  /// - Returns: The path of the page.
  public func write() throws -> String {
    let path = "\(folder)/\(DemoFolder.reportName)"
    try AtomicFile.write(Data(html.utf8), to: path)
    try AtomicFile.write(
      measures.json.data(), to: "\(folder)/\(DemoFolder.measuresName)")
    if let (style, curves) = curves.first {
      let image = TrainingReport.lossImage(
        of: curves, title: "Loss of the \(style.rawValue) LoRA")
      try AtomicFile.write(Data(image.utf8), to: "\(folder)/\(DemoFolder.lossName)")
    }
    return path
  }

  /// Sentences about the style, for the terminal and the page.
  public var findings: [String] {
    func text(_ value: Double) -> String { String(format: "%.2f", value) }
    func percent(_ value: Double) -> String { String(format: "%.0f %%", 100 * value) }
    var findings = DemoFolder.columns.compactMap { column -> String? in
      guard column.strength != 0, let measure = measures.measure(column.name) else { return nil }
      let share = measures.share(column.name).map { " (\(percent($0)) of the way)" } ?? ""
      return "\(column.title): sketch \(text(measure.sketch))\(share), snow \(text(measure.snow))"
    }
    if let base = measures.measure("strength-0") {
      findings.insert(
        "without a LoRA: sketch \(text(base.sketch)), snow \(text(base.snow))", at: 0)
    }
    findings.append(
      "the drawn clips: sketch \(text(measures.sketches.sketch)) in the sketches, "
        + "snow \(text(measures.snow.snow)) in the snow")
    return findings
  }
}
