import Foundation
import Media
import Support

/// The way to make a reference video from a clip.
public enum ReferenceKind: Equatable, Sendable {
  case filter(FrameFilter)
  case command(ClipCommand)

  /// The text in the records that identifies the options of a reference. Its numbers are versions,
  /// which are raised when the same options give different frames.
  var signature: String {
    switch self {
    case .filter(.edges(let canny)): "canny 1, low \(canny.low), high \(canny.high)"
    case .filter(.blur(let blur)): "blur 1, sigma \(blur.sigma)"
    case .filter(.downscale(let factor)): "downscale 1, factor \(factor)"
    case .filter(.gray): "grey 1"
    case .command(let command): "command 1, \(command.words)"
    }
  }
}

/// The reference videos that an IC-LoRA is trained with: a file for each clip, which has the clip's
/// frames at their times and no audio.
public struct ReferenceColumn: DerivedColumn {
  public let name = Role.referenceVideo.name
  public let formerNames = ["reference_path"]
  public let noun = "reference"
  public let recordsName = ".ltx-references.jsonl"
  public var signature: String { kind.signature }

  public var kind: ReferenceKind
  /// The folder of the references; nil to put them beside their clips.
  public var outputFolder: String?
  /// The part of a reference's name between the clip's name and the extension.
  public var suffix = MediaFolder.referenceSuffix

  public init(_ kind: ReferenceKind) { self.kind = kind }

  public func check(dataset: String, isFolder: Bool, columns: [String]) throws {
    if suffix.contains("/") || suffix.contains("\0") {
      throw Issue(["suffix"], "can't be part of a file's name (got \"\(suffix)\")")
    }
    guard isFolder else { return }
    // In a folder of media, files that belong together are found by their names.
    guard columns.contains(Role.caption.name) else {
      throw Issue(
        [.file(dataset)], "is a folder in which no clip has its caption in a .txt file beside it",
        suggestion: "Name the dataset file.")
    }
    guard suffix == MediaFolder.referenceSuffix, outputFolder == nil else {
      throw Issue(
        [.file(dataset)],
        "is a folder of media, in which a clip's reference is the file beside it that ends in "
          + "\(MediaFolder.referenceSuffix)",
        suggestion: "Leave the references beside their clips and their suffix unchanged, or name a "
          + "dataset file.")
    }
  }

  public func file(for clip: DerivedClip) -> DerivedFile? {
    let source = clip.source as NSString
    let type = MediaExtension(ofFile: clip.source)?.kind == .image ? "png" : "mp4"
    let stem = ((source.lastPathComponent as NSString).deletingPathExtension)
    let name = "\(stem)\(suffix).\(type)"
    let ownFolder = source.deletingLastPathComponent
    guard let outputFolder = outputFolder.map({ absolutePath($0) }) else {
      let folder = (clip.media as NSString).deletingLastPathComponent
      let value = folder.isEmpty ? name : folder == "/" ? "/\(name)" : "\(folder)/\(name)"
      return DerivedFile(folder: ownFolder, name: name, value: value)
    }
    // Folders are kept, so that clips with the same name don't collide.
    let inside =
      Self.relative(ownFolder, to: clip.root).map { $0.isEmpty ? "" : "/\($0)" } ?? ownFolder
    let folder = outputFolder + (inside == "/" ? "" : inside)
    let place = "\(folder)/\(name)"
    return DerivedFile(
      folder: folder, name: name, value: Self.relative(place, to: clip.root) ?? place)
  }

  /// Returns the path relative to a folder; nil for a path that is not below it.
  private static func relative(_ path: String, to folder: String) -> String? {
    if path == folder { return "" }
    let prefix = folder == "/" ? folder : folder + "/"
    return path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : nil
  }

  // MARK: Making

  public func make(
    _ clip: DerivedClip, at path: String?, progress: (String) -> Void
  ) throws -> DerivedValue {
    guard let path else {
      throw Issue([.file(clip.media)], "a reference needs a file")
    }
    switch kind {
    case .filter(let filter):
      let result = try FilteredClip().write(clip.source, to: path, by: filter) {
        progress("frame \($0)")
      }
      let damage = result.ending.damage.map { "\($0); its reference holds what could be decoded" }
      return DerivedValue(notes: (damage.map { [$0] } ?? []) + result.notes)
    case .command(let command): return try run(command, clip, path)
    }
  }

  private func run(
    _ command: ClipCommand, _ clip: DerivedClip, _ path: String
  ) throws -> DerivedValue {
    // A source that is not a clip is reported by this program, not by the command.
    let source = try VideoReader(path: clip.source)
    let complaint = try Issue.within(.file(clip.media)) {
      try command.run(input: clip.source, output: path)
    }
    let made = try checkedOutput(of: command, complaint, clip, path)
    if case (.declared(let from), .declared(let to)) = (source.frameCount, made.frameCount),
      from != to
    {
      return DerivedValue(notes: ["has \(from) frames, but its reference \(to)"])
    }
    return DerivedValue()
  }

  private func checkedOutput(
    of command: ClipCommand, _ complaint: String?, _ clip: DerivedClip, _ path: String
  ) throws -> VideoReader {
    guard let stamp = FileStamp(of: path), stamp.bytes > 0 else {
      throw Issue(
        [.file(clip.media)],
        "\(command.words[0]) succeeded but wrote nothing to {output}"
          + (complaint.map { ": \($0)" } ?? ""))
    }
    do {
      let reader = try VideoReader(path: path)
      _ = try reader.next()
      return reader
    } catch let error as MediaError {
      throw Issue(
        [.file(clip.media)],
        "the output of \(command.words[0]) is not a video or image: \(error.what)")
    }
  }
}
