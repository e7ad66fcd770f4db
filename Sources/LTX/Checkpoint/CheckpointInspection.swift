import NN
import Support
import TensorFiles
import Torch

/// The contents of a checkpoint, found by building every component on the file's memory map, which
/// reads almost nothing.
public struct CheckpointInspection: Sendable {
  /// The tensors of one component.
  public struct Component: Sendable {
    public let name: String
    public fileprivate(set) var tensors = 0
    public fileprivate(set) var parameters = 0
    public fileprivate(set) var bytes = 0
    /// The number of parameters by dtype.
    public fileprivate(set) var types: [DType: Int] = [:]
    /// The number of quantized matrices by their format, as the file describes it, or as their
    /// scales show.
    public fileprivate(set) var formats: [String: Int] = [:]

    fileprivate mutating func add(_ entry: TensorEntry) {
      let count = entry.byteCount / entry.dtype.size
      tensors += 1
      parameters += count
      bytes += entry.byteCount
      types[entry.dtype, default: 0] += count
    }
  }

  public let version: ModelVersion?
  /// The components that have tensors, in the order of the published files.
  public let components: [Component]
  /// The keys that no component reads, except those that are known to be unused.
  public let unknownKeys: [String]
  /// The keys that are known to be unused, such as statistics that only training needed.
  public let knowinglyUnused: [String]
  /// The components that generation needs and the files don't hold; the text encoder is not
  /// counted.
  public let missing: [String]
  /// The errors of components that could not be built.
  public let problems: [String]

  private enum Part: String, CaseIterable {
    case transformer
    case connectors = "text connectors"
    case projection = "text projection"
    case videoVAE = "video VAE"
    case audioVAE = "audio VAE"
    case vocoder
    case durationHead = "duration head"
    case other

    /// Whether generation needs it.
    var isRequired: Bool { self != .durationHead && self != .other }

    init(of key: String) {
      func isBelow(_ prefix: String) -> Bool { key.hasPrefix(prefix + ".") }
      self =
        if isBelow(Checkpoint.Prefix.transformer) {
          key.contains("_embeddings_connector.") ? .connectors : .transformer
        } else if isBelow(Checkpoint.Prefix.textProjection) {
          .projection
        } else if isBelow(Checkpoint.Prefix.videoVAE) {
          .videoVAE
        } else if isBelow(Checkpoint.Prefix.audioVAE) {
          .audioVAE
        } else if isBelow(Checkpoint.Prefix.vocoder) {
          .vocoder
        } else if isBelow(Checkpoint.Prefix.durationHead) {
          .durationHead
        } else {
          .other
        }
    }
  }

  public init(_ checkpoint: Checkpoint) {
    var components = Part.allCases.map { Component(name: $0.rawValue) }
    for (key, entry) in checkpoint.source.entries {
      guard let index = Part.allCases.firstIndex(of: Part(of: key)) else { continue }
      components[index].add(entry)
    }
    for (format, key) in Self.formats(of: checkpoint.source) {
      guard let index = Part.allCases.firstIndex(of: Part(of: key)) else { continue }
      components[index].formats[format, default: 0] += 1
    }
    let root = checkpoint.weights(LoadPolicy(isInspected: true))
    var problems: [String] = []
    var unchecked: Set<Part> = []
    for part in Part.allCases
    where components.contains(where: { $0.name == part.rawValue && $0.tensors > 0 }) {
      do {
        try Self.build(part, checkpoint, root)
      } catch {
        problems.append(describe(error))
        unchecked.insert(part)
      }
    }
    version = checkpoint.version
    self.components = components.filter { $0.tensors > 0 }
    let unused = root.unusedKeys.filter { !unchecked.contains(Part(of: $0)) }
    unknownKeys = unused.filter { !Self.isKnown($0) }
    knowinglyUnused = unused.filter(Self.isKnown)
    missing = Part.allCases.filter { part in
      part.isRequired && !components.contains { $0.name == part.rawValue && $0.tensors > 0 }
    }.map(\.rawValue)
    self.problems = problems
  }

