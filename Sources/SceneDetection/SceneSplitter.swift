import CFFmpeg
import Foundation
import Media
import Support

/// One scene of a split.
public struct WrittenScene: Equatable, Sendable {
  /// The number, from 1, as in the file's name.
  public let number: Int
  public let scene: Scene
  /// The time of the first frame, and of the frame after the last one, in seconds from the video's
  /// first frame.
  public let startSeconds: Double
  public let endSeconds: Double
  /// The file name in the output folder; nil if scenes are only detected.
  public let file: String?
  /// The names of preview images in the output folder.
  public let images: [String]
}

/// The result of `SceneSplitter.split`.
public struct SplitResult: Equatable, Sendable {
  public let scenes: [WrittenScene]
  /// The number of scenes that were found but are too short.
  public let droppedScenes: Int
  /// The number of processed frames.
  public let frameCount: Int
  /// Whether the complete requested part of the video could be read.
  public let ending: Ending
  /// Notes for the user, a sentence each.
  public let notes: [String]
}

/// The progress of a split.
public struct SplitProgress: Equatable, Sendable {
  public enum Phase: Equatable, Sendable {
    /// Scenes are detected and, unless they are copied, written.
    case splitting
    /// Files that could not be written during the pass are written.
    case writing
    case copying
    case extractingImages
  }
  public let phase: Phase
  /// The number of processed frames, or of packets if scenes are copied.
  public let frame: Int
  /// The total number; nil if the container doesn't give it.
  public let frameCount: Int?
}

/// Splits a video at its scene changes into separate files.
///
/// The video is decoded once, with only a few frames in memory at a time. Files are named
/// `<stem>-Scene-001.mp4` and so on, beside a table `scenes.csv` and a page `scenes.html`. A video
/// without cuts is one scene.
public struct SceneSplitter: Sendable {
  /// The way in which scenes become files.
  public enum Output: Equatable, Sendable {
    /// Encoded, with frame accuracy: H.264, with the video's audio as AAC.
    case encoded
    /// Copied without encoding, cut at the last keyframe before or at each scene change.
    case copied
    /// No files: scenes are only detected.
    case none
  }

  public var output = Output.encoded
  /// The audio track for the scenes.
  public var audioTrack = AudioTrackChoice.automatic
  /// The minimum length of scenes to write.
  public var filterShorterThan: SceneLength?
  /// The number of scenes at which to stop.
  public var maximumCount: Int?
  public var range = SplitRange()
  /// The divisor of width and height for the detector; nil shrinks the longer side to 256 pixels.
  public var downscale: Int?
  /// The number of frames that the detector skips after each frame that it sees.
  public var frameSkip = 0
  public var imagesPerScene = 0
  /// Whether to turn each interlaced frame into a single image. Copies remain interlaced.
  public var deinterlaces = true
  /// The path of a table of the detector's measurements.
  public var statisticsFile: String?
  /// PySceneDetect's rate factor, with a faster preset that is closer to the source but makes
  /// larger files.
  public var quality = VideoWriter.Quality(crf: 22, preset: "superfast")
  /// The maximum size in bytes of decoded frames that are held while a cut can still be placed
  /// before them; beyond it the video is decoded twice.
  var heldLimit = 256 << 20

  public static let tableName = "scenes.csv"
  public static let reportName = "scenes.html"
  static let sceneExtensions = ["mp4", "mov", "mkv", "avi", "nut"]

  public init(filterShorterThan: SceneLength? = nil) { self.filterShorterThan = filterShorterThan }

