import Foundation
import Media
import Support

/// A file to be captioned.
public struct MediaClip: Equatable, Sendable {
  /// The absolute path.
  public let path: String
  /// The path as the captions' file names it, relative to the folder of that file.
  public let name: String
  /// A video, an image or audio, by the extension; a video if the extension is unknown.
  public let kind: MediaExtension.Kind

  public init(path: String, name: String) {
    (self.path, self.name) = (path, name)
    kind = MediaExtension(ofFile: path)?.kind ?? .video
  }

  /// The media type of the file for servers, such as `video/mp4`; nil if it is not one that they
  /// know.
  var mediaType: String? { Self.mediaTypes[MediaExtension.name(ofFile: path)] }

  private static let mediaTypes = [
    "mp4": "video/mp4", "m4v": "video/mp4", "mov": "video/quicktime", "avi": "video/x-msvideo",
    "mkv": "video/x-matroska", "webm": "video/webm", "mpg": "video/mpeg", "mpeg": "video/mpeg",
    "wmv": "video/x-ms-wmv", "flv": "video/x-flv", "3gp": "video/3gpp",
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp",
    "heic": "image/heic", "heif": "image/heif",
    "wav": "audio/wav", "mp3": "audio/mp3", "aac": "audio/aac", "ogg": "audio/ogg",
    "flac": "audio/flac", "aiff": "audio/aiff", "aif": "audio/aiff", "m4a": "audio/mp4",
  ]

  /// A path without symbolic links, which identifies the file; the path itself if the file does not
  /// exist.
  static func identity(of path: String) -> String {
    guard let real = realpath(path, nil) else {
      return URL(fileURLWithPath: path).standardizedFileURL.path
    }
    defer { free(real) }
    return String(cString: real)
  }

  /// The path of a file relative to a folder. Links in the folders are resolved, and the file's own
  /// name is kept even if it is a link.
  static func name(of path: String, from folder: String) -> String {
    let file = path as NSString
    let parent = file.deletingLastPathComponent
    let target =
      identity(of: parent.isEmpty ? "." : parent).split(separator: "/")
      + [Substring(file.lastPathComponent)]
    let from = identity(of: folder.isEmpty ? "." : folder).split(separator: "/")
    let shared = zip(from, target.dropLast()).prefix { $0 == $1 }.count
    let up = [Substring](repeating: "..", count: from.count - shared)
    return (up + target[shared...]).joined(separator: "/")
  }
}

/// The media files of a folder that are samples of their own.
struct MediaFiles {
  /// The paths relative to the folder, sorted.
  let files: [String]
  let skipped: SkippedFiles

  /// - Parameters:
  ///   - extensions: The extensions to use, in lowercase without dots; nil for all that can be
  ///     decoded.
  /// - Throws: `Issue` for a folder that can't be listed or has no such files.
  init(folder: String, extensions: Set<String>?, isRecursive: Bool) throws {
    let listing: FolderListing
    do {
      listing = try FolderListing(folder) { name in
        guard isRecursive else { return "a subfolder; add --recursive to search it" }
        return Support.isFolder("\(folder)/\(name)/conditions") ? "a preprocessed cache" : nil
      }
    } catch let error as MediaError {
      throw Issue([.file(folder)], error.what, suggestion: error.remedy)
    }
    var skipped = listing.skipped
    var found: [String] = []
    for file in listing.files {
      switch Self.obstacle(file, extensions) {
      case nil: found.append(file)
      case "": break
      case let reason?: skipped.files.append(SkippedFile(file, reason))
      }
    }
    (files, skipped.files) = Self.withoutCompanions(found, skipped.files)
    guard !files.isEmpty else {
      let wanted = extensions.map { $0.sorted().joined(separator: ", ") }
      throw Issue(
        [.file(folder)],
        "has no \(wanted.map { "files with the extensions \($0)" } ?? "videos, images or audio")"
          + (skipped.isEmpty ? "" : " (\(skipped.notes(reasons: 3).joined(separator: "; ")))"),
        suggestion: "Name the folder of the clips.")
    }
    self.skipped = skipped
  }

  /// Why a file is not captioned; nil if it is, empty for other kinds of files.
  private static func obstacle(_ file: String, _ extensions: Set<String>?) -> String? {
    let known = MediaExtension(ofFile: file)
    if let extensions {
      return extensions.contains(MediaExtension.name(ofFile: file)) ? known?.obstacle : ""
    }
    return known.map(\.obstacle) ?? ""
  }

  /// Leaves out the files that belong to a clip beside them, by the rules of folders in
  /// `ltx preprocess`: `a.wav` is the audio of `a.mp4`, `a_reference.mp4` its reference, and
  /// `a_mask.png` its mask.
  private static func withoutCompanions(
    _ files: [String], _ skipped: [SkippedFile]
  ) -> ([String], [SkippedFile]) {
    var skipped = skipped
    var clips: [String: String] = [:]
    for file in files where MediaExtension(ofFile: file)?.kind != .audio {
      clips[stem(file)] = clips[stem(file)] ?? file
    }
    let own = files.filter { file in
      let name = stem(file)
      if MediaExtension(ofFile: file)?.kind == .audio, let clip = clips[name] {
        skipped.append(SkippedFile(file, "the audio of \(clip)"))
        return false
      }
      for (suffix, what) in [("_reference", "reference"), ("_mask", "mask")]
      where name.hasSuffix(suffix) {
        guard let clip = clips[String(name.dropLast(suffix.count))] else { continue }
        skipped.append(SkippedFile(file, "the \(what) of \(clip)"))
        return false
      }
      return true
    }
    skipped.sort { $0.file < $1.file }
    return (own, skipped)
  }

  private static func stem(_ file: String) -> String {
    (file as NSString).deletingPathExtension
  }
}
