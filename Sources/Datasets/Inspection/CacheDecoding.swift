// F H W latent frames, rows, columns, T audio latent frames.

import LTX
import Media
import Torch

extension CacheDecoder {
  /// White where the mask is 1. Of a video: each cell as large as in the picture, each latent frame
  /// as long as it lasts; of a sound: a strip whose columns are its latent steps.
  func drawMask(_ file: SampleFile, _ job: CacheDecodingJob) throws -> String {
    let mask = try file.tensor("mask").to(.float32)
    try requireFinite(mask, job.file)
    let shape = mask.shape
    guard [1, 3].contains(shape.count), !shape.contains(0) else {
      throw DatasetError(
        path: job.file, problem: "mask has shape \(shape); expected [F, H, W] or [T]")
    }
    let levels = try (mask.clamped(min: 0, max: 1) * 255).round().to(.uint8).array(of: UInt8.self)
    if shape.count == 1 {
      let path = job.output + ".png"
      try OutputPath.makeFolder(of: path)
      try Self.image(levels[...], rows: 1, columns: shape[0], scale: (16, 4)).writePNG(to: path)
      return path
    }
    try video.require("vae")
    let factors = try VideoVAEConfiguration.Decoder(video.config).compression
    let path = job.output + (shape[0] == 1 ? ".png" : ".mp4")
    try OutputPath.makeFolder(of: path)
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