  /// Splits `input` into `folder`, which is created if needed. Scenes of an earlier run on the same
  /// video are replaced, or removed if its table lists them and they no longer exist; other files
  /// are unchanged. Nothing is changed in the folder before everything is done.
  ///
  /// - Throws: `Issue` for a value out of range; `MediaError` if the video can't be read or a file
  ///   can't be written; the errors of `progress`.
  public func split(
    _ input: String, into folder: String, by detector: any SceneDetector = ContentDetector(),
    progress: (SplitProgress) throws -> Void = { _ in }
  ) throws -> SplitResult {
    try checkOptions()
    let video = try VideoReader(path: input, deinterlaces: deinterlaces)
    if video.isImage {
      throw MediaError(
        .badOption, file: input, "is an image, not a video", remedy: "Give a video.")
    }
    if output == .encoded { try SceneWriter.check(video) }
    let stem = URL(fileURLWithPath: input).deletingPathExtension().lastPathComponent
    let files = try SceneFolder(folder, stem: stem)
    try checkStatisticsFile(input: input, folder: folder, stem: stem)
    let statistics = try statisticsFile.map { try SceneStatistics(path: $0, detector: detector) }
    let writer =
      output == .encoded
      ? try SceneWriter(
        video: video, folder: files.staging, quality: quality, audioTrack: audioTrack) : nil
    let strips = try SceneStrips(video)
    let pass = try ScenePass(
      video: video, detector: detector, options: passOptions(rate: video.frameRate),
      sink: writer.map { SceneSinks([$0, strips]) } ?? strips, statistics: statistics)
    let total = video.frameCount.value
    try pass.run { try progress(SplitProgress(phase: .splitting, frame: $0, frameCount: total)) }

    var found = pass.scenes
    var paths: [String?]
    var notes = writer?.notes ?? []
    switch output {
    case .encoded:
      paths = writer?.files ?? []
      paths += try writeRest(
        of: pass, strips, input: input, in: files, notes: &notes, progress: progress)
    case .copied:
      (found, paths) = try copy(
        pass, video, stem: stem, in: files, notes: &notes, progress: progress)
    case .none:
      paths = Array(repeating: nil, count: pass.keptCount)
    }
    let scenes = try name(found.filter(\.isKept), paths, stem: stem, origin: pass.origin, in: files)
    notes += try self.notes(on: video, scenes)
    try writeImages(of: scenes, input: input, in: files, progress: progress)
    try AtomicFile.write(
      SceneTable.data(scenes), to: files.place(for: Self.tableName), failing: MediaError.init(_:))
    let shown = try finish(strips, of: pass, showing: found, input: input, progress: progress)
    if let failure = shown.failure { notes.append(failure) }
    let page = SceneReport(
      title: "Scenes of \(video.name)", scenes: scenes, strips: shown.result,
      folder: Self.absolute(folder),
      source: Self.absolute(input))
    try AtomicFile.write(
      page.data, to: files.place(for: Self.reportName), failing: MediaError.init(_:))
    let stale = try SceneTable(folder: folder).files(ofStem: stem)
    try statistics?.finish()
    try files.commit(removing: stale)
    try statistics?.commit()
    return SplitResult(
      scenes: scenes, droppedScenes: found.count { !$0.isKept }, frameCount: pass.frameCount,
      ending: pass.stoppedEarly ? .complete : video.ending, notes: notes)
  }

  /// The decoder's notes about the frames read.
  private func notes(on video: VideoReader, _ scenes: [WrittenScene]) throws -> [String] {
    var notes: [String] = []
    if let degrees = video.unusedRotation {
      notes.append(
        degrees.isNaN
          ? "The display matrix is not a rotation, and was ignored."
          : String(
            format: "The video asks to be rotated by %.1f degrees, which is not a multiple of 90.",
            degrees)
            + (output == .copied ? " The copies ask for the same." : " It was not rotated."))
    }
    if video.isDeinterlaced, output == .encoded {
      notes.append(
        "The video is interlaced, and was deinterlaced; `deinterlaces` off keeps the frames as stored."
      )
    }
    if let obstacle = video.deinterlacingObstacle {
      notes.append("The video is interlaced, and was not deinterlaced: \(obstacle).")
    }
    if let damage = try video.damage() {
      let places = damage.damaged + damage.missingAfter.map { max(0, $0) }
      let hit = scenes.filter { scene in
        places.contains { scene.scene.start <= $0 && $0 < scene.scene.end }
      }.map { $0.file ?? "scene \($0.number)" }
      let shown =
        hit.prefix(5).joined(separator: ", ") + (hit.count > 5 ? " and \(hit.count - 5) more" : "")
      notes.append(
        "Damage: \(damage.description)." + (hit.isEmpty ? "" : " Check or remove \(shown)."))
    }
    return notes
  }

  private func checkOptions() throws {
    if frameSkip > 0, statisticsFile != nil {
      throw Issue(
        ["statisticsFile"], "needs the measurement of every frame",
        suggestion: "Remove it or `frameSkip`.")
    }
    if range.end != nil, range.duration != nil {
      throw Issue(
        ["range", "end"], "contradicts `range.duration`", suggestion: "Remove one of them.")
    }
    let limits: [(subject: [Issue.PathComponent], value: Int, allowed: ClosedRange<Int>)] = [
      (["frameSkip"], frameSkip, 0...1_000_000), (["range", "skipEnd"], range.skipEnd, 0...(.max)),
      (["imagesPerScene"], imagesPerScene, 0...1000),
      (["maximumCount"], maximumCount ?? 1, 1...(.max)),
      (["downscale"], downscale ?? 1, 1...(.max)),
      (["quality", "crf"], quality.crf, 0...51),
    ]
    for (subject, value, allowed) in limits where !allowed.contains(value) {
      let (minimum, maximum) = (allowed.lowerBound, allowed.upperBound)
      let expected = maximum == .max ? "\(minimum) or more" : "between \(minimum) and \(maximum)"
      throw Issue(subject, "must be \(expected) (got \(value))")
    }
    guard VideoWriter.Quality.presets.contains(quality.preset) else {
      let presets = VideoWriter.Quality.presets.joined(separator: ", ")
      throw Issue(
        ["quality", "preset"],
        "is not a preset of x264 (got \(quality.preset), expected \(presets))")
    }
  }

