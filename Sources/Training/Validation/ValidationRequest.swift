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

  /// The keys that the request's values come from.
  private let subjects: SubjectTable

  /// - Parameter blocks: the number of blocks of the transformer; guidance perturbs no others.
  /// - Throws: `ConfigurationProblems` if the sample can't be generated.
  init(_ index: Int, of c: TrainingConfiguration, blocks: Int) throws {
    let section = c.validation
    let sample = section.samples[index]
    self.index = index
    let subjects = section.subjects(ofSample: index)
    self.subjects = subjects
    func fail(_ subject: [Issue.PathComponent], _ problem: String) -> ConfigurationProblems {
      Self.problem(Issue(subject, problem), subjects, sample: index, in: c)
    }
    let given = Set(sample.conditions.filter(\.isWhole).map(\.modality))
    let (givesVideo, givesAudio) = (given.contains(.video), given.contains(.audio))
    let dims = sample.videoDims ?? section.videoDims
    if givesVideo, !section.generateAudio {
      throw fail(
        ["generates", "audio"],
        "must be true for a sample with video_to_audio, which has nothing else to generate"
      )
    }
    if givesVideo, dims.frames == 1 {
      throw fail(
        ["frames"],
        "must have more than one frame for video_to_audio, which generates audio")
    }
    if givesAudio, !section.generateVideo {
      throw fail(
        ["generates", "video"],
        "must be true for a sample with audio_to_video, which has nothing else to generate"
      )
    }
    guard section.generateVideo || section.generateAudio else {
      throw fail(
        ["generates", "video"],
        "is false, and so is `generates.audio`: nothing would be generated"
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
      let issue = Issue(
        ["guidance", "video", "stgBlocks"],
        "has none of the model's blocks 0 to \(blocks - 1); samples are generated without this "
          + "guidance")
      notes.append(subjects.describe(issue))
    }
    self.request = request
    self.notes = notes
  }

  /// Converts a problem of the request to one of the configuration, with its key and the number of
  /// the sample.
  func problem(_ issue: Issue, in c: TrainingConfiguration) -> ConfigurationProblems {
    Self.problem(issue, subjects, sample: index, in: c)
  }

  private static func problem(
    _ issue: Issue, _ subjects: SubjectTable, sample index: Int, in c: TrainingConfiguration
  ) -> ConfigurationProblems {
    let (key, rest) =
      subjects.entry(for: issue.subject) ?? (subjects["sample"] ?? "", issue.subject)
    let place = rest.isEmpty ? "" : "\(rest.pathDescription): "
    return c.problem(
      ConfigurationKey(name: key),
      "(sample \(index + 1)): \(place)\(subjects.translate(issue.message))")
  }
}
