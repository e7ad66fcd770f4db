import Datasets
import Foundation
import Media
import Support

/// The options of `CaptionPlan`.
public struct CaptionOptions: Sendable {
  /// A folder of media, a media file, or a dataset file that lists clips.
  public var input: String
  /// The file of captions; nil for upstream's default.
  public var output: String?
  /// The extensions of media files, in lowercase without dots; nil for all that can be decoded.
  public var extensions: Set<String>?
  /// Whether subfolders are searched.
  public var isRecursive = false
  /// Whether captions that exist are replaced.
  public var replaces = false
  /// The columns of media and captions that the user names.
  public var columns: [Role: String] = [:]
  /// The part of the clips that this process captions.
  public var share = WorkShare.whole

  public init(input: String) { self.input = input }

  /// The path of the captions: `dataset.json` in a folder, `clip.dataset.json` beside a file, and a
  /// dataset file itself.
  public var outputPath: String {
    if let output { return output }
    if isFolder(input) {
      return input.hasSuffix("/") ? input + "dataset.json" : input + "/dataset.json"
    }
    return isDataset ? input : (input as NSString).deletingPathExtension + ".dataset.json"
  }

  /// Whether the input is a dataset file.
  var isDataset: Bool {
    ["json", "jsonl", "csv"].contains((input as NSString).pathExtension.lowercased())
      && !Support.isFolder(input)
  }
}

/// The clips to caption, and the file to write.
public struct CaptionPlan: Sendable {
  public let options: CaptionOptions
  var file: CaptionFile
  /// The clips of this process that need a caption, in the order of the list.
  public let clips: [MediaClip]
  /// The number of this process's clips that have captions, which are kept.
  public let upToDate: Int
  /// The number of this process's clips whose captions will be replaced.
  public let replaced: Int
  /// The files of a folder that are not captioned.
  public let skipped: SkippedFiles
  /// The path of the captions.
  public var output: String { file.path }

  /// Reads the list of clips and the captions that exist. No clip is opened.
  ///
  /// - Throws: `Issue` for an input or output that can't be used.
  public init(_ options: CaptionOptions) throws {
    self.options = options
    let path = options.outputPath
    guard FileManager.default.fileExists(atPath: options.input) else {
      throw Issue(
        [.file(options.input)], "does not exist", suggestion: MissingFile.hint(options.input))
    }
    try makeFolder(of: path)
    for output in CaptionTable.files(of: path) {
      if let problem = OutputFile.problem(output) {
        throw Issue(["output", .file(output)], problem)
      }
    }
    let columns = options.isDataset && path != options.input ? [:] : options.columns
    file = try CaptionFile(path: path, columns: columns)
    let (all, skipped) = try Self.clips(options, file)
    self.skipped = skipped
    file.setOrder(all)
    let own = options.share.items(of: all.count).map { all[$0] }
    let (done, captioned) = (file.doneClips, file.captionedClips)
    clips =
      options.replaces ? own : own.filter { !done.contains(MediaClip.identity(of: $0.path)) }
    upToDate = own.count - clips.count
    replaced =
      options.replaces
      ? clips.count { captioned.contains(MediaClip.identity(of: $0.path)) } : 0
  }

  /// All clips, each once.
  private static func clips(
    _ options: CaptionOptions, _ file: CaptionFile
  ) throws -> ([MediaClip], SkippedFiles) {
    let input = options.input
    func clip(_ path: String) -> MediaClip {
      MediaClip(path: absolute(path), name: MediaClip.name(of: path, from: file.folder))
    }
    if options.isDataset {
      let table =
        file.path == input ? nil : try CaptionTable(path: input, columns: options.columns)
      let folder = (input as NSString).deletingLastPathComponent
      let rows = (table?.rows ?? file.rows).filter { !$0.isLeftOut && !$0.media.isEmpty }
      var seen: Set<String> = []
      let own = rows.filter { seen.insert($0.identity).inserted }
      guard !own.isEmpty else {
        throw Issue(
          [.file(input)], "lists no clips", suggestion: "Write a row with the path of each clip.")
      }
      return (
        own.map { clip($0.media.hasPrefix("/") ? $0.media : join(folder, $0.media)) },
        SkippedFiles()
      )
    }
    if isFolder(input) {
      let folder = input.count > 1 && input.hasSuffix("/") ? String(input.dropLast()) : input
      let found = try MediaFiles(
        folder: folder, extensions: options.extensions, isRecursive: options.isRecursive)
      return (found.files.map { clip(join(folder, $0)) }, found.skipped)
    }
    let ending = MediaExtension.name(ofFile: input)
    if let extensions = options.extensions {
      guard extensions.contains(ending) else {
        throw Issue(
          [.file(input)],
          "has none of the extensions \(extensions.sorted().joined(separator: ", "))"
        )
      }
    } else {
      guard let known = MediaExtension(ofFile: input) else {
        throw Issue(
          [.file(input)], "is not a media file by its extension",
          suggestion: "If it is one, name the extension with --extensions.")
      }
      if let obstacle = known.obstacle { throw Issue([.file(input)], obstacle) }
    }
    return ([clip(input)], SkippedFiles())
  }

  private static func join(_ folder: String, _ file: String) -> String {
    folder.isEmpty ? file : folder.hasSuffix("/") ? folder + file : "\(folder)/\(file)"
  }

  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : join(FileManager.default.currentDirectoryPath, path)
  }
}
