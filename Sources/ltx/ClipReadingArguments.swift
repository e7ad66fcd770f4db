import ArgumentParser
import Datasets

/// How `ltx preprocess` reads clips.
struct ClipReadingOptions: ParsableArguments {
  enum Deinterlacing: String, ExpressibleByArgument, CaseIterable {
    case on, off
  }

  @Option(
    help: "on: make one image of each interlaced frame; off: use interlaced frames as stored.")
  var deinterlace = Deinterlacing.on

  @Flag(help: "Fail rows whose clip has damaged frames. Otherwise they are cached with a warning.")
  var strict = false

  func apply(to options: inout PreprocessingOptions) {
    options.deinterlaces = deinterlace == .on
    options.isStrict = strict
  }
}
