import LTX
import Media
import Support

/// Chooses and checks the size of the result: the requested one, that of an edited video, or the
/// model's default.
struct SizeChoice {
  private let request: GenerationRequest
  private let defaults: GenerationDefaults
  private let model: ModelShape
  private let upsampler: UpsamplerShape?
  private let kind: OutputKind

  init(
    _ request: GenerationRequest, _ defaults: GenerationDefaults, _ model: ModelShape,
    _ upsampler: UpsamplerShape?, _ kind: OutputKind
  ) {
    self.request = request
    self.defaults = defaults
    self.model = model
    self.upsampler = upsampler
    self.kind = kind
  }

  func resolve(_ notes: inout [String]) throws -> GenerationPlan.OutputSize {
    let factors = model.factors
    let edited = try self.edited()
    let step = upsampler?.step ?? 1
    let width =
      request.width ?? edited.map { $0.width / (factors.width * step) * factors.width * step }
    let height =
      request.height ?? edited.map { $0.height / (factors.height * step) * factors.height * step }
    if let edited { try check(edited, width: width, height: height) }
    var rate = edited?.frameRate
    if let asked = request.frameRate ?? (rate == nil ? defaults.frameRate : nil) {
      guard let exact = Rational(approximating: asked) else {
        throw Issue(["frameRate"], "must be between 0.1 and 1000 frames a second (got \(asked))")
      }
      rate = exact
    }
    let frames =
      request.frames ?? edited.map { max(1, ($0.frames - 1) / factors.time * factors.time + 1) }
      ?? request.duration.map {
        // The longest video: if it is possible, so is a shorter one.
        $0.frames(
          seconds: $0.maxSeconds, frameRate: rate?.value ?? defaults.frameRate, factors: factors)
      }
    let size = GenerationPlan.OutputSize(
      width: width ?? defaults.width, height: height ?? defaults.height,
      frames: frames ?? (kind == .image ? 1 : defaults.frames), frameRate: rate ?? Rational(24))
    try check(size)
    if let edited {
      guard size.frames <= edited.frames else {
        throw Issue(
          ["frames"],
          "must be at most the frames of \(edited.path), \(edited.frames) (got \(size.frames))")
      }
      if (size.width, size.height, size.frames) != (edited.width, edited.height, edited.frames) {
        notes.append(
          "\(edited.path) has \(edited.frames) frames of \(edited.width)x\(edited.height); the result has \(size.frames) "
            + "of \(size.width)x\(size.height)")
      }
    }
    return size
  }

  private func edited() throws -> GivenVideo? {
    let whole = request.conditions.indices.filter { request.conditions[$0].coversAll }
    guard let index = whole.first else { return nil }
    return try Issue.within("conditions", .index(index)) {
      guard whole.count == 1 else {
        throw Issue(
          [.file(request.conditions[index].path)], "only one video can be edited",
          suggestion: "Leave one of the videos out.")
      }
      return try GivenVideo(request.conditions[index])
    }
  }

  /// Checks that the result can have the size and the rate of an edited video.
  private func check(_ edited: GivenVideo, width: Int?, height: Int?) throws {
    func subject(_ name: String) -> [Issue.PathComponent] { [.name(name), .file(edited.path)] }
    for (name, asked, own) in [("width", request.width, width), ("height", request.height, height)]
    where asked == nil && own == 0 {
      throw Issue(
        subject(name),
        "the video has only \(edited.width)x\(edited.height) pixels, fewer than one latent cell",
        suggestion: "Give the width and the height of the result.")
    }
    guard request.duration == nil else {
      throw Issue(
        ["duration"], "the result has the length of \(edited.path)", suggestion: "Leave it out.")
    }
    guard request.frameRate != nil || RequestCheck.frameRates.contains(edited.frameRate.value)
    else {
      throw Issue(
        subject("frameRate"),
        "the video has \(edited.frameRate.value) frames a second (expected 0.1 to 1000)",
        suggestion: "Give the frame rate of the result.")
    }
  }

  private func check(_ size: GenerationPlan.OutputSize) throws {
    let factors = model.factors
    guard size.seconds <= RequestCheck.maxSeconds else {
      throw Issue(
        ["frames"], "must last at most 6 hours (got \(size.frames), \(size.seconds) seconds)")
    }
    let minCells = model.vae.minCells
    let sides = [
      ("width", size.width, factors.width), ("height", size.height, factors.height),
    ]
    let step = upsampler?.step ?? 1
    for (name, value, factor) in sides where kind != .audio {
      func isPossible(_ cells: Int) -> Bool {
        upsampler.map { upsampler in upsampler.before(cells).map { $0 >= minCells } ?? false }
          ?? (cells >= minCells)
      }
      guard value.isMultiple(of: factor), isPossible(value / factor) else {
        let unit = factor * step
        let smallest = (1...).first { isPossible($0 * step) }.map { $0 * unit } ?? unit
        let below = max(smallest, value / unit * unit)
        let choices = value > below ? "\(below) or \(below + unit)" : "\(below) or more"
        let stages = upsampler == nil ? "" : " in two stages"
        throw Issue(
          [.name(name)], "must be a multiple of \(unit)\(stages) (got \(value))",
          suggestion: "Use \(choices).")
      }
    }
    let frames = size.frames
    guard frames >= 1, (frames - 1).isMultiple(of: factors.time) else {
      let below = max(0, frames - 1) / factors.time * factors.time + 1
      throw Issue(
        ["frames"], "must be of the form \(factors.time)k + 1 (got \(frames))",
        suggestion: "Use \(below) or \(below + factors.time).")
    }
  }
}

/// The size, length and rate of a video or an image that a request names, from its container.
struct GivenVideo {
  let path: String
  let width: Int
  let height: Int
  let frames: Int
  let frameRate: Rational
  let hasAudio: Bool
  let isImage: Bool

  /// - Throws: `Issue` about the file if it can't be read or is not a video.
  init(_ condition: Condition<MediaFile>) throws { try self.init(condition.path) }

  init(_ path: String) throws {
    do {
      let reader = try VideoReader(path: path)
      self.path = path
      (width, height, frameRate) = (reader.width, reader.height, reader.frameRate)
      (hasAudio, isImage) = (reader.hasAudio, reader.isImage)
      // An estimate may be off by a few frames, which could change whether there are enough.
      switch reader.frameCount {
      case .declared(let count): frames = count
      case .estimated, .unknown: frames = try VideoReader.countFrames(path: path)
      }
    } catch let error as MediaError {
      throw error.issue
    }
    guard frames > 0 else { throw Issue([.file(path)], "has no frames") }
  }
}
