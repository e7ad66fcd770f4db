import DemoData
import DemoJudges
import Foundation
import Media
import Support
import Tracking

/// The names of the files of `./demo`'s folder that its report shows.
enum DemoFolder {
  /// Prompts, one on each line, which every column has a clip for.
  static let promptsName = "prompts.txt"
  /// One line for each command: seconds, the title of its step, and the command, with tabs between.
  static let commandsName = "commands.tsv"
  static let clipsName = "clips"
  static let reportName = "report.html"
  static let measuresName = "style.json"
  /// The loss of the first style's LoRA.
  static let lossName = "loss.svg"

  /// The clips that were generated with the same LoRAs.
  struct Column: Sendable {
    let title: String
    /// The beginning of the files' names.
    let name: String
    /// The strength of the sketch LoRA; nil if it is not alone.
    let strength: Double?
  }

  static let columns = [
    Column(title: "without a LoRA", name: "strength-0", strength: 0),
    Column(title: "sketch LoRA at 0.5", name: "strength-0.5", strength: 0.5),
    Column(title: "sketch LoRA at 1", name: "strength-1", strength: 1),
    Column(title: "sketch and snow LoRAs", name: "stacked", strength: nil),
  ]

  /// A style's clips and the training of its LoRA.
  struct Style: Sendable {
    let style: DemoScene.Style
    /// The folder with the split film.
    let data: String
    /// The folder of the run.
    let training: String
  }

  static let styles = [
    Style(style: .sketch, data: "sketches", training: "training-sketch"),
    Style(style: .snow, data: "snow", training: "training-snow"),
  ]

  /// The clip of a column for prompt number `prompt` of `count`, from 1.
  static func clip(_ column: Column, prompt: Int, of count: Int) -> String {
    let digits = String(count).count
    let number =
      count == 1
      ? "" : "-" + String(repeating: "0", count: digits - String(prompt).count) + "\(prompt)"
    return "\(clipsName)/\(column.name)\(number).mp4"
  }
}
