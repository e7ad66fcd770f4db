// T audio latent steps.

import LTX
import Media
import TensorFiles
import Torch

/// A mask of audio: 1 or above 0.5 where the audio is kept.
///
/// It is a tensor of any length, or the level of an audio file over time. Upstream stretches both
/// by nearest neighbors (`nearest`). Preprocessing averages an audio file over the time of each
/// latent step (`mean`), so that no single sample decides.
public struct AudioMask: Sendable {
  private let levels: [Float]
  /// The number of levels per second; nil for a tensor, which has no time.
  private let rate: Double?

  /// The value of a mask at one latent step.
  public enum Sampling: Sendable {
    /// The nearest level after stretching the whole mask over the latent (ltx-trainer,
    /// `validation_runner.py`).
    case nearest
    /// The mean level over the step's own time; nearest for a tensor.
    case mean(AudioTokens)
  }

  /// - Parameter tensor: A tensor of any shape.
  public init(_ tensor: Tensor) throws {
    levels = try tensor.to(.float32).flatten().array()
    rate = nil
  }

  /// - Parameter channels: Channels of equal length; their absolute values are averaged.
  public init(_ channels: [[Float]], sampleRate: Int) {
    var levels = [Float](repeating: 0, count: channels.first?.count ?? 0)
    let count = Float(channels.count)
    for channel in channels {
      for index in levels.indices { levels[index] += abs(channel[index]) / count }
    }
    self.levels = levels
    rate = Double(sampleRate)
  }

  /// Reads a `.pt` file or an audio file.
  ///
  /// - Throws: `TensorFileError` or `MediaError`, which name the file.
  init(path: String) throws {
    guard path.hasSuffix(".pt") else {
      let clip = try AudioClip.read(path: path)
      self.init(clip.channels, sampleRate: clip.sampleRate)
      return
    }
    let root = try TorchFile(path: path).root
    guard
      let tensor = root.tensor ?? root["mask"]?.tensor
        ?? root.members?.lazy.compactMap(\.value.tensor).first,
      tensor.count > 0
    else {
      throw TensorFileError(
        .missingTensor, path: path, "has no tensor; save the mask itself, or as \"mask\"")
    }
    try self.init(tensor)
  }

  /// 1 for each latent step whose level is above 0.5, 0 for others: [T], float32.
  public func steps(_ count: Int, _ sampling: Sampling = .nearest) throws -> Tensor {
    let kept: [Bool]
    if case .mean(let tokens) = sampling, let rate {
      kept = (0..<count).map { step in
        let (start, end) = tokens.seconds(of: step)
        let (first, last) = (Int(start * rate), Int(end * rate))
        let part = levels[min(first, levels.count)..<min(max(first + 1, last), levels.count)]
        return !part.isEmpty && part.reduce(0, +) / Float(part.count) > 0.5
      }
    } else {
      let stride = Float(levels.count) / Float(count)
      kept = (0..<count).map {
        !levels.isEmpty && levels[min(Int(Float($0) * stride), levels.count - 1)] > 0.5
      }
    }
    return try Tensor(kept.map { $0 ? Float(1) : 0 }, shape: [count])
  }
}
