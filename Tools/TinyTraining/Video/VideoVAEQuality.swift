import DemoData
import Foundation
import LTX
import Media
import Support
import Torch

/// The peak signal-to-noise ratio of pixels in -1 ... 1.
enum PeakSignal {
  /// - Returns: Decibels; infinity for equal pixels.
  static func decibels(_ pixels: Tensor, _ reference: Tensor) throws -> Double {
    let error = try (pixels.clamped(min: -1, max: 1) - reference).square().mean().item()
    return 10 * log10(4 / error)
  }
}

/// Measures a written video VAE on held-out clips, with the coders that generation uses.
public struct VideoVAEQuality {
  private let encoder: VideoEncoder
  private let decoder: VideoDecoder

  /// - Parameter path: A checkpoint with a video VAE.
  public init(checkpoint path: String) throws {
    let checkpoint = try Checkpoint(path: path)
    encoder = try checkpoint.videoEncoder(dtype: .float32)
    decoder = try checkpoint.videoDecoder(dtype: .float32)
  }

  /// The mean peak signal-to-noise ratio of clips of each style, and of all.
  ///
  /// - Parameter count: The number of clips of each style.
  public func measure(_ count: Int, noise: Double = 0) throws -> [StageMetric] {
    let generator = try Generator(seed: 1)
    var all: [Double] = []
    var metrics: [StageMetric] = []
    for style in DemoScene.Style.allCases {
      let decibels = try Self.scenes(style, count).map { scene in
        let pixels = try VideoClips.clip(scene)
        return try withoutGrad {
          let latent = try encoder(pixels)
          let disturbed = try latent + generator.normal(latent.shape) * noise
          return try PeakSignal.decibels(decoder.decode(disturbed), pixels)
        }
      }
      all += decibels
      metrics.append(
        StageMetric("psnr_\(style.rawValue)", decibels.reduce(0, +) / Double(decibels.count)))
    }
    metrics.append(StageMetric("psnr", all.reduce(0, +) / Double(all.count)))
    metrics.append(StageMetric("lowest_psnr", all.min() ?? 0))
    return metrics
  }

  /// The mean and the standard deviation of the normalized latents' channels: their extremes.
  public func latentRanges(_ count: Int) throws -> [StageMetric] {
    let latents = try withoutGrad {
      try DemoScene.Style.allCases.flatMap { style in
        try Self.scenes(style, count).map { try encoder(VideoClips.clip($0)) }
      }
    }
    let channels = try Tensor.cat(latents, 0).permute([1, 0, 2, 3, 4]).flatten(from: 1)
    let (mean, std) = (try channels.mean([1]), try channels.std([1]))
    return [
      StageMetric("lowest_mean", try mean.amin().item()),
      StageMetric("highest_mean", try mean.amax().item()),
      StageMetric("lowest_std", try std.amin().item()),
      StageMetric("highest_std", try std.amax().item()),
    ]
  }

  private static func scenes(_ style: DemoScene.Style, _ count: Int) -> [DemoScene] {
    DemoWorld(seed: 1, style: style, part: .heldOut).scenes(0..<count)
  }

  /// Writes an image of held-out clips: for each clip, frames of the original above those of the
  /// reconstruction.
  public func writeSheet(_ count: Int, to path: String) throws {
    let frames = [0, 4, 8, 12, 16, 20, 24]
    let rows = try DemoScene.Style.allCases.flatMap { style in
      try Self.scenes(style, count).map { scene in
        let pixels = try VideoClips.clip(scene)
        let decoded = try withoutGrad { try decoder.decode(encoder(pixels)) }
        return try Tensor.cat([pixels, decoded].map { try Self.strip($0, frames) }, 0)
      }
    }
    let sheet = try Tensor.cat(rows, 0)
    try RGBFrame(
      bytes: sheet.array(of: UInt8.self), width: sheet.size(1), height: sheet.size(0)
    ).writePNG(to: path)
  }

  /// Frames of a clip beside each other: [S, frames * S, 3], uint8.
  private static func strip(_ pixels: Tensor, _ frames: [Int]) throws -> Tensor {
    let clip = try (pixels.clamped(min: -1, max: 1) * 127.5 + 127.5).round().to(.uint8)
    return try Tensor.cat(
      frames.map { try clip.select(0, 0).select(1, $0).permute([1, 2, 0]) }, 1)
  }
}
