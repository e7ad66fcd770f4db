// F H W latent frames, rows, columns, T audio latent frames.

import LTX
import Media
import Support
import Torch

/// The conversion of one kind of files back into media.
struct CacheDecoding: Sendable {
  /// The folder that a whole cache's files are decoded into; upstream's name if it has one.
  let folder: String
  /// The VAE that decodes the files; nil for masks.
  let component: ModelFiles.Component?
  /// Whether the sample's audio can be put into the output.
  var takesAudio = false
  /// Whether the output has the frame rate of the sample's latents.
  var takesRate = false
  /// Decodes a file and returns the path that was written.
  let decode:
    @Sendable (CacheDecoder, SampleFile, CacheDecodingJob, (CacheDecodingEvent) -> Void) throws
      -> String

  static func video(into folder: String) -> CacheDecoding {
    CacheDecoding(folder: folder, component: .videoVAE, takesAudio: true) {
      try $0.decodeVideo($1, $2, $3)
    }
  }

  static func audio(into folder: String) -> CacheDecoding {
    CacheDecoding(folder: folder, component: .audioVAE) { try $0.writeAudio($1, $2, $3) }
  }

  /// - Parameter hasFrames: whether the mask is one of a video.
  static func mask(into folder: String, hasFrames: Bool) -> CacheDecoding {
    CacheDecoding(folder: folder, component: nil, takesRate: hasFrames) { decoder, file, job, _ in
      try decoder.drawMask(file, job)
    }
  }

  /// Recognizes the kind of a file by its tensors.
  ///
  /// - Throws: `Issue` for a file that holds nothing to decode.
  static func of(_ file: SampleFile) throws -> CacheDecoding {
    if file.has("mask") { return .mask(into: "", hasFrames: true) }
    guard file.has("latents") else {
      throw Issue(
        [.file(file.path)], "holds neither latents nor a mask, so there is nothing to decode")
    }
    let isAudio = try file.tensorShape("latents").count == 3 || file.has(CachedValues.timeSteps)
    return isAudio ? .audio(into: "") : .video(into: "")
  }
}

extension CacheDecoder {
  /// Draws a mask, white where it is 1. In a video mask, cells and latent frames are as large and
  /// as long as in the video; an audio mask is a strip with one column per latent step.
  func drawMask(_ file: SampleFile, _ job: CacheDecodingJob) throws -> String {
    let mask = try file.tensor("mask").to(.float32)
    try requireFinite(mask, job.file)
    let shape = mask.shape
    guard [1, 3].contains(shape.count), !shape.contains(0) else {
      throw Issue([.file(job.file)], "mask has shape \(shape); expected [F, H, W] or [T]")
    }
    let levels = try (mask.clamped(min: 0, max: 1) * 255).round().to(.uint8).array(of: UInt8.self)
    if shape.count == 1 {
      let path = job.output + ".png"
      try makeFolder(of: path)
      try Self.image(levels[...], rows: 1, columns: shape[0], scale: (16, 4)).writePNG(to: path)
      return path
    }
    try video.require("vae")
    let factors = try video.videoCompression()
    let path = job.output + (shape[0] == 1 ? ".png" : ".mp4")
    try makeFolder(of: path)
    let rate = try job.rateFile.map { try frameRate(SampleFile(path: $0), $0) } ?? Rational(24)
    let sink = try FrameFile(
      path, shape[2] * factors.width, shape[1] * factors.height, rate: rate, audio: nil)
    for frame in 0..<shape[0] {
      let cells = shape[1] * shape[2]
      let image = Self.image(
        levels[frame * cells..<(frame + 1) * cells], rows: shape[1], columns: shape[2],
        scale: (factors.height, factors.width))
      for _ in 0..<(frame == 0 ? 1 : factors.time) { try sink.append(image) }
    }
    try sink.finish()
    return path
  }

  private static func image(
    _ levels: ArraySlice<UInt8>, rows: Int, columns: Int, scale: (rows: Int, columns: Int)
  ) -> RGBFrame {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(3 * levels.count * scale.rows * scale.columns)
    for row in 0..<rows {
      let start = levels.startIndex + row * columns
      let line = levels[start..<start + columns].flatMap {
        repeatElement($0, count: 3 * scale.columns)
      }
      for _ in 0..<scale.rows { bytes += line }
    }
    return RGBFrame(bytes: bytes, width: columns * scale.columns, height: rows * scale.rows)
  }
}

/// The file that frames are written to: an MP4 or, by the path's extension, a PNG.
final class FrameFile {
  private let path: String
  private let writer: VideoWriter?

  init(_ path: String, _ width: Int, _ height: Int, rate: Rational, audio: AudioClip?) throws {
    self.path = path
    guard path.hasSuffix(".mp4") else {
      writer = nil
      return
    }
    let format = audio.map {
      VideoWriter.Audio(
        sampleRate: $0.sampleRate, channelCount: $0.channels.count, matchesVideo: true)
    }
    // x264's macroblock tree is not reproducible in images with few macroblocks per row; this
    // preset does not use it.
    let writer = try VideoWriter(
      path: path, width: width, height: height, frameRate: rate, audio: format,
      quality: VideoWriter.Quality(preset: width < 128 ? "superfast" : "medium"),
      codec: .preferred)
    if let audio { try writer.append(audio: audio.channels) }
    self.writer = writer
  }

  func append(_ frame: RGBFrame) throws {
    if let writer { try writer.append(frame) } else { try frame.writePNG(to: path) }
  }

  func finish() throws { try writer?.finish() }
}
