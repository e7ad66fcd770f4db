import Media
import Support

/// Checks FFmpeg's libraries and their codecs.
struct MediaChecks {
  func run() -> [Check] {
    let version = FFmpegLibraries.version
    if let problem = FFmpegLibraries.problem {
      return [
        Check(
          "FFmpeg", .problem, "libavcodec \(problem)",
          remedy: "Install that version of FFmpeg's libraries, or build the program with this one",
          values: ["version": .string(version)])
      ]
    }
    let codecs = FFmpegLibraries.codecs
    func names(_ isIncluded: (FFmpegLibraries.Codec) -> Bool) -> String {
      codecs.filter(isIncluded).map(\.name).joined(separator: ", ")
    }
    let missing = codecs.filter { !$0.isAvailable }
    // Everything that the program writes is H.264 with AAC.
    let isNeeded = missing.contains { $0.encodes || ["H.264", "AAC"].contains($0.name) }
    var text = "libavcodec \(version)"
    let (decoded, encoded) = (
      names { $0.isAvailable && !$0.encodes }, names { $0.isAvailable && $0.encodes }
    )
    if !decoded.isEmpty { text += ", decodes \(decoded)" }
    if !encoded.isEmpty { text += ", encodes \(encoded)" }
    let lacks = [
      ("decode", names { !$0.isAvailable && !$0.encodes }),
      ("encode", names { !$0.isAvailable && $0.encodes }),
    ].filter { !$0.1.isEmpty }.map { "can't \($0.0) \($0.1)" }
    if !lacks.isEmpty { text += "; \(lacks.joined(separator: ", "))" }
    return [
      Check(
        "FFmpeg", missing.isEmpty ? .ok : isNeeded ? .problem : .note, text,
        remedy: missing.isEmpty ? nil : "Install an FFmpeg that was built with these codecs",
        values: [
          "version": .string(version),
          "missing_decoders": .array(missing.filter { !$0.encodes }.map { .string($0.name) }),
          "missing_encoders": .array(missing.filter(\.encodes).map { .string($0.name) }),
        ])
    ]
  }
}
