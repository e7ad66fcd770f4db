import Datasets
import Torch

/// Trains some samples on the empty prompt instead of their captions, so that classifier-free
/// guidance has an unconditional prediction to compare with (Ho and Salimans, 2022).
///
/// The choice is a function of the seed and of the sample's position in the run, so it is
/// independent of batches and ranks, and a resumed run makes the same one.
struct CaptionDropout: Sendable {
  let probability: Double
  let seed: UInt64
  /// The file of the empty prompt's text features.
  let file: String

  init(probability: Double, seed: UInt64, file: String) {
    (self.probability, self.seed, self.file) = (probability, seed, file)
  }

  /// The dropout of a configuration; nil if captions are never dropped.
  ///
  /// - Throws: `ConfigurationProblems` if the cache lacks the empty prompt's features.
  init?(_ c: TrainingConfiguration, _ dataset: PrecomputedDataset) throws {
    guard c.data.captionDropout > 0 else { return nil }
    guard let file = EmptyPrompt.path(in: dataset.root) else {
      throw c.problem(
        .captionDropout,
        "is \(c.data.captionDropout), but \(dataset.root) has no text features of the empty prompt. "
          + "Run `ltx preprocess` on the dataset again, which adds them, or set it to 0")
    }
    self.init(
      probability: c.data.captionDropout,
      seed: RandomSeed.mix(UInt64(c.seed), "caption dropout"), file: file)
  }

  /// Whether a sample is trained on the empty prompt.
  ///
  /// - Parameter position: the number of samples shown before it, over all epochs.
  func drops(position: Int) -> Bool {
    // The upper 53 bits are a uniform number in 0..<1.
    Double(RandomSeed.mix(seed, "position", position) >> 11) * 0x1p-53 < probability
  }
}
