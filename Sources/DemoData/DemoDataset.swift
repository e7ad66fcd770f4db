import Foundation
import Media
import Support

/// A folder of clips of the small world: videos with audio, and files that describe them.
public struct DemoDataset: Sendable {
  /// A clip of a folder.
  public struct Clip: Sendable, Equatable {
    /// The clip's path relative to the folder.
    public let mediaPath: String
    public let scene: DemoScene
  }

  /// The kind of media that is written.
  public enum Layout: Sendable {
    /// A file for each clip.
    case clips
    /// One film of all clips with hard cuts between them. The clips of the list are the scenes that
    /// `ltx split film.mp4 scenes` writes.
    case film
  }

  /// The captions and paths of the clips, for `ltx preprocess`.
  public static let datasetName = "dataset.json"
  /// The parameters of the clips.
  public static let scenesName = "scenes.json"
  /// Captions and parameters of scenes whose combinations are not in the folder.
  public static let heldOutName = "held-out.json"
  public static let filmName = "film.mp4"
  /// The folder for the scenes of the film.
  public static let splitName = "scenes"
  static let clipsName = "clips"

  public let world: DemoWorld
  public let layout: Layout
  public let clips: [Clip]
  /// The encoder of the videos.
  public var codec = VideoWriter.Codec.preferred

  /// - Parameter clipCount: The number of clips, from scene 0 on.
  /// - Throws: `Issue` with the subject `clips` for a number out of range.
  public init(world: DemoWorld, clipCount: Int, layout: Layout = .clips) throws {
    let limit = layout == .clips ? 10_000 : 200
    guard (1...limit).contains(clipCount) else {
      throw Issue(
        ["clips"],
        "must be between 1 and \(limit)\(layout == .film ? " for a film" : "") "
          + "(got \(clipCount))")
    }
    self.world = world
    self.layout = layout
    var scenes = world.scenes(0..<clipCount)
    if layout == .film { Self.separate(&scenes) }
    clips = scenes.enumerated().map { index, scene in
      let path =
        layout == .clips
        ? "\(Self.clipsName)/\(Self.padded(index, 4)).mp4"
        : "\(Self.splitName)/film-Scene-\(Self.padded(index + 1, 3)).mp4"
      return Clip(mediaPath: path, scene: scene)
    }
  }

  /// Changes backgrounds so that each one differs from the previous one enough for a cut to be
  /// found.
  private static func separate(_ scenes: inout [DemoScene]) {
    for index in scenes.indices.dropFirst() {
      let previous = scenes[index - 1].background
      let isAlike: Bool
      switch scenes[index].style {
      case .sketch:
        isAlike = DemoShade.paper(for: previous) == .paper(for: scenes[index].background)
      case .plain, .snow: isAlike = previous == scenes[index].background
      }
      guard isAlike else { continue }
      switch previous {
      case .black: scenes[index].background = .gray
      case .gray: scenes[index].background = .navy
      case .navy: scenes[index].background = .beige
      case .beige: scenes[index].background = .black
      }
    }
  }

  private static func padded(_ number: Int, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  /// Checks that a folder can be written to: it is new or empty.
  ///
  /// - Throws: `Issue` if it is a file, has content, or can't be written to.
  public static func check(folder: String) throws {
    if let problem = OutputFolder.problem(folder) { throw Issue([.file(folder)], problem) }
    guard isFolder(folder) else { return }
    let content: [String]
    do {
      content = try FileManager.default.contentsOfDirectory(atPath: folder)
    } catch {
      throw Issue([.file(folder)], "can't be read (\(reason(of: error)))")
    }
    guard content.isEmpty else {
      throw Issue([.file(folder)], "is not empty", suggestion: "Choose another folder.")
    }
  }

  /// Writes the folder. It appears when everything is complete, and nothing remains of a failed
  /// run.
  ///
  /// - Parameter progress: Called after each clip with the number of clips written.
  /// - Returns: The paths of the written files and folders.
  /// - Throws: `Issue` if the folder has content or can't be written, `MediaError` if a video
  ///   can't, and the errors of `progress`.
  public func write(to folder: String, progress: (Int) throws -> Void = { _ in }) throws -> [String]
  {
    try Self.check(folder: folder)
    let destination = URL(fileURLWithPath: folder).resolvingSymlinksInPath()
    let staging = URL(
      fileURLWithPath: TemporaryFiles.name(beside: destination.standardizedFileURL.path))
    TemporaryFiles.add(staging.path)
    defer {
      // After success nothing is there; after a failure its reason is already being thrown.
      try? FileManager.default.removeItem(at: staging)
      TemporaryFiles.remove(staging.path)
    }
    do {
      try FileManager.default.createDirectory(at: staging, withIntermediateDirectories: true)
      switch layout {
      case .clips: try writeClips(to: staging, progress)
      case .film: try writeFilm(to: staging, progress)
      }
      for (name, content) in lists {
        let text = content.text(JSONFormat(sortsKeys: false, isPretty: true)) + "\n"
        try AtomicFile.write(
          Data(text.utf8), to: staging.appendingPathComponent(name).path, isDurable: false)
      }
      guard rename(staging.path, destination.path) == 0 else {
        throw Issue([.file(folder)], "can't be written (\(String(cString: strerror(errno))))")
      }
    } catch let error as CocoaError {
      throw Issue([.file(folder)], "can't be written (\(reason(of: error)))")
    }
    let media = layout == .clips ? Self.clipsName + "/" : Self.filmName
    let root = folder.hasSuffix("/") ? folder : folder + "/"
    return ([media] + lists.map(\.name)).map { root + $0 }
  }

  // MARK: Videos

  private func writeClips(to folder: URL, _ progress: (Int) throws -> Void) throws {
    try FileManager.default.createDirectory(
      at: folder.appendingPathComponent(Self.clipsName), withIntermediateDirectories: false)
    for (index, clip) in clips.enumerated() {
      let writer = try writer(folder.appendingPathComponent(clip.mediaPath).path)
      try append(clip.scene, to: writer)
      try writer.finish()
      try progress(index + 1)
    }
  }

  private func writeFilm(to folder: URL, _ progress: (Int) throws -> Void) throws {
    let writer = try writer(folder.appendingPathComponent(Self.filmName).path)
    for (index, clip) in clips.enumerated() {
      try append(clip.scene, to: writer)
      try progress(index + 1)
    }
    try writer.finish()
  }

  private func writer(_ path: String) throws -> VideoWriter {
    try VideoWriter(
      path: path, width: DemoScene.side, height: DemoScene.side,
      frameRate: Rational(DemoScene.frameRate, 1),
      audio: VideoWriter.Audio(
        sampleRate: DemoScene.sampleRate, channelCount: 2, matchesVideo: true),
      quality: VideoWriter.Quality(crf: 14), codec: codec)
  }

  private func append(_ scene: DemoScene, to writer: VideoWriter) throws {
    for frame in 0..<DemoScene.frameCount {
      try writer.append(
        RGBFrame(
          bytes: scene.pixels(frame: frame), width: DemoScene.side, height: DemoScene.side))
    }
    try writer.append(audio: scene.audio())
  }
}
