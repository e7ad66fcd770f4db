import Datasets
import Foundation
import LTX
import LoRAFiles
import NN
import Support
import TensorFiles

extension Trainer {
  /// The metadata of the weights of this step. It is a function of the configuration, the model,
  /// the data and the step, so a resumed run writes the same files as one that was not interrupted.
  var savedMetadata: [String: String] {
    get throws {
      let c = configuration
      let path = c.model.modelPath
      let base = WeightsMetadata.Base(
        generation: try model.checkpoint.generation, version: model.checkpoint.version?.description,
        file: (path as NSString).lastPathComponent, identity: fingerprint.modelIdentity)
      let adapters = c.model.trainingMode == .full ? nil : c.lora
      let file = (folder.weights(step: completedSteps) as NSString).lastPathComponent
      var metadata = WeightsMetadata(
        base: base,
        adapters: adapters.map {
          WeightsMetadata.Adapters(
            rank: $0.rank, alpha: Double($0.alpha), targets: $0.targetModules, kind: $0.kind,
            isRankStabilized: $0.useRSLoRA)
        }, title: (file as NSString).deletingPathExtension)
      metadata.steps = completedSteps
      metadata.triggerWord = try dataset.triggerWord
      metadata.validationLosses = validationLosses
      metadata.training = [
        "ss_learning_rate": String(c.optimization.learningRate),
        "ss_optimizer": c.optimization.optimizerType.rawValue,
        "ss_lr_scheduler": c.optimization.schedulerType.rawValue,
        "ss_batch_size_per_device": String(c.optimization.batchSize),
        "ss_gradient_accumulation_steps": String(c.optimization.gradientAccumulationSteps),
        "ss_mixed_precision": (c.acceleration.mixedPrecisionMode ?? .no).rawValue,
        "ss_seed": String(c.seed), "ss_num_train_items": String(dataset.count),
      ]
      if let adapters {
        metadata.training["ss_network_args"] = adapters.networkArguments.text()
        if adapters.dropout > 0 {
          metadata.training["ss_network_dropout"] = String(adapters.dropout)
        }
      }
      return metadata.fields.merging(flowMatching.referenceScale.metadata) { $1 }
    }
  }
}

extension Trainer {
  /// The losses before the first step and at the last validation; empty if either was not measured
  /// or is not finite.
  private var validationLosses: [WeightsMetadata.ValidationLoss] {
    guard let first = validations.first, let last = validations.last, first.step == 0, last.step > 0
    else {
      return []
    }
    return [("video", first.videoLoss, last.videoLoss), ("audio", first.audioLoss, last.audioLoss)]
      .compactMap { modality, before, after in
        guard let before, let after, before.isFinite, after.isFinite else { return nil }
        return WeightsMetadata.ValidationLoss(modality: modality, before: before, after: after)
      }
  }
}

extension TrainedModel {
  /// Warnings about the LoRA that a run starts from: it was trained on another model, or it is
  /// zero.
  var startNotes: [String] {
    get throws {
      guard adapterScale != nil, let start else { return [] }
      let file = try LoRAFile(path: start.path)
      return [try file.baseWarning(checkpoint), try file.zeroNote].compactMap { $0 }
    }
  }
}

extension TrainingConfiguration.LoRA {
  /// The arguments of the network in kohya's and LyCORIS's terms.
  fileprivate var networkArguments: JSON {
    var arguments: [String: JSON] = ["targets": .array(targetModules.map(JSON.string))]
    // Only LyCORIS has algorithms.
    if kind.type.networkModule != LoRAAdapter.networkModule {
      arguments["algo"] = .string(kind.rawValue)
      if factor != -1 { arguments["factor"] = JSON(factor) }
      if decomposeBoth { arguments["decompose_both"] = .bool(true) }
      if fullMatrix { arguments["full_matrix"] = .bool(true) }
    }
    return .object(arguments)
  }
}

extension PrecomputedDataset {
  /// The trigger word that preprocessing put before all captions; nil without one, or if captions
  /// have different ones.
  var triggerWord: String? {
    get throws {
      var words: Set<String?> = []
      for entry in entries.prefix(100) {
        guard let path = entry.files[Self.textFolder] else { return nil }
        words.insert(try SampleFile(path: path).metadata["trigger_word"])
      }
      guard words.count == 1, let word = words.first else { return nil }
      return word
    }
  }
}
