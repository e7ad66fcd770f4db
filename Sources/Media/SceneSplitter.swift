import CFFmpeg
import Foundation

/// One scene as it was written.
public struct WrittenScene: Equatable, Sendable {
  /// From 1, as in the file's name.
  public let number: Int
  public let scene: Scene
  /// Time of the first frame and of the frame after the last, in seconds from the video's first frame.
  public let startSeconds: Double
  public let endSeconds: Double
  /// Name within the output folder.
  public let file: String
}

/// What `SceneSplitter.split` did.
public struct SplitResult: Equatable, Sendable {
  public let scenes: [WrittenScene]
  /// Scenes that were found but are shorter than asked for.
  public let droppedScenes: Int
  public let frameCount: Int
  /// Whether the whole video could be read.
  public let ending: Ending
  /// Things the user should know, one sentence each.
  public let notes: [String]
}

/// How far a split has come.
public struct SplitProgress: Equatable, Sendable {
  public enum Phase: Equatable, Sendable { case detecting, writing }
  public let phase: Phase
  public let frame: Int
  /// Nil where the container does not say.
  public let frameCount: Int?
}

/// Cuts a video at its scene changes into files of their own: H.264, with its sound as AAC.
///
/// The video is decoded twice, once to find the scenes and once to write them, and is never held in memory. Files
/// are named `<stem>-Scene-001.mp4` and so on, beside a table `scenes.csv`. A video without any cut is one scene.
public struct SceneSplitter: Sendable {
  /// Scenes with fewer frames are not written.
  public var filterShorterThan: SceneLength?
  /// PySceneDetect's defaults.
  public var quality = VideoWriter.Quality(crf: 22, preset: "veryfast")

  public static let tableName = "scenes.csv"

  public init(filterShorterThan: SceneLength? = nil) { self.filterShorterThan = filterShorterThan }

  /// Splits `input` into the folder `output`, which is made if need be. Scenes of an earlier run on the same video
  /// are replaced or, if its table lists them and they exist no more, removed; other files are left alone.
  ///
  /// - Throws: `MediaError` if the video cannot be read or a file cannot be written, and whatever `progress` throws.
  public func split(
    _ input: String, into output: String, by detector: some SceneDetector = ContentDetector(),
    progress: (SplitProgress) throws -> Void = { _ in }
  ) throws -> SplitResult {
    let detection = try VideoReader(path: input)
    if detection.isImage {
      throw MediaError(.badOption, file: input, "is a picture, not a video", remedy: "Give a video.")
    }
    let total = detection.frameCount.value
    let found = try detection.scenes(by: detector) { frame in
      try progress(SplitProgress(phase: .detecting, frame: frame, frameCount: total))
    }
    let frameCount = found.last?.end ?? 0
    let minimum = filterShorterThan?.frames(at: detection.frameRate) ?? 0
    let kept = found.filter { $0.length >= minimum }

    try makeFolder(output)
    let stem = URL(fileURLWithPath: input).deletingPathExtension().lastPathComponent
    let cutter = try SceneCutter(input: input, folder: output, stem: stem, quality: quality)
    let written = try cutter.write(kept) { frame in
      try progress(SplitProgress(phase: .writing, frame: frame, frameCount: frameCount))
    }
    let table = SceneTable(folder: output)
    let stale = table.files(ofStem: stem).filter { name in !written.contains { $0.file == name } }
    try table.write(written)
    for name in stale { unlink(output + "/" + name) }
    return SplitResult(
      scenes: written, droppedScenes: found.count - kept.count, frameCount: frameCount,
      ending: detection.ending, notes: cutter.notes)
  }

  private func makeFolder(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw MediaError(
        .writing, file: path, "no folder can be made here (\(error.localizedDescription))",
        remedy: "Choose another output folder.")
    }
  }
}

/// `scenes.csv`: what a split wrote, one line per scene.
struct SceneTable {
  static let header = "index,start_frame,end_frame,start_seconds,end_seconds,file"
  let path: String

  init(folder: String) { path = folder + "/" + SceneSplitter.tableName }

  func write(_ scenes: [WrittenScene]) throws {
    let lines = scenes.map { scene in
      let start = String(format: "%.6f", scene.startSeconds)
      let end = String(format: "%.6f", scene.endSeconds)
      let place = "\(scene.number),\(scene.scene.start),\(scene.scene.end),\(start),\(end),"
      return place + Self.quoted(scene.file)
    }
    try AtomicFile.write(Data(([Self.header] + lines).map { $0 + "\n" }.joined().utf8), to: path)
  }

  /// The scenes of one video that the table lists; none if there is no table or it is not ours.
  func files(ofStem stem: String) -> [String] {
    guard let data = FileManager.default.contents(atPath: path) else { return [] }
    let lines = String(decoding: data, as: UTF8.self).split(separator: "\n")
    guard lines.first.map(String.init) == Self.header else { return [] }
    return lines.dropFirst().compactMap { line in
      let fields = line.split(separator: ",", maxSplits: 5, omittingEmptySubsequences: false)
      guard fields.count == 6 else { return nil }
      let name = Self.unquoted(String(fields[5]))
      let prefix = stem + "-Scene-"
      guard name.hasPrefix(prefix), name.hasSuffix(".mp4") else { return nil }
      let number = name.dropFirst(prefix.count).dropLast(4)
      return number.count >= 3 && number.allSatisfy { "0123456789".contains($0) } ? name : nil
    }
  }

  private static func quoted(_ field: String) -> String {
    guard field.contains(where: { ",\"\n\r".contains($0) }) else { return field }
    return "\"" + field.replacingOccurrences(of: "\"", with: "\"\"") + "\""
  }

  private static func unquoted(_ field: String) -> String {
    guard field.count >= 2, field.hasPrefix("\""), field.hasSuffix("\"") else { return field }
    return field.dropFirst().dropLast().replacingOccurrences(of: "\"\"", with: "\"")
  }
}
