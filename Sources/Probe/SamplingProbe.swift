import LTX
import NN
import Support
import Torch

func probePositions(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let (shape, fps) = try inputs.videoShape()
  let video = try VideoTokens.positions(
    batch: shape[0], frames: shape[2], rows: shape[3], columns: shape[4], fps: fps,
    factors: options.compression())
  var outputs = [(key: "video_positions", tensor: video)]
  if inputs.has("audio_frames") {
    let frames = try inputs.integer("audio_frames")
    guard (1..<ProbeInputs.maxTokens).contains(frames) else {
      throw Issue(
        ["audio_frames"], "is \(frames) (expected 1 to \(ProbeInputs.maxTokens - 1))")
    }
    outputs.append(
      ("audio_positions", try AudioTokens().positions(batch: shape[0], frames: frames)))
  }
  return outputs
}

extension Probe.Options {
  /// The compression factors of the model's video VAE; the usual ones without a model.
  func compression() throws -> CompressionFactors {
    try model.map { try Checkpoint(path: $0).videoCompression() } ?? .usual
  }
}

func probeSigmas(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let kind = try inputs.integer("kind")
  let tokens = try inputs.integer("tokens", default: 4096)
  guard tokens > 0 else { throw Issue(["tokens"], "must be positive (got \(tokens))") }
  let sigmas: [Float]
  switch kind {
  case 0: sigmas = try NoiseSchedule.shifted(steps: inputs.integer("steps"), tokens: tokens)
  case 1: sigmas = NoiseSchedule.distilled
  case 2: sigmas = NoiseSchedule.distilledSecondStage
  default:
    throw Issue(
      ["kind"], "is \(kind); expected 0 (LTX-2), 1 (distilled) or 2 (distilled second stage)"
    )
  }
  if kind != 0 { _ = try inputs.optionalInt("steps", "1") }
  return [("sigmas", try Tensor(sigmas))]
}

func probeConditioning(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let (shape, fps) = try inputs.videoShape()
  guard shape[0] == 1 else {
    throw Issue(["video_shape"], "is \(shape) (expected a batch of 1)")
  }
  let grid = VideoGrid(
    batch: 1, channels: shape[1], frames: shape[2], rows: shape[3], columns: shape[4], fps: fps,
    factors: try options.compression())
  var conditions: [LatentCondition] = []
  while inputs.has("\(conditions.count).latent") || inputs.has("\(conditions.count).kind") {
    let i = conditions.count
    let kind = try inputs.integer("\(i).kind")
    if kind == 3 {
      conditions.append(
        .generatedKeyframes(
          frames: try inputs.int("\(i).frames", "n\(i)").array(of: Int.self),
          start: try inputs.optionalFloat("\(i).latent", "1 C\(i) n\(i) h\(i) w\(i)")))
      continue
    }
    let latent = try inputs.float("\(i).latent", "1 C\(i) f\(i) h\(i) w\(i)")
    let strength = try inputs.number("\(i).strength", default: 1)
    let frame = try inputs.integer("\(i).frame", default: 0)
    let scale = try inputs.optionalInt("\(i).scale", "2")?.array(of: Int.self) ?? [1, 1]
    guard scale.allSatisfy({ (1...4096).contains($0) }) else {
      throw Issue(
        [.name("\(i).scale")], "is \(scale) (expected two factors from 1 to 4096, space and time)")
    }
    switch kind {
    case 0: conditions.append(.replace(latent: latent, latentFrame: frame, strength: strength))
    case 1: conditions.append(.keyframe(latent: latent, frame: frame, strength: strength))
    case 2:
      conditions.append(
        .reference(
          latent: latent, scale: ReferenceScale(space: scale[0], time: scale[1]),
          strength: strength))
    default:
      throw Issue(
        [.name("\(i).kind")],
        "is \(kind) (expected 0 (in place), 1 (keyframe), 2 (reference) or 3 (generated keyframes))"
      )
    }
  }
  let sequence = try grid.sequence(conditions)
  var outputs: [(key: String, tensor: Tensor)] = [
    ("video.clean", sequence.clean), ("video.denoise_mask", sequence.denoiseMask),
    ("video.positions", sequence.positions),
    ("video.initial", try sequence.start ?? .zeros(like: sequence.clean)),
  ]
  if let mask = sequence.keyframesMask {
    outputs.append(("video.keyframes_mask", try mask.to(.int64)))
  }
  return outputs + (sequence.selfAttentionMask.map { [("video.self_attention_mask", $0)] } ?? [])
}

func probeDenoise(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  try inputs.fitTransformer(options)
  let sigmas: [Float] = try inputs.float("sigmas", "N").array()
  guard sigmas.count >= 2, sigmas.dropLast().allSatisfy({ $0 != 0 }), sigmas.allSatisfy(\.isFinite)
  else {
    throw Issue(
      ["sigmas"],
      "are \(sigmas) (expected at least two numbers, and only the last may be 0)")
  }
  let stgBlocks = try inputs.blocks("stg_blocks", "n")
  let noiseLevel = try inputs.number("noise_scale", default: 1)
  let start = try PerModality { try inputs.sampledModality($0, stgBlocks, noiseLevel, options) }
  guard !start.present().isEmpty else {
    throw Issue(
      "the inputs video.noise and audio.noise are both missing. Give at least one of them")
  }
  let ancestral = try inputs.ancestralNoise(steps: sigmas.count - 1, start)
  let transformer = try Checkpoint(path: options.requireModel()).transformer(
    LoadPolicy(
      dtype: options.dtype, device: options.device, adapters: options.adapters(dtype: options.dtype)
    ), modalities: start.present())
  var outputs: [(key: String, tensor: Tensor)] = []
  func record(_ prefix: String, _ samples: PerModality<SampledModality?>) {
    for (modality, sample) in samples.pairs {
      if let sample { outputs.append(("\(prefix)\(modality).latent", sample.latent)) }
    }
  }
  var sampler = Sampler(transformer: transformer)
  sampler.ancestral = ancestral
  let result = try withInference {
    try sampler.sample(start, sigmas: sigmas) { record("step.\($0).", $1) }
  }
  record("", result)
  return outputs
}

