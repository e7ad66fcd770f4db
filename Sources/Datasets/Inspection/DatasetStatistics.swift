import Foundation
import LTX
import Media
import Support

/// The statistics of a preprocessed dataset.
public struct DatasetStatistics: Codable, Sendable {
  /// The spread of values.
  public struct Spread: Codable, Equatable, Sendable {
    public let count: Int
    public let sum: Double
    public let minimum: Double
    /// The median; of an even number of values, the mean of the two in the middle.
    public let median: Double
    public let maximum: Double

    /// Nil without values.
    init?(_ values: [Double]) {
      let sorted = values.sorted()
      guard let first = sorted.first, let last = sorted.last else { return nil }
      count = sorted.count
      sum = sorted.reduce(0, +)
      minimum = first
      median = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
      maximum = last
    }
  }

  /// The number of times that a value occurs.
  public struct Count: Codable, Equatable, Sendable {
    public let value: String
    public let count: Int
  }

  public struct Sample: Codable, Equatable, Sendable {
    public let name: String
    /// WxHxF in pixels and frames; nil without video latents.
    public let bucket: String?
    public let fps: Double?
    /// Seconds of the video, or of the audio without one.
    public let duration: Double?
    public let captionCharacters: Int?
    public let captionTokens: Int?
    /// The loudness of all of the media file's audio, in LUFS; nil without audio or for silence.
    public let loudness: Double?
    /// The largest sample of the media file's audio, in dB of full scale.
    public let peak: Double?
    /// The number of times that the sample appears in an epoch of training.
    public let repeats: Int
  }

  public let cache: String
  public let dataset: String?
  public let folders: [Count]
  public let samples: [Sample]
  /// The number of samples in an epoch of training, with repeats.
  public let samplesPerEpoch: Int
  public let durations: Spread?
  public let frameRates: [Count]
  public let buckets: [Count]
  public let captionCharacters: Spread?
  public let captionTokens: Spread?
  public let loudness: Spread?
  public let peak: Spread?
  /// The number of samples with silent audio; nil if no file records the loudness of its audio.
  public let silentAudio: Int?
  /// The number of samples whose audio latents record the loudness of the audio.
  public let measuredAudio: Int
  /// Notes on unknown values, with the reason.
  public let notes: [String]

  /// - Throws: the errors of `CacheChecker` for input that can't be used.
  public init(
    cache path: String, _ options: DatasetCheckOptions = DatasetCheckOptions(),
    progress: (CacheChecker.Phase, Int, Int) -> Void = { _, _, _ in }
  ) throws {
    let checker = try CacheChecker(cache: path, options)
    let cache = checker.cache
    let reading = CacheReading(cache, scansNumbers: false) { progress(.files, $0, $1) }
    var notes = checker.notes
    if !reading.problems.isEmpty {
      notes.append(
        "\(reading.problems.count) files can't be used and are not counted; `ltx dataset check` "
          + "lists them"
      )
    }
    let rows = checker.listing?.byName ?? [:]
    let names = cache.samples
    var silentMedia: [String] = []
    let repeats = try SampleRepeats(cache: cache.root)
    samples = names.enumerated().map { done, name in
      defer { progress(.sources, done + 1, names.count) }
      let video = reading[.latents, name]
      let row = rows[name]
      var level: AudioLevel?
      if !options.skipsSources, let media = row?.sources[.audioLatents], access(media, R_OK) == 0 {
        do {
          level = try AudioLevel.measure(path: media)
          if level?.peak == nil, reading[.audioLatents, name] != nil { silentMedia.append(name) }
        } catch let error as MediaError where error.kind == .noStream {
          level = nil
        } catch {
          notes.append("the loudness is not known: \(describe(error))")
        }
      }
      let caption =
        row?.caption ?? reading[.conditions, name]?.metadata[Fingerprint.Key.prompt.rawValue]
      return Sample(
        name: name, bucket: video.flatMap(checker.bucket)?.description, fps: video?.facts.fps,
        duration: video.map(checker.seconds) ?? reading[.audioLatents, name]?.facts.audio?.duration,
        captionCharacters: caption?.count,
        captionTokens: reading[.conditions, name]?.facts.text?.tokens, loudness: level?.loudness,
        peak: level?.peak, repeats: repeats.repeats(of: name)
      )
    }
    samplesPerEpoch = samples.reduce(0) { $0 + $1.repeats }
    self.cache = cache.root
    dataset = checker.listing?.path
    folders = CacheFolder.all.compactMap { folder in
      cache.files[folder].map { Count(value: folder.rawValue, count: $0.count) }
    }
    durations = Spread(samples.compactMap(\.duration))
    frameRates = Self.counts(samples.compactMap(\.fps).map { String(format: "%.6g", $0) })
    buckets = Self.counts(samples.compactMap(\.bucket))
    captionCharacters = Spread(samples.compactMap(\.captionCharacters).map(Double.init))
    captionTokens = Spread(samples.compactMap(\.captionTokens).map(Double.init))
    loudness = Spread(samples.compactMap(\.loudness))
    peak = Spread(samples.compactMap(\.peak))
    var levels = reading.audioLevels(.audioLatents)
    // Caches of other tools don't record the loudness of their audio.
    for sample in silentMedia where levels[sample] == nil {
      levels[sample] = SampleLevel(peak: -.infinity, rms: -.infinity)
    }
    let silent = SilentAudio(levels)
    (silentAudio, measuredAudio) = (silent.measured > 0 ? silent.names.count : nil, silent.measured)
    if let note = silent.note { notes.append(note) }
    if loudness == nil, peak == nil, !options.skipsSources {
      notes.append(
        rows.isEmpty
          ? "the loudness is not known without the media files, which the dataset file names"
          : "no media file has audio")
    }
    self.notes = notes
  }

  /// Returns the values with their counts, the most common first.
  private static func counts(_ values: [String]) -> [Count] {
    Dictionary(grouping: values) { $0 }.map { Count(value: $0.key, count: $0.value.count) }
      .sorted { ($1.count, $0.value) < ($0.count, $1.value) }
  }
}
