import Foundation
import NN
import TensorFiles

/// The name of the program in the files that it writes.
public enum SwiftLTX {
  public static let version = "0.1.0"
  public static let software = "swift-ltx \(version)"
}

/// The metadata of saved weights: under our own names, and under those that ComfyUI, kohya's tools
/// and model sites show (`ss_…`, and `modelspec.…` of Stability AI's model metadata standard).
///
/// None of it depends on the time or the machine, so that equal runs write equal files.
public struct WeightsMetadata: Sendable {
  /// The contents of a LoRA.
  public struct Adapters: Sendable {
    public var rank: Int
    public var alpha: Double
    public var targets: [String]
    public var kind = LoRAAdapter.kind
    public var isRankStabilized = false

    public init(
      rank: Int, alpha: Double, targets: [String], kind: AdapterKind = LoRAAdapter.kind,
      isRankStabilized: Bool = false
    ) {
      (self.rank, self.alpha, self.targets) = (rank, alpha, targets)
      (self.kind, self.isRankStabilized) = (kind, isRankStabilized)
    }
  }

  /// The checkpoint that was used for training.
  public struct Base: Sendable {
    public var generation: ModelGeneration
    /// The version that the checkpoint states.
    public var version: String?
    /// The file's name, without its folder.
    public var file: String
    /// An identity that distinguishes checkpoints of the same name.
    public var identity: String?

    public init(generation: ModelGeneration, version: String?, file: String, identity: String?) {
      (self.generation, self.version) = (generation, version)
      (self.file, self.identity) = (file, identity)
    }
  }

  public var base: Base
  /// The validation loss of a modality.
  public struct ValidationLoss: Codable, Equatable, Sendable {
    /// `video` or `audio`.
    public var modality: String
    /// The loss before the first step.
    public var before: Double
    /// The loss when the weights were saved, or at the last measurement before that.
    public var after: Double

    public init(modality: String, before: Double, after: Double) {
      (self.modality, self.before, self.after) = (modality, before, after)
    }

    /// The validation losses in the metadata of a file, video first; those of other programs are
    /// skipped.
    static func read(_ metadata: [String: String]) -> [ValidationLoss] {
      ["video", "audio"].compactMap { modality in
        let values = keys(modality).map { metadata[$0].flatMap(Double.init) ?? .nan }
        return values.allSatisfy(\.isFinite)
          ? ValidationLoss(modality: modality, before: values[0], after: values[1]) : nil
      }
    }

    static func keys(_ modality: String) -> [String] {
      ["validation_\(modality)_loss_before", "validation_\(modality)_loss"]
    }
  }

  /// Nil for full fine-tuning.
  public var adapters: Adapters?
  /// The file's name without its extension.
  public var title: String
  public var steps: Int?
  public var triggerWord: String?
  /// The validation losses; empty without a validation set.
  public var validationLosses: [ValidationLoss] = []
  /// More settings under the keys of kohya's tools: `ss_learning_rate`, `ss_optimizer`.
  public var training: [String: String] = [:]

  public init(base: Base, adapters: Adapters?, title: String) {
    (self.base, self.adapters, self.title) = (base, adapters, title)
  }

