import BlockExecution
import Foundation
import LTX
import NN
import TestSupport
import Testing
import Torch

@testable import Training

/// A training run of LTX-2.3 at its published widths on a card, whose memory plan is compared with
/// the memory that it takes on the pretend GPU.
struct PlannedRun: Codable, Hashable, Sendable {
  enum Mode: String, Codable, Sendable { case lora, full }

  var mode: Mode
  /// The number of the transformer's blocks, 48 in the published model.
  var blocks = 48
  var size: String
  var hasAudio: Bool
  /// The memory of the card, in 10^9 bytes.
  var card: Int

  static let cards = [16, 24, 32, 48, 80, 141]

  /// LoRAs of the published model on every card, and full fine-tuning of four blocks, because 48 fit
  /// on none.
  static let all = FullSizeCache.Size.all.flatMap { size in
    [true, false].flatMap { hasAudio in
      cards.map { PlannedRun(mode: .lora, size: size.name, hasAudio: hasAudio, card: $0) }
    }
      + [(32, true), (48, true), (32, false)].map { card, hasAudio in
        PlannedRun(mode: .full, blocks: 4, size: size.name, hasAudio: hasAudio, card: card)
      }
  }

  var cacheSize: FullSizeCache.Size {
    get throws { try #require(FullSizeCache.Size.all.first { $0.name == size }) }
  }

  /// The configuration, for a model and a cache in a folder.
  func configuration(in folder: String) -> String {
    let lora =
      "lora: {rank: 32, alpha: 32, target_modules: [to_q, to_k, to_v, to_out.0, to_gate_logits, "
      + "net.0.proj, net.2]}"
    return """
      model: {model_path: \(folder)/\(FullSizeModel.checkpointName), training_mode: \(mode.rawValue)}
      \(mode == .lora ? lora : "")
      training_strategy: {name: text_to_video, with_audio: \(hasAudio), first_frame_conditioning_p: 0.0}
      optimization: {steps: 100, batch_size: 1, optimizer_type: adamw}
      acceleration: {mixed_precision_mode: bf16, memory: \(card)GB}
      checkpoints: {save_training_state: "off"}
      tensorboard: {enabled: false}
      report: {enabled: false}
      data: {preprocessed_data_root: \(folder)/cache-\(size)}
      output_dir: \(folder)/out
      """
  }

  /// The sizes of the run's model and its costs, from the header of a checkpoint.
  ///
  /// - Parameter shards: The ranks that share the weights of the blocks; 0 if each has all of them.
  func sizesAndCosts(
    in folder: String, shards: Int = 0
  ) throws -> (sizes: TransformerSizes, costs: StackCosts) {
    let c = try TrainingConfiguration(
      yaml: configuration(in: folder), file: "run.yaml", checksPaths: false)
    let checkpoint = try Checkpoint(ModelFiles(unified: c.model.modelPath))
    let lora = try c.lora.map {
      FreshAdapters(
        targets: $0.targetModules, kind: $0.kind, settings: $0.settings,
        generator: try Generator(seed: 1))
    }
    let modalities: Set<Modality> = hasAudio ? .both : [.video]
    let (frozen, autocast) = TrainedModel.precision(c)
    let sizes = try checkpoint.transformerSizes(
      LoadPolicy(
        dtype: frozen, freshAdapters: lora, trained: mode == .full ? .transformer(nil) : nil),
      modalities: modalities, training: modalities, generating: modalities)
    let size = try cacheSize
    let pass = PassSize(
      tokens: PerModality(
        video: size.frames * size.rows * size.columns, audio: hasAudio ? size.audioSteps : nil))
    var costs = try TrainingPlan.costs(
      c, TransformerConfiguration(checkpoint.config), sizes, [pass], autocast: autocast)
    if shards > 0 {
      costs.shards = shards
      try TrainingPlan.divide(&costs, c, sizes, ranks: shards, autocast: autocast)
    }
    return (sizes, costs)
  }

  /// The costs of the run, from the header of a checkpoint.
  func costs(in folder: String) throws -> StackCosts { try sizesAndCosts(in: folder).costs }
}

/// The plan of a run and the memory that it took.
struct CountedRun: Codable, Sendable {
  /// The parts of `PlannedExecution` that decide the memory.
  struct Plan: Codable, Sendable, Equatable {
    var kept = 0
    var attention = 0
    var offloadsInputs = false
    var streamed = 0
  }

  let run: PlannedRun
  /// Nil if the run was refused.
  let plan: Plan?
  let peakBytes: Int?

  static let path = "\(Fixtures.root)/budgets/plans.json"

  static func all() throws -> [CountedRun] {
    guard let data = FileManager.default.contents(atPath: path) else { return [] }
    return try JSONDecoder().decode([CountedRun].self, from: data)
  }
}

extension CountedRun.Plan {
  /// Reads the plan in a line of the table of `ltx train`.
  init?(line: String, blocks: Int) {
    guard line.contains("activations of") else { return nil }
    func count(_ pattern: Regex<(Substring, Substring)>) -> Int? {
      line.firstMatch(of: pattern).flatMap { $0.1 == "all" ? blocks : Int($0.1) }
    }
    let recomputed = count(/activations of (all|\d+)(?: of \d+)? blocks recomputed/) ?? 0
    kept = blocks - recomputed
    attention =
      count(/in (\d+) of them except self-attention/)
      ?? (line.contains("except self-attention") ? recomputed : 0)
    offloadsInputs = line.contains("from inputs in host memory")
    streamed = count(/weights of (all|\d+)(?: of \d+)? blocks streamed/) ?? 0
  }
}
