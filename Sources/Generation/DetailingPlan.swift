import LTX
import Media
import Support

/// LTX-2.5's detailing recipe (ltx-pipelines, `dfr_pipeline.py`): keyframes at regular distances
/// are generated beside the video and refined with it. Each round then doubles the frame rate: the
/// video is upsampled in time, and sampled again in windows whose keyframes are given.
struct DetailingPlan: Sendable {
  /// One doubling of the frame rate.
  struct Round: Sendable {
    let windows: [KeyframeCanvas.Window]
    /// The sampling of the longest window. The grid of another one differs in its length.
    let sampling: GenerationPlan.Sampling
    /// The factor between the frames of the second stage and the round's.
    let frameScale: Int
    /// The offset of the first window's seed for fresh noise.
    let seedOffset: UInt64
  }

  let rounds: [Round]
  /// The keyframes of both stages.
  let keyframes: [Int]
  /// The pixel frames of both stages: those of the result, padded to whole segments.
  let frames: Int
  /// The result's number of frames and their rate.
  let result: (frames: Int, rate: Rational)
  /// The IC-LoRA of the second stage, and the factor by which its reference is coarser.
  let lora: CheckedLoRA?
  let referenceScale: ReferenceScale
  /// The path of the temporal upsampler.
  let upsampler: String?

  /// The strength with which a round keeps the keyframes before it.
  static let keyframeStrength = 0.95
  /// The share of fresh noise in a round's steps.
  static let eta = 0.5
  /// A higher rate would make positions denser than in training; the result still has it.
  private static let maxConditioningRate = 60.0
  private static let sigmas = Array(NoiseSchedule.distilled[4...])
  private static let maxRounds = 2

  /// Plans the recipe.
  ///
  /// - Parameters:
  ///   - size: The result without the rounds.
  ///   - grid: The latent grid of that size.
  ///   - loras: The LoRAs of the rounds.
  /// - Throws: `Issue` for a request or models that the recipe can't be used with.
  init(
    rounds count: Int, _ request: GenerationRequest, _ models: GenerationModels,
    _ checkpoint: Checkpoint, _ size: GenerationPlan.OutputSize, _ grid: VideoGrid,
    loras: [CheckedLoRA]
  ) throws {
    try Self.check(count, request, models, checkpoint)
    var canvas = try KeyframeCanvas(requested: size.frames, factors: grid.factors)
    (keyframes, frames) = (canvas.keyframes, canvas.frames)
    result = (
      (size.frames - 1) << count + 1,
      Rational(size.frameRate.numerator << count, size.frameRate.denominator)
    )
    upsampler = count > 0 ? models.temporalUpsampler : nil
    if let upsampler { try Self.check(upsampler: upsampler, channels: grid.channels) }
    var rounds: [Round] = []
    for number in 0..<count {
      let scale = 2 << number
      let windows = canvas.double(windows: scale, factors: grid.factors)
      var window = grid
      window.frames = windows.map { $0.latents(grid.factors).count }.max() ?? grid.frames
      window.fps = min(size.frameRate.value * Double(scale), Self.maxConditioningRate)
      let stills = windows.map { $0.known + $0.generated }.max { $0.count < $1.count } ?? []
      rounds.append(
        Round(
          windows: windows,
          sampling: GenerationPlan.Sampling(
            index: 2 + number, video: window, audio: nil, sigmas: Self.sigmas, method: .euler,
            isAncestral: false, guidance: PerModality(video: Guidance(), audio: Guidance()),
            loras: loras, keyframes: stills, upsampler: upsampler, keepsAudio: false),
          frameScale: scale, seedOffset: UInt64(1000 * (number + 1))))
    }
    self.rounds = rounds
    lora = try models.detailingLoRA.map { choice in
      try Issue.within("detailingLoRA") {
        try CheckedLoRA(choice, checkpoint: checkpoint, modalities: .both)
      }
    }
    let key = "reference_downscale_factor"
    let space = lora?.file.metadata[key].flatMap { Int($0) } ?? 2
    guard (1...64).contains(space) else {
      throw Issue(
        ["detailingLoRA", .name(key)], "must be an integer between 1 and 64 (got \(space))")
    }
    referenceScale = ReferenceScale(space: space)
  }

  private static func check(
    _ rounds: Int, _ request: GenerationRequest, _ models: GenerationModels,
    _ checkpoint: Checkpoint
  ) throws {
    guard (0...maxRounds).contains(rounds) else {
      throw Issue(["detailingRounds"], "must be between 0 and \(maxRounds) (got \(rounds))")
    }
    func fail(_ problem: String, _ suggestion: String) -> Issue {
      Issue(["detailing"], problem, suggestion: suggestion)
    }
    guard request.isDistilled, models.upsampler != nil, request.method == .euler else {
      throw fail(
        "samples a distilled model in two stages",
        "Use a distilled model and a spatial upsampler, or leave the recipe out.")
    }
    guard request.generatedKeyframes == .count(0) else {
      throw fail("chooses the keyframes itself", "Leave the keyframes out.")
    }
    for condition in request.conditions {
      guard condition.modality == .video, case .image = condition.kind else {
        throw fail("can only be combined with images", "Leave \(condition.path) out.")
      }
    }
    guard try checkpoint.supportsGeneratedKeyframes else {
      throw fail(
        "needs a transformer that was trained to generate keyframes "
          + "(`use_keyframes_abs_pos_embedding` is not set)", "Leave the recipe out.")
    }
    guard rounds == 0 || models.temporalUpsampler != nil else {
      throw Issue(
        ["temporalUpsampler"], "is missing, but each round upsamples the video in time",
        suggestion: "Give a temporal latent upsampler, or no rounds.")
    }
  }

  private static func check(upsampler path: String, channels: Int) throws {
    let configuration = try Issue.within("temporalUpsampler") {
      try LatentUpsampler(path: path).configuration
    }
    guard configuration.isTemporal, configuration.spatialScale.value == 1,
      configuration.inputChannels == channels
    else {
      throw Issue(
        ["temporalUpsampler", .file(path)],
        "is not a temporal upsampler for \(channels) latent channels",
        suggestion: "Use the model's own temporal latent upsampler.")
    }
  }
}
