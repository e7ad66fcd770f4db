import Generation
import LTX
import NN
import Support

/// Compares validation samples with the training data, because a sample that differs shows
/// something that the adapters never learned.
struct SampleComparison {
  private let configuration: TrainingConfiguration
  private let dataset: PrecomputedDataset
  /// The scale of the dataset's video references.
  private let scale: ReferenceScale
  private let factors: CompressionFactors
  /// Nil for a model without audio.
  private let audio: AudioTokens?

  /// The ratio of latent tokens, in either direction, from which a sample's size counts as far from
  /// the training clips.
  private static let farSize = 4.0
  /// The same ratio for frame rates.
  private static let farRate = 1.25

  /// - Throws: `Issue` or `TensorFileError` if the checkpoint can't be read.
  init(_ configuration: TrainingConfiguration, _ dataset: PrecomputedDataset) throws {
    let checkpoint = try Checkpoint(configuration.model.files)
    self.configuration = configuration
    self.dataset = dataset
    scale = try dataset.referenceScale()
    factors = try checkpoint.videoCompression()
    audio =
      checkpoint.config.has("audio_vae") ? try AudioVAEConfiguration(checkpoint.config).tokens : nil
  }

  // MARK: Reference scales

  /// The configuration with the dataset's scale for references of samples that set none, and notes
  /// about it.
  ///
  /// A scale that does not divide the sample's size is not used.
  func applyingReferenceScales() -> (configuration: TrainingConfiguration, notes: [String]) {
    var result = configuration
    var notes: [String] = []
    guard hasReferences, scale != ReferenceScale() else { return (configuration, []) }
    for (index, sample) in configuration.validation.samples.enumerated() {
      let dims = sample.videoDims ?? configuration.validation.videoDims
      for (position, condition) in sample.conditions.enumerated() {
        guard condition.modality == .video, case .reference(let given, let isShown) = condition.kind
        else { continue }
        let keys = configuration.validation.subjects(ofSample: index)
        var taken = given ?? ReferenceScale()
        func take(_ part: Issue.PathComponent, _ path: WritableKeyPath<ReferenceScale, Int>) {
          let subject: [Issue.PathComponent] = ["conditions", .index(position), part]
          guard !configuration.gives(ConfigurationKey(name: keys[subject] ?? "")),
            taken[keyPath: path] == 1,
            scale[keyPath: path] != 1
          else { return }
          taken[keyPath: path] = scale[keyPath: path]
          let problem =
            "is not set, so the scale of the dataset's references is used (\(scale[keyPath: path]))"
          notes.append(keys.describe(Issue(subject, problem)))
        }
        if dims.width.isMultiple(of: factors.width * scale.space),
          dims.height.isMultiple(of: factors.height * scale.space)
        {
          take("scale", \.space)
        }
        take("temporalScale", \.time)
        result.validation.samples[index].conditions[position].kind = .reference(
          scale: taken, isShown: isShown)
      }
    }
    return (result, notes)
  }

  private var hasReferences: Bool {
    dataset.strategies.video?.conditions.contains(where: \.isReference) ?? false
  }

  // MARK: Differences

  /// The differences between samples and training, once for each key.
  var notes: [String] {
    var notes: [String] = []
    for (index, sample) in configuration.validation.samples.enumerated() {
      let issues =
        sample.conditions.enumerated().flatMap { position, condition in
          differences(condition, sample).map {
            $0.within("conditions", .index(position))
          }
        } + missing(sample) + sizes(sample) + rates
      let keys = configuration.validation.subjects(ofSample: index)
      for note in issues.map(keys.describe) where !notes.contains(note) { notes.append(note) }
    }
    return notes
  }

