import LTX
import Support

/// The checks that don't need the models.
enum RequestCheck {
  /// The limit of H.264 in pixels, and more frames than fit into memory. The number of tokens stays
  /// far below overflow.
  private static let maxSide = 16384
  private static let maxFrames = 1_000_000
  static let frameRates = 0.1...1000.0
  /// Six hours: a WAV file can hold stereo audio of that length.
  static let maxSeconds = 21600.0
  /// A scale beyond this gives noise, and comes close to overflow.
  static let maxScale = 1e6

  static func numbers(_ request: GenerationRequest) throws {
    guard !request.prompts.isEmpty,
      !request.prompts.contains(where: { $0.allSatisfy(\.isWhitespace) })
    else {
      throw Issue(["prompts"], "is empty", suggestion: "Describe the result.")
    }
    if let steps = request.steps, !(1...NoiseSchedule.maximumSteps).contains(steps) {
      throw Issue(
        ["steps"], "must be between 1 and \(NoiseSchedule.maximumSteps) (got \(steps))")
    }
    for (name, value, max) in [
      ("width", request.width, maxSide), ("height", request.height, maxSide),
      ("frames", request.frames, maxFrames),
    ] {
      guard let value, value > max else { continue }
      throw Issue([.name(name)], "must be at most \(max) (got \(value))")
    }
    if let duration = request.duration {
      try duration.check()
      guard request.frames == nil else {
        throw Issue(
          ["duration"], "can't be combined with a number of frames", suggestion: "Leave one out.")
      }
    }
    if let rate = request.frameRate, !frameRates.contains(rate) {
      throw Issue(["frameRate"], "must be between 0.1 and 1000 frames a second (got \(rate))")
    }
    guard (0...1).contains(request.referenceAttention) else {
      throw Issue(
        ["referenceAttention"], "must be between 0 and 1 (got \(request.referenceAttention))")
    }
  }

  /// Checks that conditions leave something to generate, and that the result can hold them.
  static func conditions(_ request: GenerationRequest, _ kind: OutputKind) throws {
    let given = Set(request.conditions.filter(\.isWhole).map(\.modality))
    for (index, condition) in request.conditions.enumerated() {
      func fail(_ problem: String, _ suggestion: String) -> Issue {
        Issue(
          ["conditions", .index(index), .file(condition.path)], problem, suggestion: suggestion)
      }
      switch (condition.modality, condition.kind) {
      case (.video, .whole): break
      case (.audio, .whole):
        guard !given.contains(.video) else {
          throw fail(
            "a given video and given audio leave nothing to generate", "Leave one of them out.")
        }
        guard kind != .audio else {
          throw fail(
            "the result would be a copy of it", "Use .mp4 to generate a video for it.")
        }
      case (_, .retake):
        guard !given.contains(.video) else {
          throw fail("only one video can be edited", "Leave one of the videos out.")
        }
      case (.video, _):
        guard !given.contains(.video) else {
          throw fail("the result has the frames of a given video", "Leave one of them out.")
        }
        guard kind != .audio else {
          throw fail("a WAV file has no images", "Leave it out, or use .mp4.")
        }
      case (.audio, _):
        guard !given.contains(.audio) else {
          throw fail("the result has given audio", "Leave one of them out.")
        }
        guard kind == .audio || (kind == .video && request.hasAudio) else {
          throw fail("the result has no audio", "Leave it out, or generate audio too.")
        }
      }
    }
  }
}

extension Guidance {
  /// - Throws: `Issue` for a value that is out of range, with a subject such as
  ///   `["guidance", "video", "cfg"]`.
  func checked(_ model: ModelShape, _ modality: Modality) throws -> Guidance {
    try Issue.within("guidance", .name(modality.rawValue)) {
      for (name, value) in [("cfg", cfg), ("stg", stg), ("modality", self.modality)]
      where !(abs(value) <= RequestCheck.maxScale) {
        throw Issue(
          [.name(name)], "must be a finite number up to 1e6 (got \(value))",
          suggestion: "Use a scale such as 3.")
      }
      guard (0...1).contains(rescale) else {
        throw Issue(["rescale"], "must be between 0 and 1 (got \(rescale))")
      }
      guard (0...NoiseSchedule.maximumSteps).contains(skipSteps) else {
        throw Issue(
          ["skipSteps"],
          "must be between 0 and \(NoiseSchedule.maximumSteps) (got \(skipSteps))")
      }
      let blocks = model.transformer.blocks
      if let wrong = (stgBlocks ?? []).sorted().first(where: { !(0..<blocks).contains($0) }) {
        throw Issue(
          ["stgBlocks"],
          "block \(wrong) does not exist (the transformer has the blocks 0 to \(blocks - 1))")
      }
    }
    return self
  }
}
