import LTX
import NN
import Support
import TensorFiles
import Torch

/// The tensors of a component in training, from which its models are built like those of a file.
///
/// Tensors of the scope are trained in float32. Models that are built from `root` keep their
/// gradients' graph, and `parameters` lists what these models have read.
public struct TrainableWeights {
  /// The root of the tensors, with their keys in the checkpoint.
  public let root: Weights
  /// The content of the checkpoint's `config`.
  public let configuration: Configuration
  private let source: TensorsInMemory
  private let config: String

  /// - Parameters:
  ///   - tensors: All tensors of the component, by their keys in the checkpoint.
  ///   - config: The configuration, a JSON object: `{"vae": {…}}`.
  ///   - scope: The prefix of the component's keys, `vae`.
  ///   - isFrozen: Whether a tensor is not trained, such as a filter or a table of statistics.
  public init(
    _ tensors: [(key: String, tensor: Tensor)], config: String, scope: String,
    isFrozen: @escaping @Sendable (_ key: String) -> Bool = { _ in false }
  ) throws {
    source = TensorsInMemory(tensors)
    self.config = config
    configuration = try Configuration(json: config, file: source.name)
    root = Weights(
      source,
      LoadPolicy(
        dtype: .float32, trained: TrainedWeights(below: scope).excluding { isFrozen($0) }))
  }

  /// The trained tensors of the models that have been built.
  public var parameters: [Parameter] { root.parameters }

  /// All tensors, with the values of training in place of the initial ones.
  ///
  /// - Parameters:
  ///   - values: The trained tensors: `parameters`, or their moving averages.
  ///   - replacements: The values of tensors that are not trained, such as statistics.
  public func tensors(
    _ values: [Parameter], replacing replacements: [String: Tensor] = [:]
  ) throws -> [(key: String, tensor: Tensor)] {
    var changed = replacements
    for value in values { changed[value.key] = value.tensor }
    return try source.keys.map { key in
      let stored = try source.tensor(key)
      guard let tensor = changed[key] else { return (key, stored) }
      return (key, try tensor.detach().to(stored.dtype).reshape(stored.shape))
    }
  }

  /// Writes a checkpoint of this component, with the dtypes of the initial tensors.
  public func write(
    _ values: [Parameter], replacing replacements: [String: Tensor] = [:],
    metadata: [String: String] = [:], to path: String
  ) throws {
    try writeSafetensors(
      tensors(values, replacing: replacements),
      metadata: metadata.merging(["config": config]) { $1 }, to: path)
  }
}

/// Tensors that are not in a file.
private final class TensorsInMemory: TensorSource {
  let name = "weights in memory"
  let metadata: [String: String] = [:]
  let entries: [String: TensorEntry]
  private let tensors: [String: Tensor]

  init(_ tensors: [(key: String, tensor: Tensor)]) {
    self.tensors = Dictionary(tensors.map { ($0.key, $0.tensor) }) { first, _ in first }
    entries = self.tensors.mapValues {
      TensorEntry(dtype: $0.dtype, shape: $0.shape, range: 0..<$0.byteCount)
    }
  }

  func tensor(_ key: String) throws -> Tensor {
    guard let tensor = tensors[key] else {
      throw TensorFileError(.missingTensor, path: name, key: key, "does not exist")
    }
    return tensor
  }
}
