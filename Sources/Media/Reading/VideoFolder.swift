import Foundation

/// The videos of a folder and its subfolders, and the scene folder of each.
public struct VideoFolder: Equatable, Sendable {
  public struct Entry: Equatable, Sendable {
    public let video: String
    public let output: String
  }

  /// The videos, sorted by path.
  public let entries: [Entry]
  /// The other files of the folder, and the reasons why they are not split.
  public let skipped: SkippedFiles

  /// Finds videos by their extensions, in lower or upper case. If `output` is inside the folder, it
  /// is not searched.
  ///
  /// Scenes of `a/b.mp4` go to `<output>/a/b`, or to `<output>/a/b.mp4` if another video differs
  /// only in its extension.
  /// - Throws: `MediaError` if the folder can't be read, has no videos, or is `output` itself.
  public init(_ path: String, output: String) throws {
    let excluded = URL(fileURLWithPath: output).standardizedFileURL.resolvingSymlinksInPath().path
    guard URL(fileURLWithPath: path).standardizedFileURL.resolvingSymlinksInPath().path != excluded
    else {
      throw MediaError(
        .badOption, file: output,
        "holds the videos, so that their scenes would be split again next time",
        remedy: "Choose another output folder.")
    }
    let listing = try FolderListing(path) { folder in
      let place = URL(fileURLWithPath: "\(path)/\(folder)").standardizedFileURL
        .resolvingSymlinksInPath().path
      return place == excluded ? "" : nil
    }
    var skipped = listing.skipped
    let found = listing.files.filter { file in
      guard let reason = Self.obstacle(file) else { return true }
      skipped.files.append(SkippedFile(file, reason))
      return false
    }
    skipped.files.sort { $0.file < $1.file }
    guard !found.isEmpty else {
      let extensions = MediaExtension.decodable(.video).joined(separator: ", ")
      throw MediaError(
        .notReadable, file: path,
        "holds no video"
          + (skipped.isEmpty ? "" : " (\(skipped.notes(reasons: 3).joined(separator: "; ")))"),
        remedy: "Give a folder with videos (\(extensions)).")
    }
    self.skipped = skipped
    var counts: [String: Int] = [:]
    for name in found { counts[Self.stem(name).lowercased(), default: 0] += 1 }
    let names = Set(found.map { $0.lowercased() })
    entries = found.map { name in
      let stem = Self.stem(name).lowercased()
      let isAlone = counts[stem] == 1 && !names.contains(stem)
      return Entry(
        video: path + "/" + name, output: output + "/" + (isAlone ? Self.stem(name) : name))
    }
  }

  private static func stem(_ name: String) -> String { (name as NSString).deletingPathExtension }

  /// The reason why a file is not split; nil for a video.
  private static func obstacle(_ file: String) -> String? {
    guard let known = MediaExtension(ofFile: file) else {
      return "not a video by its extension; give the file itself if it is one"
    }
    switch known.kind {
    case .video: return known.obstacle
    case .image: return "an image, and not a video"
    case .audio: return "audio, and not a video"
    }
  }
}
