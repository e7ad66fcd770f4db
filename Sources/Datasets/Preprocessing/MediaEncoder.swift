import Generation
import LTX
import Media
import NN
import TensorFiles
import Torch

/// A sample whose files are encoded but not written yet.
struct EncodedSample: Sendable {
  let sample: PreparedSample
  fileprivate(set) var files: [(file: PreparedFile, values: Result<CachedValues, any Error>)] = []

  /// Returns the values of one of the files; nil if it was not encoded.
  func values(of folder: CacheFolder) -> CachedValues? {
    guard
      case .success(let values)? = files.first(where: { $0.file.artifact.folder == folder })?
        .values
    else { return nil }
    return values
  }
}

/// Encodes samples with the VAEs. Each VAE is loaded when it is first needed.
final class MediaEncoder {
  private let plan: PreprocessingPlan
  private var loadedVideo: VideoEncoder?
  private var loadedAudio: AudioEncoder?

  /// Loads the models that these kinds of files certainly need, so that a failure is reported at
  /// once.
  init(_ plan: PreprocessingPlan, _ artifacts: [any Artifact]) throws {
    self.plan = plan
    let components = artifacts.filter(\.preloadsModel).compactMap(\.component)
    if components.contains(.videoVAE) { _ = try video() }
    if components.contains(.audioVAE) { _ = try audio() }
  }

  private func video() throws -> VideoEncoder {
    let encoder =
      try loadedVideo
      ?? plan.checkpoint.videoEncoder(dtype: plan.options.dtype, device: plan.options.device)
    loadedVideo = encoder
    return encoder
  }

  /// Audio is encoded in float32, as upstream does.
  private func audio() throws -> AudioEncoder {
    let encoder =
      try loadedAudio ?? plan.checkpoint.audioEncoder(dtype: .float32, device: plan.options.device)
    loadedAudio = encoder
    return encoder
  }

  /// Encodes the samples of a batch, clips of one size together.
  ///
  /// - Returns: the samples in their order. If memory runs out while a single file is encoded, that
  ///   file has the error and the rest of the batch is not encoded.
  /// - Throws: `TorchError` if memory runs out while clips are encoded.
  func encode(_ batch: [PreparedSample]) throws -> [EncodedSample] {
    var encoded = batch.map { EncodedSample(sample: $0) }
    try encodeClips(&encoded)
    for index in encoded.indices {
      for file in encoded[index].sample.files {
        let values: Result<CachedValues, any Error>
        switch file.content {
        case .pixels: continue
        case .audio(let clip): values = Result { try encode(clip) }
        case .values(let stored): values = .success(stored)
        case .dependent(let make): values = Result { [sample = encoded[index]] in try make(sample) }
        }
        encoded[index].files.append((file, values))
        if case .failure(let error as TorchError) = values, error.kind == .outOfMemory {
          return encoded
        }
      }
    }
    return encoded
  }

  private func encodeClips(_ samples: inout [EncodedSample]) throws {
    struct Group {
      let shape: [Int]
      var clips: [(sample: Int, file: PreparedFile, pixels: Tensor, frameRate: Double)] = []
    }
    var groups: [Group] = []
    for (index, sample) in samples.enumerated() {
      for file in sample.sample.files {
        guard case .pixels(let pixels, let frameRate) = file.content else { continue }
        let place = groups.firstIndex { $0.shape == pixels.shape } ?? groups.count
        if place == groups.count { groups.append(Group(shape: pixels.shape)) }
        groups[place].clips.append((index, file, pixels, frameRate))
      }
    }
    for group in groups {
      let latents = Result { try encode(group.clips.map(\.pixels)) }
      if case .failure(let error as TorchError) = latents, error.kind == .outOfMemory {
        throw error
      }
      for (index, clip) in group.clips.enumerated() {
        let values = Result {
          CachedValues.videoLatents(
            try latents.get().select(0, index), frameRate: clip.frameRate)
        }
        samples[clip.sample].files.append((clip.file, values))
      }
    }
  }

  /// Encodes clips of one size.
  ///
  /// - Parameter pixels: [1, 3, F, H, W] each.
  /// - Returns: [clips, C, F, H, W] in latents, on the CPU.
  private func encode(_ pixels: [Tensor]) throws -> Tensor {
    let video = try video()
    return try withoutGrad {
      try video.encode(
        pixels.count == 1 ? pixels[0] : Tensor.cat(pixels), tiling: plan.options.tiling
      ).to(.cpu)
    }
  }

  private func encode(_ clip: AudioClip) throws -> CachedValues {
    let encoder = try audio()
    let latents = try withoutGrad {
      try encoder(AudioTensors.waveform(clip), sampleRate: clip.sampleRate).squeeze(0).to(.cpu)
    }
    return .audioLatents(latents, duration: clip.duration)
  }
}
