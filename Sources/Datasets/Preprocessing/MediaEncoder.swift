import Inference
import LTX
import NN
import TensorFiles
import Torch

/// The VAEs at work: what was read becomes what is stored.
struct MediaEncoder {
  /// A file of a batch.
  struct Place: Hashable {
    let sample: Int
    let file: Int
  }

  private let plan: PreprocessingPlan
  private let video: VideoEncoder?
  private let audio: AudioEncoder?
  private let audioConfiguration: AudioVAEConfiguration?

  /// Loads the models that these folders need.
  init(_ plan: PreprocessingPlan, _ folders: Set<CacheFolder>) throws {
    self.plan = plan
    let options = plan.options
    video =
      folders.isDisjoint(with: [.latents, .referenceLatents])
      ? nil : try plan.checkpoint.videoEncoder(dtype: options.dtype, device: options.device)
    // Sound is encoded in float32, as by the reference.
    audio =
      folders.isDisjoint(with: [.audioLatents, .referenceAudioLatents])
      ? nil : try plan.checkpoint.audioEncoder(dtype: .float32, device: options.device)
    audioConfiguration =
      folders.contains(.audioMasks) ? try AudioVAEConfiguration(plan.checkpoint.config) : nil
  }

  /// The video latents of a batch, clips of one size encoded together.
  ///
  /// - Returns: [C, F, H, W] on the CPU for each, or what went wrong.
  /// - Throws: `TorchError` when memory runs out.
  func latents(_ batch: [PreparedSample]) throws -> [Place: Result<Tensor, any Error>] {
    var groups: [[Int]: [(Place, Tensor)]] = [:]
    for (sample, prepared) in batch.enumerated() {
      for (file, content) in prepared.files.enumerated() {
        guard case .pixels(let pixels, _) = content.content else { continue }
        groups[pixels.shape, default: []].append((Place(sample: sample, file: file), pixels))
      }
    }
    var latents: [Place: Result<Tensor, any Error>] = [:]
    for group in groups.values {
      do {
        let encoded = try encode(group.map(\.1))
        for (index, member) in group.enumerated() {
          latents[member.0] = .success(try encoded.select(0, index))
        }
      } catch let error as TorchError where error.kind == .outOfMemory {
        throw error
      } catch {
        for member in group { latents[member.0] = .failure(error) }
      }
    }
    return latents
  }

  private func encode(_ pixels: [Tensor]) throws -> Tensor {
    guard let video else { preconditionFailure("pixels without a video encoder") }
    return try withoutGrad {
      try video.encode(pixels.count == 1 ? pixels[0] : Tensor.cat(pixels), tiling: plan.options.tiling).to(
        .cpu)
    }
  }

  /// What is stored of a file; nil for a mask whose sound there is not.
  ///
  /// - Parameter latent: of pixels, from `latents`.
  func values(
    _ file: PreparedFile, _ sample: DatasetSample, _ latent: Result<Tensor, any Error>?
  ) throws -> [(key: String, value: PickleValue)]? {
    switch file.content {
    case .pixels(_, let frameRate):
      guard let latent = try latent?.get() else { preconditionFailure("pixels that were not encoded") }
      return [
        ("latents", .tensor(latent)), ("num_frames", .int(latent.size(1))), ("height", .int(latent.size(2))),
        ("width", .int(latent.size(3))), ("fps", .float(frameRate)),
      ]
    case .sound(let sound):
      guard let audio else { preconditionFailure("sound without an audio encoder") }
      let latent = try withoutGrad {
        try audio(AudioTensors.waveform(sound), sampleRate: sound.sampleRate).squeeze(0).to(.cpu)
      }
      return [
        ("latents", .tensor(latent)), ("num_time_steps", .int(latent.size(1))),
        ("frequency_bins", .int(latent.size(2))), ("duration", .float(sound.duration)),
      ]
    case .mask(let mask): return [("mask", .tensor(mask))]
    case .soundMask(let path):
      guard let audioConfiguration else { preconditionFailure("a mask of sound without a configuration") }
      let sound = plan.check.file(.audioLatents, sample)
      guard sound.exists, let steps = try SampleFile(path: sound.path).number("num_time_steps") else {
        return nil
      }
      let reader = SoundReader(isCompatible: plan.options.isCompatible)
      return [("mask", .tensor(try reader.mask(path, steps: Int(steps), configuration: audioConfiguration)))]
    }
  }
}
