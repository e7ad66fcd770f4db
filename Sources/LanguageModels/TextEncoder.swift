// N prompts, S tokens, D width.

import NN
import Torch

/// A language model used for its hidden states.
public protocol TextEncoder: Sendable {
  /// D, the width of a hidden state.
  var width: Int { get }

  /// The number of hidden states of a pass: the embeddings and the output of each layer.
  var hiddenStateCount: Int { get }

  /// Runs the model and passes on each hidden state as soon as it is computed: with dozens of
  /// layers, keeping them all takes more memory than the pass itself.
  ///
  /// - Parameters:
  ///   - ids: [N, S], int64.
  ///   - mask: [N, S], 0 on padding. Hidden states of padding are meaningless, but finite.
  ///   - firstPosition: The position of the first token, if padding before it was omitted.
  ///   - visit: Called with the index of the hidden state, from 0, and the state, [N, S, D].
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

/// Opens the text encoder that a configuration names.
///
/// - Parameters:
///   - path: A folder in the layout of `transformers`, or one file with everything
///     (`TextEncoderFiles`).
///   - dtype: The dtype that weights are converted to; nil keeps the files' own.
///   - storage: The storage of the layers' weights; embeddings are unchanged.
///   - placements: The locations of the layers' weights.
/// - Throws: `Issue`, `TensorFileError` or `WeightError`, which name the file.
public func openTextEncoder(
  at path: String, dtype: DType? = nil, device: Device = .cpu, storage: WeightStorage = .asStored,
  placements: WeightPlacements = .resident
) throws -> any TextEncoder {
  let files = try TextEncoderFiles(path: path)
  let configuration = try GemmaConfiguration(files.config())
  return try GemmaModel(
    Weights(
      files.weights(),
      LoadPolicy(dtype: dtype, device: device, storage: storage, placements: placements)),
    configuration: configuration)
}
