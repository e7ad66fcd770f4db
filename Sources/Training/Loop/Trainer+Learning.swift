import LTX
import LoRAFiles
import NN
import Torch
import Tracking

extension Trainer {
  /// Copies the adapters that a run starts from; returns an empty list for fresh ones.
  static func initialAdapters(_ model: TrainedModel) throws -> [Parameter] {
    guard model.start != nil, model.adapterScale != nil else { return [] }
    return try model.parameters.map {
      Parameter(key: $0.key, tensor: try $0.tensor.detach().to(.cpu).clone())
    }
  }

  /// Measures how far the run has moved its trained tensors, and how the validation loss changed.
  /// Loads the base weights of the trained modules.
  ///
  /// - Throws: the errors of reading the checkpoint.
  ///
  /// - Parameter values: the trained tensors.
  func learning(_ values: WholeTensors) throws -> LearningSummary {
    let checkpoint = model.checkpoint
    let change =
      if let scale = model.adapterScale {
        // Adapters are never divided.
        initial.isEmpty
          ? try AdapterChange(parameters, scale: scale, checkpoint: checkpoint)
          : try AdapterChange(parameters, since: initial, scale: scale, checkpoint: checkpoint)
      } else {
        try AdapterChange(weights: values.keys, checkpoint: checkpoint, value: values.tensor)
      }
    var summary = LearningSummary(
      change, subject: model.adapterScale == nil ? .weights : .adapters,
      continues: model.start != nil)
    let strategies = flowMatching.strategies
    if strategies.video == nil { summary.untrained.append("video") }
    if strategies.audio == nil, checkpoint.config.has("audio_vae") {
      summary.untrained.append("audio")
    }
    summary.before = validations.first
    summary.after = validations.count > 1 ? validations.last : nil
    return summary
  }

  /// Reports at the end of a run what it has learned. A failure only gives a warning, so that the
  /// run is not lost.
  func concludeLearning(_ events: TrainingEvents) -> LearningSummary? {
    guard takesPartInSaving else { return nil }
    do {
      var exchange = PartExchange(mesh.shards)
      let values = exchange.whole(parameters.map { ($0.key, $0.tensor, $0.shard) })
      let summary =
        sharesTrainedWeights
        ? try exchange.lead { try learning(values) }?.get() : try learning(values)
      guard let summary else { return nil }
      events.learned(summary)
      return summary
    } catch {
      guard group.isMain else { return nil }
      warn(
        "how far the \(model.adapterScale == nil ? "weights" : "adapters") moved can't be measured: \(error)"
      )
      return nil
    }
  }
}

extension LearningSummary {
  /// The share of the base weights below which trained weights count as barely moved: 0.005 %, a
  /// tenth of the limit for adapters. Full fine-tuning changes every weight, at lower learning
  /// rates.
  static let barelyMovedWeights = AdapterChange.barelyMoved / 10

  init(_ change: AdapterChange, subject: Subject, continues: Bool) {
    func group(_ group: AdapterChange.Group) -> Group {
      Group(
        name: group.name, modules: group.layers, unmoved: group.zeroLayers,
        nonFinite: group.nonFiniteLayers,
        change: group.relative,
        isBarelyMoved: subject == .adapters
          ? group.barelyMoves : group.relative.map { $0 < Self.barelyMovedWeights } ?? false)
    }
    var blocks: [Block] = []
    for part in LoRAPart.allCases {
      let own = change.layers.filter { $0.part == part && $0.isFinite && $0.block != nil }
      for (index, layers) in Dictionary(grouping: own, by: { $0.block ?? 0 }).sorted(by: {
        $0.key < $1.key
      }) {
        func root(_ value: (AdapterChange.Layer) -> Double) -> Double {
          layers.reduce(0) { $0 + value($1) * value($1) }.squareRoot()
        }
        blocks.append(
          Block(
            group: part.rawValue, index: index, norm: root(\.norm),
            baseNorm: root { $0.baseNorm ?? 0 }))
      }
    }
    self.init(
      subject: subject, total: group(change.total), groups: change.parts.map(group), blocks: blocks,
      unmovedModules: change.layers.filter(\.isZero).map(\.path),
      nonFiniteModules: change.layers.filter { !$0.isFinite }.map(\.path), continues: continues)
  }
}
