import Generation
import LTX
import NN
import TensorFiles
import Torch

/// The VAEs at work: what was read becomes what is stored. Each is loaded when it is first needed.
final class MediaEncoder {
  /// A file of a batch.
  struct Place: Hashable {
    let sample: Int
    let file: Int
  }

  private let plan: PreprocessingPlan
  private var loadedVideo: VideoEncoder?
  private var loadedAudio: AudioEncoder?

  /// Loads the models that these folders are sure to need, so that what is wrong with them is told
  /// at once.
  init(_ plan: PreprocessingPlan, _ folders: Set<CacheFolder>) throws {
    self.plan = plan
    if !folders.isDisjoint(with: [.latents, .referenceLatents]) { _ = try video() }
    if folders.contains(.referenceAudioLatents) { _ = try audioEncoder() }
  }

  private func video() throws -> VideoEncoder {
    let encoder =
      try loadedVideo
      ?? plan.checkpoint.videoEncoder(dtype: plan.options.dtype, device: plan.options.device)
    loadedVideo = encoder
    return encoder
  }

  /// Sound is encoded in float32, as by the reference.
  private func audioEncoder() throws -> AudioEncoder {
    let encoder =
      try loadedAudio ?? plan.checkpoint.audioEncoder(dtype: .float32, device: plan.options.device)
    loadedAudio = encoder
    return encoder
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
    let video = try video()
    return try withoutGrad {
      try video.encode(
        pixels.count == 1 ? pixels[0] : Tensor.cat(pixels), tiling: plan.options.tiling
      ).to(
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
      guard let latent = try latent?.get() else {
        preconditionFailure("pixels that were not encoded")
      }
      return [
        ("latents", .tensor(latent)), ("num_frames", .int(latent.size(1))),
        ("height", .int(latent.size(2))),
        ("width", .int(latent.size(3))), ("fps", .float(frameRate)),
      ]
    case .audio(let clip):
      let encoder = try audioEncoder()
      let latent = try withoutGrad {
        try encoder(AudioTensors.waveform(clip), sampleRate: clip.sampleRate).squeeze(0).to(.cpu)
      }
      return [
        ("latents", .tensor(latent)), ("num_time_steps", .int(latent.size(1))),
        ("frequency_bins", .int(latent.size(2))), ("duration", .float(clip.duration)),
      ]
    case .mask(let mask): return [("mask", .tensor(mask))]
    case .audioMask(let path):
      let configuration = try AudioVAEConfiguration(plan.checkpoint.config)
      let audio = plan.check.file(.audioLatents, sample)
      guard audio.exists, let steps = try SampleFile(path: audio.path).number("num_time_steps")
      else {
        return nil
      }
      let reader = SampleAudioReader(
        isCompatible: plan.options.isCompatible, track: plan.options.audioTrack)
      return [
        ("mask", .tensor(try reader.mask(path, steps: Int(steps), configuration: configuration)))
      ]
    }
  }
}
