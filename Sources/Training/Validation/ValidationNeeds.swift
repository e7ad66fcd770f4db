import Generation
import LTX

/// The modalities, passes and memory that the validation samples of a run require.
struct ValidationNeeds: Sendable {
  /// The modalities of the transformer.
  let modalities: Set<Modality>
  /// The sizes of the transformer's passes.
  let passes: [PassSize]
  /// The memory of decoding the largest sample; 0 if none is decoded.
  private let decodingBytes: Int

  /// Nil without samples.
  init?(_ plans: [GenerationPlan]) {
    guard let first = plans.first else { return nil }
    modalities = plans.map(\.modalities).reduce(first.modalities) { $0 == $1 ? $0 : .both }
    passes = plans.flatMap(\.passSizes)
    decodingBytes = plans.compactMap(\.decodingBytes).max() ?? 0
  }

  /// The memory that samples take beside the transformer's weights.
  func peakBytes(_ configuration: TransformerConfiguration, elementBytes: Int) -> Int {
    passes.reduce(decodingBytes) {
      max($0, configuration.inferenceBytes($1, elementBytes: elementBytes))
    }
  }
}