  /// The format of each quantized weight, by its key.
  private static func formats(of source: any TensorSource) -> [(format: String, key: String)] {
    let index = WeightIndex(source)
    return source.entries.keys.compactMap { key in
      guard index.isDescribed(key) else { return nil }
      // An unsupported format is also reported as a problem of its component.
      do {
        return (try index.format(of: key)?.title ?? "format not supported", key)
      } catch {
        return ("format not supported", key)
      }
    }
  }

  private static func build(_ part: Part, _ checkpoint: Checkpoint, _ root: Weights) throws {
    let config = checkpoint.config
    let scope = root / Checkpoint.Prefix.transformer
    switch part {
    case .transformer: _ = try Transformer(scope, configuration: TransformerConfiguration(config))
    case .connectors: _ = try TextConnectors(scope, configuration: TextConfiguration(config))
    case .projection: try FeatureExtractor.read(root, configuration: TextConfiguration(config))
    case .videoVAE:
      let vae = root / Checkpoint.Prefix.videoVAE
      _ = try VideoDecoder(vae, configuration: VideoVAEConfiguration.Decoder(config))
      if (vae / "encoder").isPresent {
        _ = try VideoEncoder(vae, configuration: VideoVAEConfiguration.Encoder(config))
      }
    case .audioVAE:
      let vae = root / Checkpoint.Prefix.audioVAE
      _ = try AudioDecoder(vae, configuration: AudioVAEConfiguration(config))
      if (vae / "encoder").isPresent {
        _ = try AudioEncoder(vae, configuration: AudioVAEConfiguration(config))
      }
    case .vocoder:
      _ = try Vocoder(root / Checkpoint.Prefix.vocoder, configuration: VocoderConfiguration(config))
    case .durationHead:
      _ = try DurationHead(
        root / Checkpoint.Prefix.durationHead, configuration: DurationHeadConfiguration(config))
    case .other: break
    }
  }

  private static func isKnown(_ key: String) -> Bool {
    func below(_ prefix: String) -> String? {
      key.hasPrefix(prefix + ".") ? String(key.dropFirst(prefix.count + 1)) : nil
    }
    return below(Checkpoint.Prefix.transformer).map { $0 == Weights.scaledFP8Marker }
      ?? (below(Checkpoint.Prefix.videoVAE) ?? below(Checkpoint.Prefix.audioVAE)).map(
        KnowinglyUnused.vae)
      ?? below(Checkpoint.Prefix.vocoder).map(KnowinglyUnused.vocoder)
      ?? false
  }
}

/// The tensors of a checkpoint that no model reads, with the reason. Any other unused tensor is an
/// error.
enum KnowinglyUnused {
  /// Keys in the scope of the transformer.
  static func transformer(_ key: String) -> Bool {
    // The text connectors, which are separate components in the transformer's scope.
    key.hasPrefix("video_embeddings_connector.") || key.hasPrefix("audio_embeddings_connector.")
      // A marker for float8, which the dtypes show as well.
      || key == Weights.scaledFP8Marker
  }

  /// Keys that a transformer built for one modality doesn't use: those of the other modality, and
  /// of the layers between the two.
  static func otherModality(_ key: String, building modalities: Set<Modality>) -> Bool {
    guard modalities != .both else { return false }
    let isBetween = ["av_ca_", "a2v", "audio_to_video", "video_to_audio"].contains(
      where: key.contains)
    let isAudio = key.split(separator: ".").contains { $0.hasPrefix("audio_") }
    return isBetween || isAudio != modalities.contains(.audio)
  }

  /// Keys in the scope of a VAE: statistics that only training needed, and the coarse output of a
  /// diffusion decoder, which only its training compared.
  static func vae(_ key: String) -> Bool {
    [
      "per_channel_statistics.mean-of-stds",
      "per_channel_statistics.mean-of-stds_over_std-of-means",
      "per_channel_statistics.channel",
    ].contains(key) || key.hasPrefix("decoder.coarse_")
  }

  /// Keys in the scope of the vocoder: the inverse of the spectrum, which only its training needed.
  static func vocoder(_ key: String) -> Bool { key == "mel_stft.stft_fn.inverse_basis" }
}
