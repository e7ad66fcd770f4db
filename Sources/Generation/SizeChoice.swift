import LTX
import Media

/// Finds the size of the result: what is asked for, what an edited video has, or the model's
/// default; and checks it.
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
    let frames =
      request.frames ?? edited.map { max(1, ($0.frames - 1) / factors.time * factors.time + 1) }
    if let edited { try check(edited, width: width, height: height) }
    var rate = edited?.frameRate
    if let asked = request.frameRate ?? (rate == nil ? defaults.frameRate : nil) {
      guard let exact = Rational(approximating: asked) else {
        throw GenerationError(.frameRate, "\(asked) frames a second are not possible")
      }
      rate = exact
    }
    let size = GenerationPlan.OutputSize(
      width: width ?? defaults.width, height: height ?? defaults.height,
      frames: frames ?? (kind == .image ? 1 : defaults.frames), frameRate: rate ?? Rational(24))
    try check(size)
    if let edited {
      guard size.frames <= edited.frames else {
        throw GenerationError(
          .frames, "\(edited.path) has \(edited.frames) frames; \(size.frames) are too many")
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
    let whole = request.conditions.filter(\.coversAll)
    guard let condition = whole.first else { return nil }
    guard whole.count == 1 else {
      throw GenerationError(
        condition.option, "only one video can be edited; give one of --source and --video")
    }
    return try GivenVideo(condition)
  }

  /// An edited video may be anything.
  private func check(_ edited: GivenVideo, width: Int?, height: Int?) throws {
    guard request.width != nil || width != 0, request.height != nil || height != 0 else {
      throw GenerationError(
        edited.option,
        "\(edited.path): its \(edited.width)x\(edited.height) pixels are too few; say the result's --width and --height"
      )
    }
    guard request.frameRate != nil || RequestCheck.frameRates.contains(edited.frameRate.value)
    else {
      throw GenerationError(
        edited.option,
        "\(edited.path): is at \(edited.frameRate.value) frames a second; say the result's --frame-rate, 0.1 to 1000"
      )
    }
  }

  private func check(_ size: GenerationPlan.OutputSize) throws {
    let factors = model.factors
    guard size.seconds <= RequestCheck.mostSeconds else {
      throw GenerationError(
        .frames,
        "\(size.frames) are not possible: \(size.seconds) seconds are more than six hours; use fewer"
      )
    }
    // A model that pads by reflection needs something to reflect.
    let leastCells = model.vae.padding == .reflect ? 2 : 1
    let sides = [
      (GenerationError.Option.width, size.width, factors.width),
      (.height, size.height, factors.height),
    ]
    let step = upsampler?.step ?? 1
    for (option, value, factor) in sides where kind != .audio {
      func isPossible(_ cells: Int) -> Bool {
        upsampler.map { upsampler in upsampler.before(cells).map { $0 >= leastCells } ?? false }
          ?? (cells >= leastCells)
      }
      guard value.isMultiple(of: factor), isPossible(value / factor) else {
        let unit = factor * step
        let least = (1...).first { isPossible($0 * step) }.map { $0 * unit } ?? unit
        let below = max(least, value / unit * unit)
        let choices = value > below ? "\(below) or \(below + unit)" : "\(below) or more"
        let stages = upsampler == nil ? "this model makes" : "this model in two stages makes"
        throw GenerationError(
          option,
          "\(value) is not possible: \(stages) pictures in multiples of \(unit); use \(choices)")
      }
    }
    let frames = size.frames
    guard frames >= 1, (frames - 1).isMultiple(of: factors.time) else {
      let below = max(0, frames - 1) / factors.time * factors.time + 1
      throw GenerationError(
        .frames,
        "\(frames) is not possible: this model makes \(factors.time)k + 1 frames; use \(below) or \(below + factors.time)"
      )
    }
  }
}

/// A video or picture that a request names, as far as its container tells.
struct GivenVideo {
  let path: String
  /// What named it.
  let option: GenerationError.Option
  let width: Int
  let height: Int
  let frames: Int
  let frameRate: Rational
  let hasAudio: Bool
  let isImage: Bool

  /// - Throws: `GenerationError` for a file that can't be read or is no video.
  init(_ condition: GenerationCondition) throws { try self.init(condition.path, condition.option) }

  init(_ path: String, _ option: GenerationError.Option) throws {
    do {
      let reader = try VideoReader(path: path)
      self.path = path
      self.option = option
      (width, height, frameRate) = (reader.width, reader.height, reader.frameRate)
      (hasAudio, isImage) = (reader.hasAudio, reader.isImage)
      // An estimate may be off by a few frames, which decides whether there are enough.
      switch reader.frameCount {
      case .declared(let count): frames = count
      case .estimated, .unknown: frames = try VideoReader.countFrames(path: path)
      }
    } catch let error as MediaError {
      throw GenerationError(option, "\(error)")
    }
    guard frames > 0 else { throw GenerationError(option, "\(path): holds no frame") }
  }
}