  /// Checks that the table of measurements replaces neither the video nor a file that the split
  /// writes.
  private func checkStatisticsFile(input: String, folder: String, stem: String) throws {
    guard let statisticsFile else { return }
    func refuse(_ what: String) -> MediaError {
      MediaError(
        .badOption, file: statisticsFile, what,
        remedy: "Give the table of measurements another name.")
    }
    var (video, table) = (stat(), stat())
    if stat(input, &video) == 0, stat(statisticsFile, &table) == 0, video.st_dev == table.st_dev,
      video.st_ino == table.st_ino
    {
      throw refuse("is the video itself")
    }
    let place = URL(fileURLWithPath: statisticsFile).standardizedFileURL
    let own = URL(fileURLWithPath: folder).standardizedFileURL.resolvingSymlinksInPath().path
    guard place.deletingLastPathComponent().resolvingSymlinksInPath().path == own else { return }
    let name = place.lastPathComponent
    if [Self.tableName, Self.reportName].contains(name) || SceneName(name, stem: stem) != nil {
      throw refuse("is the name of a file that a split writes")
    }
  }

  private func passOptions(rate: Rational) -> ScenePass.Options {
    ScenePass.Options(
      range: range, downscale: downscale, frameSkip: frameSkip,
      minimumLength: filterShorterThan?.frames(at: rate) ?? 0, maximumCount: maximumCount,
      heldLimit: heldLimit, keepsTimes: output == .copied)
  }

  /// Writes the scenes that the pass could not pass on, by decoding once more.
  private func writeRest(
    of pass: ScenePass, _ strips: SceneStrips, input: String, in files: SceneFolder,
    notes: inout [String],
    progress: (SplitProgress) throws -> Void
  ) throws -> [String] {
    let rest = pass.scenes.filter(\.isKept).dropFirst(pass.handedOn)
    guard let last = rest.last else { return [] }
    let writer = try SceneWriter(
      video: try VideoReader(path: input, deinterlaces: deinterlaces), folder: files.staging,
      quality: quality,
      firstNumber: pass.handedOn + 1, audioTrack: audioTrack)
    try writer.video.play(Array(rest), into: SceneSinks([writer, strips])) {
      try progress(SplitProgress(phase: .writing, frame: $0, frameCount: last.scene.end))
    }
    for note in writer.notes where !notes.contains(note) { notes.append(note) }
    return writer.files
  }

  /// Creates the thumbnails that the pass has not created: of scenes that it could not pass on, or
  /// that were moved to keyframes.
  private func finish(
    _ strips: SceneStrips, of pass: ScenePass, showing scenes: [FoundScene], input: String,
    progress: (SplitProgress) throws -> Void
  ) throws -> SceneStrips {
    guard output != .encoded else { return strips }
    let wanted = scenes.filter(\.isKept)
    let isMoved = wanted.map(\.scene) != pass.scenes.filter(\.isKept).map(\.scene)
    let rest = isMoved ? wanted : Array(wanted.dropFirst(pass.handedOn))
    guard let last = rest.last else { return strips }
    let result = isMoved ? try SceneStrips(VideoReader(path: input)) : strips
    try VideoReader(path: input).play(rest, into: result) {
      try progress(SplitProgress(phase: .extractingImages, frame: $0, frameCount: last.scene.end))
    }
    return result
  }

  private static func absolute(_ path: String) -> String {
    URL(fileURLWithPath: path).standardizedFileURL.path
  }

