import Foundation
import Media
import Support

/// A page that shows a dataset: thumbnails, captions, buckets, audio, and problems. It is a single
/// HTML file that loads only the clips.
public struct DatasetPreview: Sendable {
  /// The max bytes of images, before base64 adds a third.
  private static let imageBytes = 24 << 20

  public let html: String
  public let clips: Int
  public let problems: Int
  /// Notes on what is not shown, with the reason.
  public let notes: [String]

  /// - Parameters:
  ///   - cache: nil to show the dataset file of the options, with the cache beside it if there is
  ///     one.
  ///   - decoder: decodes the latents, to show them instead of the media files' frames.
  ///   - page: the path of the page, from which it links to the media files to play them; nil for a
  ///     page that plays none.
  ///   - progress: called with the phase, the number of files or clips done, and of all.
  /// - Throws: the errors of `CacheChecker` for input that can't be used, and those of loading the
  ///   decoder's model.
  public init(
    cache: String?, _ options: DatasetCheckOptions, decoder: CacheDecoder? = nil,
    page: String? = nil,
    progress: (CacheChecker.Phase, Int, Int) -> Void = { _, _, _ in }
  ) throws {
    let beside = options.dataset.map { (absolutePath($0) as NSString).deletingLastPathComponent }
    let path = cache ?? beside.flatMap { isFolder("\($0)/.precomputed") ? $0 : nil }
    if let path {
      let checker = try CacheChecker(cache: path, options)
      let reading = CacheReading(checker.cache, scansNumbers: true) { progress(.files, $0, $1) }
      let report = checker.report(reading, progress: progress)
      try self.init(checker, reading, report, decoder, page) { progress(.clips, $0, $1) }
    } else if let dataset = options.dataset {
      let listing = try DatasetListing(path: dataset, columns: options.columns)
      try self.init(listing, options, page) { progress(.clips, $0, $1) }
    } else {
      throw Issue(
        ["cache"], "is missing", suggestion: "Name a cache, or a dataset file.")
    }
  }

  private init(
    _ checker: CacheChecker, _ reading: CacheReading, _ report: DatasetReport,
    _ decoder: CacheDecoder?,
    _ page: String?, _ progress: (Int, Int) -> Void
  ) throws {
    let rows = checker.listing?.byName ?? [:]
    let bySample = Dictionary(grouping: report.problems.filter { $0.sample != nil }) {
      $0.sample ?? ""
    }
    let names = Set(checker.cache.samples).union(rows.keys).sorted {
      (rows[$0]?.line ?? .max, $0) < (rows[$1]?.line ?? .max, $1)
    }
    let clips = names.map { name in
      let video = reading[.latents, name]
      let bucket = video.flatMap(checker.bucket)
      let clip = ClipPreview(
        name: name, line: rows[name]?.line,
        caption: rows[name]?.caption
          ?? reading[.conditions, name]?.metadata[Fingerprint.Key.prompt.rawValue],
        bucket: bucket?.description,
        duration: video.map(checker.seconds) ?? reading[.audioLatents, name]?.facts.audio?.duration,
        fps: video?.facts.fps, tokens: reading[.conditions, name]?.facts.text?.tokens,
        extras: CacheFolder.all.filter {
          ![.latents, .conditions].contains($0) && reading[$0, name] != nil
        }.map(\.rawValue),
        problems: (bySample[name] ?? []).map(\.words))
      return Entry(
        clip: clip, media: rows[name]?.mediaPath, audio: rows[name]?.sources[.audioLatents],
        bucket: bucket,
        latents: decoder == nil ? nil : video?.path)
    }
    try self.init(
      title: checker.listing?.path ?? checker.cache.root, clips,
      general: report.problems.filter { $0.sample == nil }.map(\.description), notes: report.notes,
      problems: report.problems.count, showsMedia: !checker.options.skipsSources, decoder, page,
      progress)
  }

  private init(
    _ listing: DatasetListing, _ options: DatasetCheckOptions, _ page: String?,
    _ progress: (Int, Int) -> Void
  ) throws {
    let clips = listing.rows.map { row in
      let clip = ClipPreview(
        name: row.name, line: row.line, caption: row.caption, bucket: nil, duration: nil, fps: nil,
        tokens: nil, extras: [], problems: [])
      return Entry(
        clip: clip, media: row.mediaPath, audio: row.sources[.audioLatents], bucket: nil,
        latents: nil)
    }
    try self.init(
      title: listing.path, clips,
      general: listing.problems.map(\.description),
      notes: ["the dataset is not preprocessed yet"] + listing.skipped.notes(),
      problems: listing.problems.count,
      showsMedia: !options.skipsSources, nil, page, progress)
  }

  private struct Entry {
    let clip: ClipPreview
    let media: String?
    /// The file with the audio, which is usually the media file.
    let audio: String?
    let bucket: ResolutionBucket?
    /// The latents to decode.
    let latents: String?
  }

  private init(
    title: String, _ clips: [Entry],
    general: [String], notes: [String], problems: Int, showsMedia: Bool,
    _ decoder: CacheDecoder?, _ page: String?, _ progress: (Int, Int) -> Void
  ) throws {
    let folder = page.map { (absolutePath($0) as NSString).deletingLastPathComponent }
    let shared = SharedProblems(clips.map(\.clip.problems))
    var budget = ImageBudget(bytes: Self.imageBytes, clips: clips.count)
    var withoutImages = 0
    var cards = ""
    for (done, entry) in clips.enumerated() {
      var clip = entry.clip
      if let folder, let media = entry.media {
        clip.link = ClipPage.link(from: folder, to: absolutePath(media))
      }
      if budget.hasRoom {
        if let media = entry.media, showsMedia {
          clip.look(
            at: media, audio: entry.audio, bucket: entry.bucket,
            count: entry.latents == nil ? budget.count : 0, side: budget.side
          )
        }
        if let latents = entry.latents, let decoder {
          try clip.look(atLatents: latents, decoder, count: budget.count, side: budget.side)
        }
        budget.spend(clip.frames.map(\.count).reduce(0, +))
      } else {
        withoutImages += 1
      }
      cards += PreviewMarkup.card(clip, shared)
      progress(done + 1, clips.count)
    }
    var notes = notes
    if decoder != nil { notes.append("images are decoded from the latents") }
    if withoutImages > 0 {
      notes.append("the last \(withoutImages) clips have no images, to keep the page small")
    }
    html = PreviewMarkup.page(
      title: title, clips: clips.map(\.clip), cards: cards,
      general: capped(general, at: 100) { "\($0) more problems; `ltx dataset check` lists them" },
      shared: shared, notes: notes, problems: problems)
    self.clips = clips.count
    self.problems = problems
    self.notes = notes
  }
}
