import LTX

/// What can be judged without the models.
enum RequestCheck {
  /// What H.264 holds in pixels, and more frames than memory holds; counts of tokens stay far from
  /// overflowing.
  private static let largestSide = 16384
  private static let mostFrames = 1_000_000
  static let frameRates = 0.1...1000.0
  /// Six hours: a WAV can hold stereo sound of that length.
  static let mostSeconds = 21600.0
  /// A scale beyond this is noise, and not far from overflowing.
  static let largestScale = 1e6

  static func numbers(_ request: GenerationRequest) throws {
    guard !request.prompts.isEmpty,
      !request.prompts.contains(where: { $0.allSatisfy(\.isWhitespace) })
    else {
      throw GenerationError(.prompt, "is empty; say what the result should show")
    }
    if let steps = request.steps, !(1...NoiseSchedule.maximumSteps).contains(steps) {
      throw GenerationError(
        .steps, "\(steps) steps are not possible; use 1 to \(NoiseSchedule.maximumSteps)")
    }
    for (option, value, most) in [
      (GenerationError.Option.width, request.width, largestSide),
      (.height, request.height, largestSide),
      (.frames, request.frames, mostFrames),
    ] {
      guard let value, value > most else { continue }
      throw GenerationError(option, "\(value) is not possible; use at most \(most)")
    }
    if let rate = request.frameRate, !frameRates.contains(rate) {
      throw GenerationError(
        .frameRate, "\(rate) frames a second are not possible; use a rate from 0.1 to 1000")
    }
    guard (0...1).contains(request.referenceAttention) else {
      throw GenerationError(
        .referenceAttention, "\(request.referenceAttention) is out of range; use 0 to 1")
    }
  }

  /// What is known of a result must leave something to make, and must be of use for it.
  static func conditions(_ request: GenerationRequest, _ kind: OutputKind) throws {
    var given = (audio: false, video: false)
    for condition in request.conditions {
      if case .audio = condition { given.audio = true }
      if case .video = condition { given.video = true }
    }
    for condition in request.conditions {
      func fail(_ problem: String) -> GenerationError {
        GenerationError(condition.option, "\(condition.path): \(problem)")
      }
      switch condition {
      case .video: break
      case .audio:
        guard !given.video else {
          throw fail("with --video too, nothing is left to make; leave one of them out")
        }
        guard kind != .audio else {
          throw fail("the result would be a copy of it; use .mp4 to make a video for it")
        }
      case .retake:
        guard !given.video else {
          throw fail("only one video can be edited; give one of --source and --video")
        }
      case .image, .firstFrame, .prefix, .suffix, .inpaint, .keep, .crop, .reference:
        guard !given.video else {
          throw fail("the result has the pictures of --video; leave one of them out")
        }
        guard kind != .audio else { throw fail("a WAV has no pictures; leave it out, or use .mp4") }
      case .audioPrefix, .audioSuffix, .audioKeep, .audioReference:
        guard !given.audio else {
          throw fail("the result has the sound of --sound; leave one of them out")
        }
        guard kind == .audio || (kind == .video && request.hasAudio) else {
          throw fail("the result has no sound; leave it out, or make a video with sound")
        }
      }
    }
  }
}

extension Guidance {
  /// - Throws: `GenerationError` for a value that is out of range.
  func checked(_ model: ModelShape, _ modality: Modality) throws -> Guidance {
    typealias Option = GenerationError.Option
    func option(_ video: Option, _ audio: Option) -> Option { modality == .video ? video : audio }
    for (option, value) in [
      (option(.videoCFG, .audioCFG), cfg), (option(.videoSTG, .audioSTG), stg),
      (option(.videoModality, .audioModality), self.modality),
    ] where !(abs(value) <= RequestCheck.largestScale) {
      throw GenerationError(option, "\(value) is no scale; use a number such as 3")
    }
    guard (0...1).contains(rescale) else {
      throw GenerationError(
        option(.videoRescale, .audioRescale), "\(rescale) is out of range; use 0 to 1")
    }
    guard (0...NoiseSchedule.maximumSteps).contains(skipSteps) else {
      throw GenerationError(
        option(.videoSkipSteps, .audioSkipSteps),
        "\(skipSteps) is out of range; use 0 or a small number")
    }
    let blocks = model.transformer.blocks
    if let wrong = (stgBlocks ?? []).sorted().first(where: { !(0..<blocks).contains($0) }) {
      throw GenerationError(
        option(.videoSTGBlocks, .audioSTGBlocks),
        "there is no block \(wrong); this transformer has the blocks 0 to \(blocks - 1)")
    }
    return self
  }
}