  private func copy(
    _ pass: ScenePass, _ video: VideoReader, stem: String, in files: SceneFolder,
    notes: inout [String],
    progress: (SplitProgress) throws -> Void
  ) throws -> ([FoundScene], [String?]) {
    let index = try KeyframeIndex(path: video.path)
    var scenes = pass.scenes.map { found in
      var found = found
      found.keyframe = index.keyframe(before: found.startSeconds, among: pass.times)
      return found
    }.movedToKeyframes()
    let merged = pass.scenes.count - scenes.count
    if merged > 0 {
      let cuts = merged == 1 ? "1 cut has" : "\(merged) cuts have"
      notes.append("\(cuts) no keyframe after the cut before; the scenes there stay in one file.")
    }
    let kept = scenes.count(where: \.isKept)
    let copier = try SceneCopier(
      video, folder: files.staging, index: index, audioTrack: audioTrack
    ) { number, ending in
      files.output + "/"
        + SceneName(stem: stem, number: number, of: kept, fileExtension: ending).text
    }
    notes += copier.notes
    if let note = copier.trackNote { notes.append(note) }
    let total = pass.stoppedEarly ? nil : video.frameCount.value
    let paths = try copier.write(scenes, end: pass.stoppedEarly ? scenes.last?.endSeconds : nil) {
      try progress(SplitProgress(phase: .copying, frame: $0, frameCount: total))
    }
    var lost = 0
    for (place, loss) in copier.losses {
      lost += scenes[place].isKept ? loss.count : 0
      scenes[place] = scenes[place].withoutLast(loss.count, endSeconds: loss.seconds)
    }
    if lost > 0 {
      let frames = lost == 1 ? "1 frame is" : "\(lost) frames are"
      notes.append(
        "\(frames) in no scene: right before a cut, what needs the keyframe after it is left out.")
    }
    return (scenes, paths)
  }

  /// Numbers the scenes and names the files.
  private func name(
    _ kept: [FoundScene], _ paths: [String?], stem: String, origin: Double, in files: SceneFolder
  ) throws -> [WrittenScene] {
    zip(kept, paths).enumerated().map { place, pair in
      let (found, path) = pair
      let file = path.map { path in
        let kind = URL(fileURLWithPath: path).pathExtension
        let name = SceneName(stem: stem, number: place + 1, of: kept.count, fileExtension: kind)
          .text
        files.add(path, as: name)
        return name
      }
      let images = (0..<imagesPerScene).map {
        SceneName(stem: stem, number: place + 1, of: kept.count, image: $0 + 1, of: imagesPerScene)
          .text
      }
      return WrittenScene(
        number: place + 1, scene: found.scene, startSeconds: found.startSeconds - origin,
        endSeconds: found.endSeconds - origin, file: file, images: images)
    }
  }

  private func writeImages(
    of scenes: [WrittenScene], input: String, in files: SceneFolder,
    progress: (SplitProgress) throws -> Void
  ) throws {
    guard imagesPerScene > 0 else { return }
    var wanted: [Int: [String]] = [:]
    for scene in scenes {
      for (frame, name) in zip(
        SceneImages.frames(of: scene.scene, count: imagesPerScene), scene.images)
      {
        wanted[frame, default: []].append(files.place(for: name))
      }
    }
    let count = wanted.keys.max().map { $0 + 1 }
    try SceneImages.write(of: input, wanted: wanted, deinterlaces: deinterlaces) {
      try progress(SplitProgress(phase: .extractingImages, frame: $0, frameCount: count))
    }
  }
}

extension VideoWriter.Quality {
  /// From the fastest preset to the most efficient.
  static let presets = [
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
  ]
}

extension VideoReader {
  /// The file's name without its folder.
  var name: String { URL(fileURLWithPath: path).lastPathComponent }
}

extension [FoundScene] {
  /// The scenes as they can be copied: each from its keyframe to the next scene's. Scenes with the
  /// same keyframe are merged.
  func movedToKeyframes() -> [FoundScene] {
    var result: [FoundScene] = []
    for found in self {
      let key =
        found.keyframe
        ?? Keyframe(
          index: found.scene.start, seconds: found.startSeconds, packetSeconds: found.startSeconds,
          isFileStart: false)
      var keep = found.isKept
      if let last = result.popLast() {
        if last.scene.start == key.index {
          keep = keep || last.isKept
        } else {
          result.append(
            last.moved(
              to: last.keyframe ?? key, end: key.index, endSeconds: key.seconds, keep: last.isKept))
        }
      }
      result.append(
        found.moved(to: key, end: found.scene.end, endSeconds: found.endSeconds, keep: keep))
    }
    return result
  }
}

extension FoundScene {
  fileprivate func moved(to key: Keyframe, end: Int, endSeconds: Double, keep: Bool) -> FoundScene {
    FoundScene(
      scene: Scene(start: key.index, end: end), startSeconds: key.seconds, endSeconds: endSeconds,
      keyframe: key, isKept: keep)
  }

  /// The part of the scene that could be copied.
  fileprivate func withoutLast(_ count: Int, endSeconds: Double) -> FoundScene {
    FoundScene(
      scene: Scene(start: scene.start, end: max(scene.start + 1, scene.end - count)),
      startSeconds: startSeconds, endSeconds: endSeconds, keyframe: keyframe, isKept: isKept)
  }
}
