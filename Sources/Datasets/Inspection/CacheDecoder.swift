// C latent channels, F H W latent frames, rows, columns, T audio latent frames, N frequency bins.

import Foundation
import Generation
import LTX
import Media
import NN
import Support
import TensorFiles
import Torch

/// The options of decoding a cache.
public struct CacheDecodingOptions: Sendable {
  public var device = Device.cpu
  /// The dtype of the VAEs; the vocoder is always in float32.
  public var dtype = DType.bfloat16
  /// Decodes in tiles of 512 pixels and 128 frames, which takes less memory.
  public var vaeTiling = true
  /// The seed of the noise that some decoders add.
  public var seed: UInt64 = 0
  /// The steps of a diffusion decoder; nil for the model's own number.
  public var decoderSteps: Int?
  /// Puts the audio of a sample into its video. If one folder of latents is decoded, the audio is
  /// also written beside it.
  public var withAudio = false
  /// The folder of that audio; nil for `audio_latents` beside the latents.
  public var audioLatents: String?

  public init() {}

  /// Upstream's tiles.
  var tiling: Tiling {
    let axis = Tiling.Axis(size: 512, overlap: 128)
    return vaeTiling
      ? Tiling(frames: Tiling.Axis(size: 128, overlap: 24), height: axis, width: axis) : Tiling()
  }
}

/// The progress of decoding.
public enum CacheDecodingEvent: Sendable {
  case loading(String)
  case advanced(done: Int, total: Int)
}

/// The result of decoding.
public struct CacheDecodingSummary: Sendable {
  /// The files that were written.
  public fileprivate(set) var written: [String] = []
  /// The problems of the cached files that could not be decoded.
  public fileprivate(set) var failures: [String] = []
  /// The number of files whose fingerprint names another model file than the one that decoded them.
  public fileprivate(set) var ofOtherModels = 0
}

/// Turns cached latents and masks back into videos, images and audio. Each model is loaded once,
/// when it is first needed, and kept as long as the decoder.
public final class CacheDecoder {
  let video: Checkpoint
  private let audioCheckpoint: Checkpoint
  private let models: ModelFiles
  /// The `FileIdentity` of the models' files, by their paths.
  private var identities: [String: String] = [:]
  private let options: CacheDecodingOptions
  private var videoDecoder: VideoDecoder?
  private var audioDecoder: (vae: AudioDecoder, vocoder: Vocoder)?

  /// Reads the headers of the models.
  ///
  /// - Parameter models: a separate file of a VAE is used instead of the one in a unified
  ///   checkpoint; the transformer and the text encoder are not read.
  /// - Throws: the errors of opening a checkpoint.
  public init(models: ModelFiles, options: CacheDecodingOptions = CacheDecodingOptions()) throws {
    try options.device.prepare()
    func checkpoint(_ component: ModelFiles.Component, _ own: (String) -> ModelFiles) throws
      -> Checkpoint
    {
      try Checkpoint(models[component].map(own) ?? models)
    }
    video = try checkpoint(.videoVAE) { ModelFiles(videoVAE: $0) }
    audioCheckpoint = try checkpoint(.audioVAE) { ModelFiles(audioVAE: $0) }
    self.models = models
    self.options = options
  }

  /// Decodes a cache, one of its folders, or a file. A file that can't be decoded is reported in
  /// the summary's failures.
  ///
  /// - Parameter jobs: the files to decode, from `plan`.
  /// - Throws: the errors of loading the models; `TorchError` if memory runs out; `MediaError` of
  ///   kind `.system`.
  public func run(
    _ jobs: [CacheDecodingJob], report: (CacheDecodingEvent) -> Void = { _ in }
  ) throws -> CacheDecodingSummary {
    var summary = CacheDecodingSummary()
    for (done, job) in jobs.enumerated() {
      do {
        let file = try SampleFile(path: job.file)
        let decoding = try job.decoding ?? CacheDecoding.of(file)
        summary.written.append(try withoutGrad { try decoding.decode(self, file, job, report) })
        if try isOfOtherModel(file, decoding) { summary.ofOtherModels += 1 }
      } catch let error as TorchError where error.kind == .outOfMemory {
        throw error
      } catch let error as MediaError where error.kind == .system {
        throw error
      } catch let error as LoadingError {
        throw error.cause
      } catch {
        let text = describe(error)
        summary.failures.append(text.hasPrefix(job.file) ? text : "\(job.file): \(text)")
      }
      report(.advanced(done: done + 1, total: jobs.count))
    }
    return summary
  }

