import Captions
import LTX
import LocalCaptioning
import Support
import Torch

/// The options of a model in this process.
struct LocalCaptionerOptions {
  /// The folder of a Qwen2.5-Omni or Qwen3-Omni model.
  let folder: String
  let compute: ComputeOptions
  let dtype: ComputeDType
  /// The device's memory to use; nil for what is free on a GPU, and no limit on a CPU.
  let memory: MemoryBudget?
  let uses8Bit: Bool
  let answers: QwenOmniCaptioner.Options
}

/// A model that runs in this process. It answers for one clip at a time.
final class LocalCaptioner: Captioner {
  let summary: String
  var maxConcurrency: Int { 1 }

  private let model: QwenOmniCaptioner
  private let options: QwenOmniCaptioner.Options

  /// - Throws: `Issue` and others for a device or a folder that can't be used.
  init(_ options: LocalCaptionerOptions) throws {
    let device = try options.compute.device(of: ProcessRanks() ?? .single)
    try device.prepare()
    options.compute.threads?.apply()
    try options.compute.require(options.dtype)
    let limit = try MemorySettings(memory: options.memory).limitBytes(on: device)
    model = try QwenOmniCaptioner(
      folder: options.folder, device: device, dtype: options.dtype.dtype,
      use8Bit: options.uses8Bit, memoryLimit: limit)
    self.options = options.answers
    summary = "\(options.folder) on \(device)" + (options.uses8Bit ? " in int8" : "")
  }

  func request(for clip: MediaClip, _ instructions: CaptionInstructions) throws -> CaptionRequest {
    let request = try model.request(path: clip.path, options) { clip in
      instructions.text(for: CaptionInstructions.Content(clip))
    }
    return CaptionRequest { [model, options] progress in
      let answer = try model.answer(request, options) { progress($0) }
      return ModelAnswer(text: answer.text, isCut: answer.isTruncated, notes: request.notes)
    }
  }

  func cancel() { model.cancel() }
}

extension CaptionInstructions.Content {
  fileprivate init(_ clip: CaptionClip) {
    if clip.image != nil {
      self = .image
    } else if clip.frames != nil {
      self = .video(hasAudio: clip.audio != nil)
    } else {
      self = .audio
    }
  }
}
