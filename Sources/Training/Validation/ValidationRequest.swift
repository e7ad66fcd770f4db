import Generation
import LTX
import Support

/// A validation sample as a generation request, with the configuration keys that its values come
/// from.
struct ValidationRequest {
  /// The index of the sample, from 0.
  let index: Int
  let request: GenerationRequest
  /// The file extension: `mp4`, `png` for a single frame, `wav` for audio alone, as in the official
  /// trainer.
  let fileExtension: String
  let notes: [String]

  private let sample: ValidationSample

  /// - Parameter blocks: the number of blocks of the transformer; guidance perturbs no others.
  /// - Throws: `ConfigurationProblems` if the sample can't be generated.
  init(_ index: Int, of c: TrainingConfiguration, blocks: Int) throws {
    let section = c.validation
    let sample = section.samples[index]
    self.index = index
    self.sample = sample
    func fail(_ key: String, _ problem: String) -> ConfigurationProblems {
      c.problem(key, Self.message(problem, sample: index))
    }
    let given = Set(sample.conditions.filter(\.isWhole).map(\.modality))
    let (givesVideo, givesAudio) = (given.contains(.video), given.contains(.audio))
    let dims = sample.videoDims ?? section.videoDims
    if givesVideo, !section.generateAudio {
      throw fail(
        "validation.generate_audio",
        "must be true for a sample with video_to_audio, which has nothing else to generate"
      )
    }
    if givesVideo, dims.frames == 1 {
      throw fail(
        Self.dimsKey(sample, index),
        "must have more than one frame for video_to_audio, which generates audio")
    }
    if givesAudio, !section.generateVideo {
      throw fail(
        "validation.generate_video",
        "must be true for a sample with audio_to_video, which has nothing else to generate"
      )
    }
    guard section.generateVideo || section.generateAudio else {
      throw fail(
        "validation.generate_video",
        "and generate_audio are both false, so nothing would be generated"
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
    request.conditions = sample.conditions
    // Blocks that the model does not have are ignored, as in the official trainer.
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
    request.guidance = PerModality(
      video: guidance(
        section.videoCFGScale, section.videoSTGScale, section.videoModalityGuidanceScale),
      audio: guidance(
        section.audioCFGScale, section.audioSTGScale, section.audioModalityGuidanceScale))
    if perturbed.isEmpty, section.videoSTGScale != 0 || section.audioSTGScale != 0 {
      notes.append(
        "validation.stg_blocks: has none of the model's blocks 0 to \(blocks - 1); samples are "
          + "generated without this guidance"
      )
    }
    self.request = request
    self.notes = notes
  }

  /// Converts a problem of the request to one of the configuration, with its key and the number of
  /// the sample.
  func problem(_ issue: Issue, in c: TrainingConfiguration) -> ConfigurationProblems {
    let (key, rest) = keys.entry(for: issue.subject) ?? (sampleKey, issue.subject)
    let place = rest.isEmpty ? "" : "\(rest.pathDescription): "
    return c.problem(key, Self.message(place + issue.message, sample: index))
  }

  private static func message(_ problem: String, sample index: Int) -> String {
    "(sample \(index + 1)): \(problem)"
  }

  private static func dimsKey(_ sample: ValidationSample, _ index: Int) -> String {
    sample.videoDims == nil ? "validation.video_dims" : "validation.samples[\(index)].video_dims"
  }

  private var sampleKey: String { "validation.samples[\(index)]" }

  /// The keys that a request's values come from.
  private var keys: SubjectTable {
    let dims = Self.dimsKey(sample, index)
    var keys: SubjectTable = [
      ["width"]: dims, ["height"]: dims, ["frames"]: dims,
      ["prompts"]: "\(sampleKey).prompt",
      ["frameRate"]: "validation.frame_rate",
      ["steps"]: "validation.inference_steps",
      ["checkpoint"]: "model.model_path",
      ["textEncoder"]: "model.text_encoder_path",
      ["output"]: "output_dir",
    ]
    for modality in Modality.allCases {
      let name = Issue.PathComponent.name(modality.rawValue)
      keys["guidance", name, "cfg"] = "validation.\(modality)_cfg_scale"
      keys["guidance", name, "stg"] = "validation.\(modality)_stg_scale"
      keys["guidance", name, "modality"] = "validation.\(modality)_modality_guidance_scale"
      keys["guidance", name, "rescale"] = "validation.guidance_rescale"
      keys["guidance", name, "stgBlocks"] = "validation.stg_blocks"
    }
    for (position, condition) in sample.conditions.enumerated() {
      let prefix = "\(sampleKey).conditions[\(position)]."
      keys["conditions", .index(position)] = prefix + condition.fileKey
      for (part, key) in condition.partKeys {
        keys["conditions", .index(position), part] = prefix + key
      }
    }
    return keys
  }
}