  /// Plans and runs in one call.
  ///
  /// - Throws: the errors of `plan` and `run`.
  public func decode(
    _ path: String, into output: String, report: (CacheDecodingEvent) -> Void = { _ in }
  ) throws -> CacheDecodingSummary {
    try run(plan(path, into: output), report: report)
  }

  /// Lists the files to decode.
  ///
  /// - Throws: `Issue` for a path that holds nothing to decode, or a model without the VAE that is
  ///   needed.
  public func plan(_ path: String, into output: String) throws -> [CacheDecodingJob] {
    let jobs = try CacheDecodingJob.list(path, into: output, options)
    if jobs.contains(where: { $0.decoding?.component == .videoVAE }) { try video.require("vae") }
    if jobs.contains(where: { $0.decoding?.component == .audioVAE || $0.audioFile != nil }) {
      try audioCheckpoint.require("audio_vae", "vocoder")
    }
    return jobs
  }

  /// Returns whether a file was made with another model file than the one that decodes it. Whole
  /// files are compared, so a VAE in a separate file differs from the same VAE in a unified
  /// checkpoint.
  private func isOfOtherModel(_ file: SampleFile, _ decoding: CacheDecoding) throws -> Bool {
    guard let recorded = file.metadata[Fingerprint.Key.model.rawValue],
      let path = decoding.component.flatMap(models.path(of:))
    else { return false }
    let identity = try identities[path] ?? FileIdentity.identity(of: path)
    identities[path] = identity
    return recorded != identity
  }

  // MARK: Video

  /// Decodes video latents to an MP4, or to a PNG if they are of one frame.
  ///
  /// - Returns: the path that was written.
  func decodeVideo(
    _ file: SampleFile, _ job: CacheDecodingJob, _ report: (CacheDecodingEvent) -> Void
  ) throws -> String {
    let rate = try frameRate(file, job.file)
    var path = job.output
    var sink: FrameFile?
    try forEachFrame(of: job.file, report) { bucket in
      let isImage = bucket.frames == 1
      let audio =
        try isImage ? nil : job.audioFile.map { try decodeAudio(SampleFile(path: $0), $0, report) }
      path += isImage ? ".png" : ".mp4"
      try makeFolder(of: path)
      sink = try FrameFile(path, bucket.width, bucket.height, rate: rate, audio: audio)
    } _: {
      try sink?.append($0)
    }
    try sink?.finish()
    return path
  }

  /// Decodes the video latents of a file, frame by frame.
  ///
  /// - Parameter begin: called before the first frame with the size of the video.
  /// - Throws: `LoadingError` for a model that can't be loaded; `Issue` for latents that can't be
  ///   used.
  func forEachFrame(
    of path: String, _ report: (CacheDecodingEvent) -> Void,
    begin: (ResolutionBucket) throws -> Void,
    _ receive: (RGBFrame) throws -> Void
  ) throws {
    let file = try SampleFile(path: path)
    let sizes = try LatentSizes(file)
    var latents = try file.tensor("latents")
    try requireFinite(latents, path)
    if latents.rank == 2 {
      latents = try VideoTokens.unpatchify(
        latents.unsqueeze(0), frames: sizes.frames, rows: sizes.rows, columns: sizes.columns
      ).squeeze(0)
    }
    let decoder =
      try videoDecoder
      ?? loading("the video VAE", report) {
        try video.videoDecoder(
          dtype: options.dtype, device: options.device, steps: options.decoderSteps)
      }
    videoDecoder = decoder
    try requireChannels(decoder.configuration.latentChannels, sizes.channels, path)
    try begin(sizes.bucket(decoder.compression))
    let generator = try Generator(seed: options.seed)
    try decoder.decode(
      latents.unsqueeze(0).to(options.device, options.dtype), tiling: options.tiling,
      noise: decoder.needsNoise ? { try generator.normal($0) } : nil
    ) { part in
      try part.requireFinite(from: "video decoder")
      for frame in 0..<part.size(2) {
        for image in try FrameTensors.frames(part.narrow(2, frame, 1)) { try receive(image) }
      }
    }
  }

