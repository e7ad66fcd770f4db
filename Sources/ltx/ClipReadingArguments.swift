import ArgumentParser
import Datasets

/// The options of how `ltx preprocess` reads clips.
struct ClipReadingOptions: ParsableArguments {
  enum Deinterlacing: String, ExpressibleByArgument, CaseIterable {
    case on, off
  }

  @Option(
    help: "Deinterlace interlaced frames to one image each. With off, they are used as stored.")
  var deinterlace = Deinterlacing.on

  @Flag(help: "Fail rows whose clip has damaged frames instead of caching them with a warning.")
  var strict = false

  func apply(to options: inout PreprocessingOptions) {
    options.deinterlaces = deinterlace == .on
    options.isStrict = strict
  }
}
