import Foundation
import LTX
import Support
import TensorFiles
import Torch

/// The folder of the small Gemma 3, in the layout of `transformers`.
enum TextEncoderFolder {
  /// Writes weights, configuration and tokenizer.
  static func write(
    _ tensors: [(key: String, tensor: Tensor)], sizes: TinyGemma, tokenizer: TinyTokenizer,
    to folder: String
  ) throws {
    let place = URL(fileURLWithPath: folder)
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    try sizes.writeSmallFiles(to: place, tokenizer)
    try writeSafetensors(
      tensors, metadata: ["format": "pt"],
      to: place.appendingPathComponent("model.safetensors").path)
  }
}

extension TinyGemma {
  /// The text encoder of the demo's model.
  public static var demo: TinyGemma {
    var sizes = TinyGemma()
    (sizes.width, sizes.layers, sizes.feedForwardWidth) = (128, 4, 384)
    (sizes.heads, sizes.keyValueHeads, sizes.headWidth) = (4, 2, 32)
    return sizes
  }
}
