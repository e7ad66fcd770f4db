// N prompts, S tokens, D width.

import NN
import Torch

/// A language model that is read for its hidden states.
public protocol TextEncoder: Sendable {
  /// D, the width of a hidden state.
  var width: Int { get }

  /// The number of hidden states of a pass: the embeddings and the output of each layer.
  var hiddenStateCount: Int { get }

  /// Runs the model and passes on the hidden states in order, each as soon as it is known: with
  /// dozens of layers, keeping them all takes more memory than the pass itself.
  ///
  /// - Parameters:
  ///   - ids: [N, S], int64.
  ///   - mask: [N, S], 0 on padding. Hidden states of padding mean nothing, but are finite.
  ///   - firstPosition: where the first token stands, when padding before it is left out.
  ///   - visit: takes the number of the hidden state, from 0, and the state, [N, S, D].
  func forEachHiddenState(
    ids: Tensor, mask: Tensor, firstPosition: Int, _ visit: (Int, Tensor) throws -> Void
  ) throws
}

extension TextEncoder {
  public func forEachHiddenState(ids: Tensor, mask: Tensor, _ visit: (Int, Tensor) throws -> Void)
    throws
  {
    try forEachHiddenState(ids: ids, mask: mask, firstPosition: 0, visit)
  }
}

/// Opens a text encoder as the model that its configuration names.
///
/// - Parameters:
///   - path: a folder in the layout of `transformers`, or one file that holds everything
///     (`TextEncoderFiles`).
///   - dtype: what the weights are converted to; nil keeps the files' own.
///   - storage: how the layers' weights are stored; embeddings are unchanged.
/// - Throws: `Issue`, `TensorFileError` or `WeightError`, which name the file.
public func openTextEncoder(
  at path: String, dtype: DType? = nil, device: Device = .cpu, storage: WeightStorage = .asStored
) throws -> any TextEncoder {
  let files = try TextEncoderFiles(path: path)
  let config = try files.config()
  let kind = try config.string("model_type")
  guard ["gemma3", "gemma3_text"].contains(kind) else {
    throw config.error(
      "model_type", "is \"\(kind)\"; the text encoders known here are gemma3 and gemma3_text")
  }
  let configuration = try Gemma3Configuration(config)
  return try Gemma3Model(
    Weights(files.weights(), LoadPolicy(dtype: dtype, device: device, storage: storage)),
    configuration: configuration)
}
