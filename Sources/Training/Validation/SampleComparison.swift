import Generation
import LTX
import NN

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
    let model = configuration.model
    let checkpoint = try Checkpoint(
      ModelFiles(
        unified: model.modelPath, videoVAE: model.videoVAEPath, audioVAE: model.audioVAEPath))
    self.configuration = configuration
    self.dataset = dataset
    scale = try dataset.referenceScale()
    factors = try VideoVAEConfiguration.Encoder(checkpoint.config).compression
    audio =
      checkpoint.config.has("audio_vae") ? try AudioVAEConfiguration(checkpoint.config).tokens : nil
  }

  // MARK: Reference scales

  /// The configuration with the dataset's scale for references of samples that set none, and notes
  /// about it.
  ///
  /// A scale that does not divide the sample's size is not used.
  func takingReferenceScales() -> (configuration: TrainingConfiguration, notes: [String]) {
    var result = configuration
    var notes: [String] = []
    guard hasReferences, scale != ReferenceScale() else { return (configuration, []) }
    for (index, sample) in configuration.validation.samples.enumerated() {
      let dims = sample.videoDims ?? configuration.validation.videoDims
      for (position, condition) in sample.conditions.enumerated() {
        guard condition.modality == .video, case .reference(let given, let isShown) = condition.kind
        else { continue }
        let key = "validation.samples[\(index)].conditions[\(position)]"
        var taken = given ?? ReferenceScale()
        func take(_ name: String, _ path: WritableKeyPath<ReferenceScale, Int>) {
          guard !isGiven(name, key), taken[keyPath: path] == 1, scale[keyPath: path] != 1 else {
            return
          }
          taken[keyPath: path] = scale[keyPath: path]
          notes.append(
            "\(key).\(name): is not set, so the scale of the dataset's references is used (\(scale[keyPath: path]))"
          )
        }
        if dims.width.isMultiple(of: factors.width * scale.space),
          dims.height.isMultiple(of: factors.height * scale.space)
        {
          take("downscale_factor", \.space)
        }
        take("temporal_scale_factor", \.time)
        result.validation.samples[index].conditions[position].kind = .reference(
          scale: taken, isShown: isShown)
      }
    }
    return (result, notes)
  }

  /// Whether the configuration's text has a key, or the older key that it replaces.
  private func isGiven(_ name: String, _ key: String) -> Bool {
    let places = configuration.source.places
    return places["\(key).\(name)"] != nil
      || (name == "downscale_factor" && places["validation.reference_downscale_factor"] != nil)
  }

  private var hasReferences: Bool {
    dataset.strategies.video?.conditions.contains(where: \.isReference) ?? false
  }

  // MARK: Differences

  /// The differences between samples and training, once for each key.
  var notes: [String] {
    var notes: [String] = []
    for (index, sample) in configuration.validation.samples.enumerated() {
      let key = "validation.samples[\(index)]"
      let own =
        sample.conditions.enumerated().flatMap {
          differences($1, "\(key).conditions[\($0)]", sample)
        }
        + missing(sample, key) + sizes(sample, key)
      for note in own where !notes.contains(note) { notes.append(note) }
    }
    return notes + rates
  }

  private func differences(
    _ condition: Condition<MediaFile>, _ key: String, _ sample: ValidationSample
  ) -> [String] {
    let modality = condition.modality
    let trained = dataset.strategies[modality]?.conditions ?? []
    /// The lengths of trained prefixes or suffixes, in latent frames.
    let lengths = trained.filter { $0.type == condition.type }.compactMap(\.latentFrames)
    func note(_ parameter: String, _ problem: String, _ found: Any, _ expected: Any) -> String {
      "\(key).\(parameter): \(problem) (got \(found), training uses \(expected)). Set it to \(expected), or the sample shows "
        + "something that was not trained"
    }
    switch (modality, condition.kind) {
    case (_, .reference(let given, _)):
      guard trained.contains(where: \.isReference) else {
        return [
          "\(key): is a reference, but training_strategy.\(modality) has none. Remove it, or train with references"
        ]
      }
      guard modality == .video else { return [] }
      let own = given ?? ReferenceScale()
      let parts = [
        ("downscale_factor", own.space, scale.space),
        ("temporal_scale_factor", own.time, scale.time),
      ]
      return parts.filter { $0.1 != $0.2 }.map {
        note($0.0, "differs from the scale of the dataset's references", $0.1, $0.2)
      }
    case (.video, .prefix), (.video, .suffix):
      guard let frames = condition.frames else { return [] }
      let isPrefix = condition.type == "prefix"
      return lengths.compactMap { count in
        let expected = isPrefix ? (count - 1) * factors.time + 1 : count * factors.time
        return frames == expected
          ? nil : note("num_frames", "differs from temporal_boundary", frames, expected)
      }
    case (.audio, .prefix), (.audio, .suffix):
      guard let audio, let seconds = condition.seconds else { return [] }
      return lengths.compactMap { expected in
        // A difference of one rounded step does not count.
        guard abs(audio.frames(seconds: seconds) - expected) > 1 else { return nil }
        let wanted = (Double(expected) / audio.rate * 1000).rounded() / 1000
        return note("duration", "differs from temporal_boundary", seconds, wanted)
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
          "spatial_region", "differs from the trained one", corners(region), corners(own))
      }
    default: return []
    }
  }

  /// Reports conditions that every training example has and the sample lacks.
  private func missing(_ sample: ValidationSample, _ key: String) -> [String] {
    var notes: [String] = []
    for (modality, strategy) in dataset.strategies.pairs {
      guard let strategy else { continue }
      let own = sample.conditions.filter { $0.modality == modality }
      if !strategy.isGenerated, !own.contains(where: \.isWhole) {
        let type = modality == .video ? "video_to_audio" : "audio_to_video"
        notes.append(
          "\(key).conditions: the \(modality) is generated, but training conditions on it. Add a condition of type \(type)"
        )
      }
      let always = strategy.conditions.contains { $0.isReference && $0.probability == 1 }
      if strategy.isGenerated, always, !own.contains(where: \.isReference) {
        notes.append(
          "\(key).conditions: there is no \(modality) reference, but training always has one. Add a condition of type reference"
        )
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

  private func sizes(_ sample: ValidationSample, _ key: String) -> [String] {
    guard configuration.validation.generateVideo, let least = buckets.first, let most = buckets.last
    else {
      return []
    }
    let dims = sample.videoDims ?? configuration.validation.videoDims
    guard tokens(dims) > Self.farSize * tokens(most) || tokens(dims) * Self.farSize < tokens(least)
    else {
      return []
    }
    func words(_ d: VideoDimensions) -> String { "\(d.width)x\(d.height)x\(d.frames)" }
    let range = least == most ? words(least) : "\(words(least)) to \(words(most))"
    return [
      "\(sample.videoDims == nil ? "validation" : key).video_dims: is far from the training clips "
        + "(got \(words(dims)), training uses \(range)). A size near theirs shows better what was learned"
    ]
  }

  private var rates: [String] {
    guard let folder = dataset.strategies.video?.latentsFolder else { return [] }
    let rates = dataset.entries.compactMap { $0.fps[folder] }
    guard let least = rates.min(), let most = rates.max() else { return [] }
    let rate = configuration.validation.frameRate
    guard rate > most * Self.farRate || rate * Self.farRate < least else { return [] }
    func words(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
    let range = least == most ? words(least) : "\(words(least)) to \(words(most))"
    return [
      "validation.frame_rate: is far from the training clips (got \(words(rate)), training uses \(range)). A rate near theirs "
        + "shows better what was learned"
    ]
  }
}