  /// The metadata's keys and values.
  public var fields: [String: String] {
    let name = base.generation.architecture
    var fields = training
    fields["software"] = SwiftLTX.software
    fields["base_model"] = base.generation.rawValue
    fields["base_model_file"] = base.file
    fields["base_model_identity"] = base.identity
    fields["model_version"] = base.version
    fields["training_steps"] = steps.map(String.init)
    fields["trigger_word"] = triggerWord
    for loss in validationLosses {
      for (key, value) in zip(ValidationLoss.keys(loss.modality), [loss.before, loss.after]) {
        fields[key] = String(format: "%.6g", value)
      }
    }
    fields["modelspec.sai_model_spec"] = "1.0.1"
    fields["modelspec.architecture"] = adapters == nil ? name : "\(name)/lora"
    fields["modelspec.implementation"] = "https://github.com/Lightricks/LTX-2"
    fields["modelspec.title"] = title
    fields["modelspec.trigger_phrase"] = triggerWord
    fields["modelspec.date"] = Self.date
    fields["ss_base_model_version"] = name
    fields["ss_sd_model_name"] = base.file
    fields["ss_output_name"] = title
    fields["ss_steps"] = steps.map(String.init)
    guard let adapters else { return fields }
    let alpha = Self.number(adapters.alpha)
    fields["lora_rank"] = String(adapters.rank)
    fields["lora_alpha"] = alpha
    fields["lora_targets"] = adapters.targets.joined(separator: ", ")
    fields["lora_type"] = adapters.kind.rawValue
    if adapters.isRankStabilized { fields["use_rslora"] = "true" }
    fields["ss_network_module"] = adapters.kind.type.networkModule
    fields["ss_network_dim"] = String(adapters.rank)
    fields["ss_network_alpha"] = alpha
    return fields
  }

  /// The date for reproducible builds, if one is set; the time of writing would make equal runs'
  /// files differ.
  private static var date: String? {
    guard let text = ProcessInfo.processInfo.environment["SOURCE_DATE_EPOCH"],
      let seconds = Double(text),
      seconds.isFinite, (0..<253_402_300_800).contains(seconds)
    else { return nil }
    let formatter = ISO8601DateFormatter()
    return formatter.string(from: Date(timeIntervalSince1970: seconds))
  }

  static func number(_ value: Double) -> String {
    Int(exactly: value).map(String.init) ?? String(value)
  }
}

extension LoRA {
  /// The metadata of a file with these layers: the input's, and statements that are true of the
  /// output. If B holds the full scale, alpha equals the rank.
  var writtenMetadata: [String: String] {
    var result = metadata
    result["format"] = result["format"] ?? "pt"
    result["software"] = result["software"] ?? SwiftLTX.software
    func common<Value: Hashable>(_ values: [Value?]) -> Value? {
      Set(values).count == 1 ? values[0] : nil
    }
    let rank = common(layers.map(\.rank)).map { String($0) }
    let alpha = common(layers.map(\.writtenAlpha)).map(WeightsMetadata.number)
    // kohya's tools write this if layers differ.
    result["ss_network_dim"] = rank ?? "Dynamic"
    result["ss_network_module"] =
      result["ss_network_module"] ?? layers.first?.kind.type.networkModule
    if result["ss_network_alpha"] == nil { result["ss_network_alpha"] = alpha ?? "Dynamic" }
    result["lora_rank"] = rank
    if let generation = base?.generation {
      let name = generation.architecture
      result["base_model"] = result["base_model"] ?? generation.rawValue
      result["ss_base_model_version"] = result["ss_base_model_version"] ?? name
      result["modelspec.architecture"] = result["modelspec.architecture"] ?? "\(name)/lora"
      result["modelspec.sai_model_spec"] = result["modelspec.sai_model_spec"] ?? "1.0.1"
      result["modelspec.implementation"] =
        result["modelspec.implementation"] ?? "https://github.com/Lightricks/LTX-2"
    }
    return result
  }

  /// Keys about the kind of the adapters.
  static let kindKeys = ["lora_type", "ss_network_module", "ss_network_args"]
  /// Keys about one rank and one alpha, which are no longer true of changed factors.
  static let scaleKeys = [
    "ss_network_alpha", "ss_network_dim", "lora_alpha", "lora_rank", "use_rslora",
  ]
  /// Keys about the file as a whole, which are no longer true of changed contents.
  static let contentKeys =
    [
      "modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash", "modelspec.thumbnail",
    ] + ["video", "audio"].flatMap(WeightsMetadata.ValidationLoss.keys)
}

extension LoRA.Layer {
  /// The alpha that a reader computes the scale from; nil for an adapter without a rank.
  fileprivate var writtenAlpha: Double? {
    rank.map { Double($0) * (kind.type.absorbsScale ? 1 : adapter.scale) }
  }
}