extension ProbeInputs {
  /// The limit of a number of tokens: far above any real one, and small enough not to overflow.
  static let maxTokens = 1 << 28

  /// `video_shape` (B, C, F, H, W) and `fps`.
  func videoShape() throws -> (shape: [Int], fps: Double) {
    let shape = try int("video_shape", "5").array(of: Int.self)
    let fps = try number("fps")
    guard shape.allSatisfy({ $0 > 0 }), fps > 0 else {
      throw Issue(["video_shape"], "is \(shape) and fps \(fps); all must be positive")
    }
    var count = 1
    for size in shape {
      let (product, overflows) = count.multipliedReportingOverflow(by: size)
      guard !overflows, product < Self.maxTokens << 10 else {
        throw Issue(["video_shape"], "is \(shape); that is too large")
      }
      count = product
    }
    return (shape, fps)
  }

  func sampledModality(
    _ modality: Modality, _ stgBlocks: Set<Int>?, _ noiseLevel: Double, _ options: Probe.Options
  ) throws -> SampledModality? {
    guard has("\(modality).noise") else { return nil }
    let isVideo = modality == .video
    let (t, c, s, w) = isVideo ? ("T", "C", "S", "W") : ("Ta", "Ca", "Sa", "Wa")
    func here(_ tensor: Tensor, _ dtype: DType? = nil) throws -> Tensor {
      try tensor.to(options.device, dtype)
    }
    let noise = try here(float("\(modality).noise", "B \(t) \(c)"), options.dtype)
    let positions = try here(float("\(modality).positions", "B \(isVideo ? 3 : 1) \(t) 2"))
    let context = try here(float("\(modality).context", "B \(s) \(w)"), options.dtype)
    let clean = try optionalFloat("\(modality).clean", "B \(t) \(c)").map {
      try here($0, options.dtype)
    }
    let mask = try optionalFloat("\(modality).denoise_mask", "B \(t)").map { try here($0) }
    var guidance = Guidance()
    guidance.cfg = try number("\(modality).cfg", default: 1)
    guidance.stg = try number("\(modality).stg", default: 0)
    guidance.modality = try number("\(modality).modality", default: 1)
    guidance.rescale = try number("\(modality).rescale", default: 0)
    guidance.skipSteps = try integer("\(modality).skip_step", default: 0)
    guidance.stgBlocks = stgBlocks
    guard (0..<Int(Int32.max)).contains(guidance.skipSteps) else {
      throw Issue(
        [.name("\(modality).skip_step")],
        "is \(guidance.skipSteps) (expected 0 or a small positive number)")
    }
    var sequence = LatentSequence(
      clean: try clean ?? .zeros(like: noise),
      denoiseMask: try mask ?? .ones([noise.size(0), noise.size(1)], device: options.device),
      positions: positions)
    sequence.selfAttentionMask = try optionalFloat("\(modality).self_attention_mask", "B \(t) \(t)")
      .map {
        try here($0)
      }
    sequence.start = try optionalFloat("\(modality).initial", "B \(t) \(c)").map {
      try here($0, options.dtype)
    }
    sequence.keyframesMask = try keyframesMask(modality).map { try here($0) }
    return try SampledModality(
      noise: noise, sequence: sequence, context: context,
      negativeContext: try optionalFloat("\(modality).negative_context", "B \(s) \(w)").map {
        try here($0, options.dtype)
      },
      guidance: guidance, noiseLevel: noiseLevel)
  }

  /// The noise of ancestral steps for `sampler` 1; nil for `sampler` 0.
  fileprivate func ancestralNoise(
    steps: Int, _ start: PerModality<SampledModality?>
  ) throws -> AncestralNoise? {
    let sampler = try integer("sampler", default: 0)
    let eta = try number("eta", default: 1)
    let scale = try number("s_noise", default: 1)
    guard sampler == 0 || sampler == 1 else {
      throw Issue(["sampler"], "is \(sampler) (expected 0 (Euler) or 1 (ancestral Euler))")
    }
    guard (0...1).contains(eta) else {
      throw Issue(["eta"], "is \(eta) (expected a number from 0 to 1)")
    }
    guard sampler == 1 else { return nil }
    fix("steps", steps, "the number of steps")
    let noise = try start.compactMap { modality, sample -> Tensor? in
      let shape = "steps B \(modality == .video ? "T C" : "Ta Ca")"
      let noise =
        try eta == 0
        ? optionalFloat("\(modality).step_noise", shape)
        : float("\(modality).step_noise", shape)
      return try noise?.to(sample.latent.device, sample.latent.dtype)
    }
    return AncestralNoise(eta: eta, scale: scale) { step, modality, shape in
      guard let noise = noise[modality] else {
        throw Issue.shape(.name("\(modality).step_noise"), [], expected: "\(shape)")
      }
      return try noise.select(0, step)
    }
  }
}
