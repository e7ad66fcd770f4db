// T audio latent frames.

import LTX
import Media
import TensorFiles
import Torch

/// Where a sound is kept: a tensor of a `.pt` file, or the level of a sound file over time
/// (ltx-trainer, `validation_runner.py`).
struct AudioMask {
  /// Over the whole sound, however many there are.
  private let levels: [Float]

  /// - Throws: `TensorFileError` or `MediaError`, which name the file.
  init(path: String) throws {
    guard path.hasSuffix(".pt") else {
      let clip = try AudioClip.read(path: path)
      levels = zip(clip.channels[0], clip.channels[1]).map { (abs($0) + abs($1)) / 2 }
      return
    }
    let root = try TorchFile(path: path).root
    guard
      let tensor = root.tensor ?? root["mask"]?.tensor
        ?? root.members?.lazy.compactMap(\.value.tensor).first,
      tensor.count > 0
    else {
      throw TensorFileError(
        .missingTensor, path: path, "holds no tensor; save the mask itself, or as \"mask\"")
    }
    levels = try tensor.to(.float32).flatten().array()
  }

  /// 1 where it is above a half, stretched over a number of latent frames by nearest neighbours:
  /// [1, T].
  func frames(_ count: Int) throws -> Tensor {
    let step = Float(levels.count) / Float(count)
    let kept = (0..<count).map {
      levels[min(Int(Float($0) * step), levels.count - 1)] > 0.5 ? Float(1) : 0
    }
    return try Tensor(kept, shape: [1, count])
  }
}
