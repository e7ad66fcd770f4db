// N prompts, S tokens, D width.

import Foundation
import NN
import TensorFiles
import Torch

/// A language model that is read for its hidden states.
public protocol TextEncoder: Sendable {
  /// D, the width of a hidden state.
  var width: Int { get }

  /// How many hidden states a pass gives: the embeddings, and what each layer makes of them.
  var hiddenStateCount: Int { get }

  /// Runs the model and hands over the hidden states in order, each as soon as it is known: with dozens of layers,
  /// keeping them all takes more memory than the pass itself.
  ///
  /// - Parameters:
  ///   - ids: [N, S], int64.
  ///   - mask: [N, S], 0 on padding. Hidden states of padding mean nothing, but are finite.
  ///   - visit: takes the number of the hidden state, from 0, and the state, [N, S, D].
  func forEachHiddenState(ids: Tensor, mask: Tensor, _ visit: (Int, Tensor) throws -> Void) throws
}

/// Opens a folder in the layout of `transformers`, as the model that its `config.json` names.
///
/// - Parameter dtype: what the weights are converted to; nil keeps the files' own.
/// - Throws: `TextEncoderError`, `ConfigurationError`, `TensorFileError` or `WeightError`, which name the file.
public func openTextEncoder(
  folder: String, dtype: DType? = nil, device: Device = .cpu
) throws -> any TextEncoder {
  let path = "\(folder)/config.json"
  let text: String
  do {
    text = try String(contentsOfFile: path, encoding: .utf8)
  } catch {
    throw TextEncoderError(
      "\(path) can't be read: \(error.localizedDescription). --text-encoder-path wants the folder of a Gemma 3 model"
    )
  }
  let config = try Configuration(json: text, file: path)
  let kind = try config.string("model_type")
  guard ["gemma3", "gemma3_text"].contains(kind) else {
    throw config.error(
      "model_type", "is \"\(kind)\"; the text encoders known here are gemma3 and gemma3_text")
  }
  let configuration = try Gemma3Configuration(config)
  return try Gemma3Model(
    Weights(ShardedSafetensors(folder: folder), dtype: dtype, device: device), configuration: configuration)
}

/// A text encoder that can't be opened, or what it was given and can't read.
public struct TextEncoderError: Error, CustomStringConvertible, Sendable {
  public let description: String

  public init(_ description: String) { self.description = description }
}
