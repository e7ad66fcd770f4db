import TestSupport
import Testing
import Torch
import Tracking

@testable import Training

/// The results of a run on one or more ranks.
struct RankRun: Sendable, Equatable {
  /// The trained tensors at the end.
  var weights: [String: [Float]] = [:]
  /// The loss of each step.
  var losses: [Double] = []
  /// The validation losses.
  var validations: [Double] = []

  /// Trains with random adapters, or resumes the run in the configuration's folder.
  init(
    _ c: TrainingConfiguration, ranks: Int, warn: @escaping @Sendable (String) -> Void = { _ in }
  ) throws {
    let results = try asRanks(ranks) { group in
      let trainer = try Trainer(c, group: group, warn: warn)
      if try trainer.prepareFolder(.resume) == nil { try trainer.randomiseAdapters() }
      var run = RankRun()
      var events = TrainingEvents()
      events.stepped = { run.losses.append($0.loss) }
      events.validated = { run.validations.append($0.loss) }
      _ = try trainer.run(events)
      var exchange = PartExchange(trainer.mesh.shards)
      let values = try trainer.contents(trainer.parameters, &exchange)
      func weights() throws -> [String: [Float]] {
        try Dictionary(
          uniqueKeysWithValues: values.keys.map { ($0, try values.tensor($0).to(.cpu).array()) })
      }
      // The first rank of each copy has all weights.
      run.weights =
        trainer.sharesTrainedWeights ? try exchange.lead(weights)?.get() ?? [:] : try weights()
      return run
    }
    let runs = try results.map { try $0.get() }
    for run in runs {
      #expect(run.losses == runs[0].losses && run.validations == runs[0].validations)
      #expect(run.weights.isEmpty || run.weights == runs[0].weights, "all ranks agree")
    }
    self = runs[0]
  }

  private init() {}

  /// The distance between all weights as one vector and those of another run, relative to the latter.
  func distance(to other: RankRun) -> Double {
    var (far, all) = (0.0, 0.0)
    for (key, values) in other.weights {
      for (x, y) in zip(weights[key] ?? [], values) {
        far += Double(x - y) * Double(x - y)
        all += Double(y) * Double(y)
      }
    }
    return (far / all).squareRoot()
  }
}