  func frameRate(_ file: SampleFile, _ path: String) throws -> Rational {
    guard let fps = try file.number("fps") else { return Rational(24) }
    guard CachedFacts.frameRates.contains(fps), let rate = Rational(approximating: fps) else {
      throw Issue([.file(path)], "fps is \(fps), which is not a frame rate")
    }
    return rate
  }

  // MARK: Audio

  /// Decodes audio latents to a WAV file.
  ///
  /// - Returns: the path that was written.
  func writeAudio(
    _ file: SampleFile, _ job: CacheDecodingJob, _ report: (CacheDecodingEvent) -> Void
  ) throws -> String {
    let audio = try decodeAudio(file, job.file, report)
    let path = job.output + ".wav"
    try makeFolder(of: path)
    try WAVWriter.write(audio.channels, sampleRate: audio.sampleRate, to: path)
    return path
  }

  private func decodeAudio(
    _ file: SampleFile, _ path: String, _ report: (CacheDecodingEvent) -> Void
  ) throws -> AudioClip {
    let sizes = try AudioLatentSizes(file)
    var latents = try file.tensor("latents")
    try requireFinite(latents, path)
    if latents.rank == 2 {
      latents = try latents.reshape([sizes.steps, sizes.bins, sizes.channels]).permute([2, 0, 1])
        .contiguous()
    }
    let (vae, vocoder) =
      try audioDecoder
      ?? loading("the audio VAE and the vocoder", report) {
        (
          try audioCheckpoint.audioDecoder(dtype: options.dtype, device: options.device),
          try audioCheckpoint.vocoder(dtype: .float32, device: options.device)
        )
      }
    audioDecoder = (vae, vocoder)
    try requireChannels(vae.configuration.latentChannels, sizes.channels, path)
    let spectrogram = try vae(latents.unsqueeze(0).to(options.device, options.dtype))
    try spectrogram.requireFinite(from: "audio decoder")
    let wave = try vocoder(spectrogram)
    try wave.requireFinite(from: "vocoder")
    let channels = try AudioTensors.channels(wave)
    guard channels.count == 2 else {
      throw Issue.shape("waveform", wave.shape, expected: "[1, 2, samples]")
    }
    return AudioClip(left: channels[0], right: channels[1], sampleRate: vocoder.sampleRate)
  }

  // MARK: Helpers

  /// An error of loading a model, which affects all files.
  struct LoadingError: Error { let cause: any Error }

  private func loading<Model>(
    _ what: String, _ report: (CacheDecodingEvent) -> Void, _ body: () throws -> Model
  ) throws -> Model {
    report(.loading(what))
    do { return try body() } catch { throw LoadingError(cause: error) }
  }

  private func requireChannels(_ wanted: Int, _ found: Int, _ path: String) throws {
    guard wanted == found else {
      throw Issue(
        [.file(path)],
        "holds latents of \(found) channels (expected \(wanted)), so it was made with another model"
      )
    }
  }

  func requireFinite(_ x: Tensor, _ path: String) throws {
    guard try x.isAllFinite() else {
      throw Issue(
        [.file(path)], "holds NaN or infinite values",
        suggestion: "Preprocess the sample again.")
    }
  }
}