  /// The differences of a condition, by its parts.
  private func differences(
    _ condition: Condition<MediaFile>, _ sample: ValidationSample
  ) -> [Issue] {
    let modality = condition.modality
    let trained = dataset.strategies[modality]?.conditions ?? []
    /// The lengths of trained prefixes or suffixes, in latent frames.
    let lengths = trained.filter { $0.type == condition.type }.compactMap(\.latentFrames)
    func note(
      _ part: Issue.PathComponent, _ problem: String, _ found: Any, _ expected: Any
    ) -> Issue {
      Issue(
        [part], "\(problem) (got \(found), training uses \(expected))",
        suggestion: "Set it to \(expected), or the sample shows something that was not trained")
    }
    switch (modality, condition.kind) {
    case (_, .reference(let given, _)):
      guard trained.contains(where: \.isReference) else {
        return [
          Issue(
            ["type"], "is reference, but training has no \(modality) reference",
            suggestion: "Remove it, or train with references")
        ]
      }
      guard modality == .video else { return [] }
      let own = given ?? ReferenceScale()
      let parts = [
        ("scale", own.space, scale.space), ("temporalScale", own.time, scale.time),
      ]
      return parts.filter { $0.1 != $0.2 }.map {
        note(.name($0.0), "differs from the scale of the dataset's references", $0.1, $0.2)
      }
    case (.video, .prefix), (.video, .suffix):
      guard let frames = condition.frames else { return [] }
      let isPrefix = condition.type == "prefix"
      return lengths.compactMap { count in
        let expected = isPrefix ? (count - 1) * factors.time + 1 : count * factors.time
        return frames == expected
          ? nil : note("length", "differs from training", frames, expected)
      }
    case (.audio, .prefix), (.audio, .suffix):
      guard let audio, let seconds = condition.seconds else { return [] }
      return lengths.compactMap { expected in
        // A difference of one rounded step does not count.
        guard abs(audio.frames(seconds: seconds) - expected) > 1 else { return nil }
        let wanted = (Double(expected) / audio.rate * 1000).rounded() / 1000
        return note("length", "differs from training", seconds, wanted)
      }
    case (_, .crop(let region)):
      let dims = sample.videoDims ?? configuration.validation.videoDims
      guard buckets.contains(where: { $0.width == dims.width && $0.height == dims.height }) else {
        return []
      }
      func corners(_ region: PixelRegion) -> [Int] {
        [region.top, region.left, region.bottom, region.right]
      }
      return trained.compactMap { condition in
        guard case .crop(let own) = condition.kind, own != region else { return nil }
        return note(
          "region", "differs from the trained one", corners(region), corners(own))
      }
    default: return []
    }
  }

  /// Reports conditions that every training example has and the sample lacks.
  private func missing(_ sample: ValidationSample) -> [Issue] {
    var notes: [Issue] = []
    for (modality, strategy) in dataset.strategies.pairs {
      guard let strategy else { continue }
      let own = sample.conditions.filter { $0.modality == modality }
      if !strategy.isGenerated, !own.contains(where: \.isWhole) {
        let type = modality == .video ? "video_to_audio" : "audio_to_video"
        notes.append(
          Issue(
            ["conditions"], "the \(modality) is generated, but training conditions on it",
            suggestion: "Add a condition of type \(type)"))
      }
      let always = strategy.conditions.contains { $0.isReference && $0.probability == 1 }
      if strategy.isGenerated, always, !own.contains(where: \.isReference) {
        notes.append(
          Issue(
            ["conditions"], "there is no \(modality) reference, but training always has one",
            suggestion: "Add a condition of type reference"))
      }
    }
    return notes
  }

  // MARK: Sizes and rates

  /// The sizes of the training clips in pixels.
  private var buckets: [VideoDimensions] {
    guard let folder = dataset.strategies.video?.latentsFolder else { return [] }
    let shapes = Set(dataset.entries.compactMap { $0.shapes[folder] })
    return shapes.map {
      VideoDimensions(
        width: $0[3] * factors.width, height: $0[2] * factors.height,
        frames: ($0[1] - 1) * factors.time + 1)
    }.sorted { (tokens($0), $0.width) < (tokens($1), $1.width) }
  }

  private func tokens(_ dims: VideoDimensions) -> Double {
    Double(factors.latentFrames(dims.frames)) * Double(dims.height / factors.height)
      * Double(dims.width / factors.width)
  }

  private func sizes(_ sample: ValidationSample) -> [Issue] {
    guard configuration.validation.generateVideo, let smallest = buckets.first,
      let largest = buckets.last
    else {
      return []
    }
    let dims = sample.videoDims ?? configuration.validation.videoDims
    guard
      tokens(dims) > Self.farSize * tokens(largest)
        || tokens(dims) * Self.farSize < tokens(smallest)
    else {
      return []
    }
    func words(_ d: VideoDimensions) -> String { "\(d.width)x\(d.height)x\(d.frames)" }
    let range = smallest == largest ? words(smallest) : "\(words(smallest)) to \(words(largest))"
    return [
      Issue(
        ["size"], "is far from the training clips (got \(words(dims)), training uses \(range))",
        suggestion: "A size near theirs shows better what was learned")
    ]
  }

  private var rates: [Issue] {
    guard let folder = dataset.strategies.video?.latentsFolder else { return [] }
    let rates = dataset.entries.compactMap { $0.fps[folder] }
    guard let smallest = rates.min(), let largest = rates.max() else { return [] }
    let rate = configuration.validation.frameRate
    guard rate > largest * Self.farRate || rate * Self.farRate < smallest else { return [] }
    func words(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
    let range = smallest == largest ? words(smallest) : "\(words(smallest)) to \(words(largest))"
    return [
      Issue(
        ["frameRate"],
        "is far from the training clips (got \(words(rate)), training uses \(range))",
        suggestion: "A rate near theirs shows better what was learned")
    ]
  }
}
