import Generation
import LTX

/// A validation sample as a request for generation, and the way back from what is wrong with it to
/// the configuration's key.
struct ValidationRequest {
  /// From 0.
  let index: Int
  let request: GenerationRequest
  /// `mp4`, `png` for a single frame, `wav` where only sound is made; as the official trainer names
  /// them.
  let fileExtension: String
  let notes: [String]

  private let sample: ValidationSample
  /// What each condition of the sample has become.
  private let conditions: [GenerationCondition]

  /// - Parameter blocks: of the transformer; guidance perturbs only blocks that there are.
  /// - Throws: `ConfigurationProblems` for what can't be made.
  init(_ index: Int, of c: TrainingConfiguration, blocks: Int) throws {
    let section = c.validation
    let sample = section.samples[index]
    self.index = index
    self.sample = sample
    func fail(_ key: String, _ problem: String) -> ConfigurationProblems {
      c.problem(key, Self.message(problem, sample: index))
    }
    let conditions = sample.conditions.map(GenerationCondition.init)
    self.conditions = conditions
    let givesVideo = sample.conditions.contains {
      if case .videoToAudio = $0 { true } else { false }
    }
    let givesAudio = sample.conditions.contains {
      if case .audioToVideo = $0 { true } else { false }
    }
    let dims = sample.videoDims ?? section.videoDims
    if givesVideo, !section.generateAudio {
      throw fail(
        "validation.generate_audio",
        "video_to_audio leaves nothing to generate without sound; set it to true"
      )
    }
    if givesVideo, dims.frames == 1 {
      throw fail(
        Self.dimsKey(sample, index), "a single frame has no sound to generate; ask for more frames")
    }
    if givesAudio, !section.generateVideo {
      throw fail(
        "validation.generate_video",
        "audio_to_video leaves nothing to generate without video; set it to true"
      )
    }
    guard section.generateVideo || section.generateAudio else {
      throw fail(
        "validation.generate_video", "and generate_audio are both false; nothing would be generated"
      )
    }
    fileExtension = section.generateVideo || givesVideo ? dims.frames == 1 ? "png" : "mp4" : "wav"

    var notes: [String] = []
    var request = GenerationRequest(prompts: [sample.prompt])
    request.negativePrompt = section.negativePrompt
    (request.width, request.height, request.frames) = (dims.width, dims.height, dims.frames)
    request.frameRate = section.frameRate
    request.steps = section.inferenceSteps
    request.seed = UInt64(bitPattern: Int64(sample.seed ?? section.seed))
    request.hasAudio = section.generateAudio || givesAudio
    request.conditions = conditions
    // Blocks that the model has not are not perturbed, as in the official trainer.
    let perturbed = Set(section.stgBlocks ?? Array(0..<blocks)).intersection(0..<blocks)
    func guidance(_ cfg: Double, _ stg: Double, _ modality: Double) -> GuidanceChoice {
      var choice = GuidanceChoice()
      (choice.cfg, choice.modality, choice.rescale, choice.skipSteps) = (
        cfg, modality, section.guidanceRescale, 0
      )
      choice.stg = perturbed.isEmpty ? 0 : stg
      choice.stgBlocks = perturbed
      return choice
    }
    request.videoGuidance = guidance(
      section.videoCFGScale, section.videoSTGScale, section.videoModalityGuidanceScale)
    request.audioGuidance = guidance(
      section.audioCFGScale, section.audioSTGScale, section.audioModalityGuidanceScale)
    if perturbed.isEmpty, section.videoSTGScale != 0 || section.audioSTGScale != 0 {
      notes.append(
        "validation.stg_blocks names none of the model's blocks 0 to \(blocks - 1); samples are made without this guidance"
      )
    }
    self.request = request
    self.notes = notes
  }

  /// What is wrong with the request, told with the sample's number and the key that it comes from.
  func problem(_ error: GenerationError, in c: TrainingConfiguration) -> ConfigurationProblems {
    c.problem(key(of: error), Self.message(error.problem, sample: index))
  }

