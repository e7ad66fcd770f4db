import ArgumentParser
import Support
import TinyTraining

/// `train-tiny-ltx probe-text`: whether the transformer's contexts tell captions apart.
struct ProbeTextCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "probe-text",
    abstract: "Measure what linear classifiers read in the contexts of held-out captions.",
    discussion: """
      Prints, for each modality, the share of right answers for each attribute of the scene, from \
      the mean of the context, and for each token's id, from the token's own context.
      """)

  @Argument(help: ArgumentHelp("The folder of an assembled model.", valueName: "folder"))
  var folder: String

  @Option(help: "The seed of the captions.")
  var seed: UInt64 = 1

  func run() throws {
    let probe = try TextProbe(
      checkpoint: "\(folder)/\(TinyCheckpoint.name)",
      textEncoder: "\(folder)/\(TinyCheckpoint.textEncoderName)", seed: seed)
    for metric in try probe.measure() { print(metric.name, metric.value) }
  }
}
