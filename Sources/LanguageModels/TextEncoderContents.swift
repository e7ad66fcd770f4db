import NN
import Support
import TensorFiles

/// The tensors of a text encoder's files, sorted by their purpose.
public struct TextEncoderContents: Sendable {
  public typealias Entries = [(key: String, entry: TensorEntry)]

  /// `model_type` of the configuration.
  public let modelType: String
  /// `gemma_version` of the configuration, which a checkpoint may demand; nil without one.
  public let version: String?
  /// Whether everything is in a single file.
  public let isPacked: Bool
  public let hasTokenizer: Bool
  /// The weights that encoding reads.
  public let languageModel: Entries
  /// The weights that are known not to be needed: parts for images and audio, the last projection,
  /// and tables that follow from the configuration.
  public let knowinglyUnused: Entries
  /// The small files of the folder that a single file stores as tensors.
  public let assets: Entries
  /// The weights of the checkpoint that a single file brings along: projections and connectors.
  public let projections: Entries
  /// All other keys.
  public let unusedKeys: [String]
}

/// Sorts the tensors of a text encoder by building it on the memory map of its files, which reads
/// almost nothing.
///
/// - Throws: `Issue`, `TensorFileError`, `WeightError`, which name the file.
public func inspectTextEncoder(at path: String) throws -> TextEncoderContents {
  let files = try TextEncoderFiles(path: path)
  let config = try files.config()
  let source = try files.weights()
  let root = Weights(source, LoadPolicy(isInspected: true))
  _ = try GemmaModel(root, configuration: GemmaConfiguration(config))
  let unused = Set(root.unusedKeys)
  var (model, known, assets, projections) = (
    TextEncoderContents.Entries(), TextEncoderContents.Entries(), TextEncoderContents.Entries(),
    TextEncoderContents.Entries()
  )
  var unusedKeys: [String] = []
  for (key, entry) in source.entries.sorted(by: { $0.key < $1.key }) {
    if !unused.contains(key) {
      model.append((key, entry))
    } else if TextEncoderFiles.isAsset(key) {
      assets.append((key, entry))
    } else if key.hasPrefix("text_embedding_projection.")
      || key.contains("_embeddings_connector.")
    {
      projections.append((key, entry))
    } else if GemmaModel.isKnowinglyUnused(key) || key == Weights.scaledFP8Marker {
      known.append((key, entry))
    } else {
      unusedKeys.append(key)
    }
  }
  return TextEncoderContents(
    modelType: try config.string("model_type"), version: config.value("gemma_version")?.string,
    isPacked: files.isPacked, hasTokenizer: files.hasTokenizer, languageModel: model,
    knowinglyUnused: known, assets: assets, projections: projections, unusedKeys: unusedKeys)
}
