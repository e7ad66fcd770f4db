import NN
import TensorFiles
import Torch

/// A checkpoint of the LTX-2 family in the unified layout: one safetensors file whose metadata carries the `config` of
/// every component.
///
/// What a model is - sizes, variants, generation - is read from that configuration and from nothing else.
public struct Checkpoint: Sendable {
  public let source: any TensorSource
  public let config: Configuration

  /// Opens a file. Reads its header only.
  ///
  /// - Throws: `TensorFileError` for a file that is not safetensors, `ConfigurationError` for one that carries no LTX-2
  ///   configuration.
  public init(path: String) throws {
    let file = try SafetensorsFile(path: path)
    guard let json = file.metadata["config"] else {
      throw ConfigurationError(
        file: path, key: "__metadata__.config",
        problem:
          "is missing: this is not an LTX-2 checkpoint in the unified layout, whose metadata says what it holds"
      )
    }
    source = file
    config = try Configuration(json: json, file: path)
  }

  /// Checks that the file describes components, by their keys in `config`: `transformer`, `vae`.
  ///
  /// - Throws: `ConfigurationError` that names the first one missing, and what the file holds instead.
  public func require(_ components: String...) throws {
    guard let missing = components.first(where: { !config.has($0) }) else { return }
    let there = ["transformer", "vae", "audio_vae", "vocoder"].filter(config.has)
    throw config.error(
      missing,
      "is missing: the file holds \(there.isEmpty ? "no part of LTX-2" : there.joined(separator: " and ") + " only"); "
        + "give an LTX-2 checkpoint with all of its parts in one file")
  }

  /// Where the components lie in the file.
  public enum Prefix {
    public static let transformer = "model.diffusion_model"
    public static let videoVAE = "vae"
    public static let textProjection = "text_embedding_projection"
  }

  /// A view of the whole file.
  public func weights(
    dtype: DType? = nil, device: Device = .cpu, adapters: AdapterSet = AdapterSet(),
    freshAdapters: FreshAdapters? = nil, loaded: LoadedTensors? = nil
  ) -> Weights {
    Weights(
      source, dtype: dtype, device: device, adapters: adapters, freshAdapters: freshAdapters, loaded: loaded)
  }

  /// The transformer with the given streams and adapters.
  ///
  /// - Throws: besides what building throws, `WeightError` for an adapter whose module the model does not have, and
  ///   `UnmatchedTarget` for a target of fresh ones that matches nothing.
  public func transformer(
    dtype: DType? = nil, device: Device = .cpu, adapters: AdapterSet = AdapterSet(),
    freshAdapters: FreshAdapters? = nil, streams: Streams = .both, loaded: LoadedTensors? = nil
  ) throws -> Transformer {
    try require("transformer")
    let configuration = try TransformerConfiguration(config)
    let root = weights(
      dtype: dtype, device: device, adapters: adapters, freshAdapters: freshAdapters, loaded: loaded)
    let transformer = try Transformer(
      root / "model" / "diffusion_model", configuration: configuration, streams: streams)
    try root.requireAllAdaptersUsed()
    return transformer
  }
}