  private static func message(_ problem: String, sample index: Int) -> String {
    "(sample \(index + 1)): \(problem)"
  }

  private static func dimsKey(_ sample: ValidationSample, _ index: Int) -> String {
    sample.videoDims == nil ? "validation.video_dims" : "validation.samples[\(index)].video_dims"
  }

  private func key(of error: GenerationError) -> String {
    switch error.option {
    case .width, .height, .frames: return Self.dimsKey(sample, index)
    case .prompt: return "validation.samples[\(index)].prompt"
    case .frameRate: return "validation.frame_rate"
    case .steps: return "validation.inference_steps"
    case .videoCFG: return "validation.video_cfg_scale"
    case .videoSTG: return "validation.video_stg_scale"
    case .videoModality: return "validation.video_modality_guidance_scale"
    case .audioCFG: return "validation.audio_cfg_scale"
    case .audioSTG: return "validation.audio_stg_scale"
    case .audioModality: return "validation.audio_modality_guidance_scale"
    case .videoRescale, .audioRescale: return "validation.guidance_rescale"
    case .videoSTGBlocks, .audioSTGBlocks: return "validation.stg_blocks"
    case .checkpoint: return "model.model_path"
    case .textEncoder: return "model.text_encoder_path"
    case .output: return "output_dir"
    default: break
    }
    // What is left is of a condition; its message begins with the file.
    func isMeant(_ condition: GenerationCondition) -> Bool {
      condition.option == error.option || (error.option == .mask && condition.maskPath != nil)
    }
    let named = conditions.firstIndex {
      isMeant($0) && error.problem.contains((error.option == .mask ? $0.maskPath : nil) ?? $0.path)
    }
    guard let position = named ?? conditions.firstIndex(where: isMeant) else {
      return "validation.samples[\(index)]"
    }
    let key = sample.conditions[position].key(of: error)
    return "validation.samples[\(index)].conditions[\(position)].\(key)"
  }
}

extension GenerationCondition {
  init(_ condition: ValidationCondition) {
    switch condition {
    case .firstFrame(let path): self = .firstFrame(path: path)
    case .prefix(.video(let path), let frames, _): self = .prefix(path: path, frames: frames)
    case .prefix(.audio(let path), _, let seconds):
      self = .audioPrefix(path: path, seconds: seconds)
    case .suffix(.video(let path), let frames, _): self = .suffix(path: path, frames: frames)
    case .suffix(.audio(let path), _, let seconds):
      self = .audioSuffix(path: path, seconds: seconds)
    case .spatialCrop(let path, let region): self = .crop(path: path, region: PixelRegion(region))
    case .mask(.video(let path), let mask): self = .keep(path: path, mask: mask)
    case .mask(.audio(let path), let mask): self = .audioKeep(path: path, mask: mask)
    case .reference(.video(let path), let space, let time, let isShown):
      self = .reference(path: path, scale: Scale(space: space, time: time), isShown: isShown)
    case .reference(.audio(let path), _, _, _): self = .audioReference(path: path)
    case .videoToAudio(let path): self = .video(path: path)
    case .audioToVideo(let path): self = .audio(path: path)
    }
  }
}

extension ValidationCondition {
  /// The key that an error is about.
  fileprivate func key(of error: GenerationError) -> String {
    if error.option == .mask { return "mask" }
    switch (self, error.part) {
    case (.firstFrame, _): return "image_or_video"
    case (.prefix(.video, _, _), .length), (.suffix(.video, _, _), .length): return "num_frames"
    case (.prefix(.audio, _, _), .length), (.suffix(.audio, _, _), .length): return "duration"
    case (.spatialCrop, .region): return "spatial_region"
    case (.reference, .scale): return "downscale_factor"
    default: return isOfVideo ? "video" : "audio"
    }
  }
}

extension PixelRegion {
  init(_ region: SpatialRegion) {
    self.init(top: region.top, left: region.left, bottom: region.bottom, right: region.right)
  }
}
