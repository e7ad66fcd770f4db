import Foundation
import Support

/// The videos of a folder and its sub-folders, and a folder of its own for each one's scenes.
public struct VideoFolder: Equatable, Sendable {
  public struct Entry: Equatable, Sendable {
    public let video: String
    public let output: String
  }

  /// In the order of their paths.
  public let entries: [Entry]

  /// Files are taken by these endings, in lower or upper case.
  public static let fileExtensions: Set = [
    "3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv",
    "ts", "vob",
    "webm", "wmv",
  ]

  /// Looks for videos; hidden files, and `output` if it lies inside, are passed over.
  ///
  /// Scenes of `a/b.mp4` go to `<output>/a/b`; where two videos differ in their endings only, to `<output>/a/b.mp4`.
  /// - Throws: `MediaError` if the folder cannot be read, holds no video, or is `output` itself.
  public init(_ path: String, output: String) throws {
    let skipped = URL(fileURLWithPath: output).standardizedFileURL.resolvingSymlinksInPath().path
    guard URL(fileURLWithPath: path).standardizedFileURL.resolvingSymlinksInPath().path != skipped else {
      throw MediaError(
        .badOption, file: output, "holds the videos, so that their scenes would be split again next time",
        remedy: "Choose another output folder.")
    }
    let found = try Self.videos(in: path, below: "", except: skipped).sorted()
    guard !found.isEmpty else {
      throw MediaError(
        .notReadable, file: path, "holds no video",
        remedy: "Give a folder with videos (\(Self.fileExtensions.sorted().joined(separator: ", "))).")
    }
    var counts: [String: Int] = [:]
    for name in found { counts[Self.stem(name).lowercased(), default: 0] += 1 }
    let names = Set(found.map { $0.lowercased() })
    entries = found.map { name in
      let stem = Self.stem(name).lowercased()
      let isAlone = counts[stem] == 1 && !names.contains(stem)
      return Entry(video: path + "/" + name, output: output + "/" + (isAlone ? Self.stem(name) : name))
    }
  }

  private static func stem(_ name: String) -> String { (name as NSString).deletingPathExtension }

  private static func videos(in root: String, below: String, except skipped: String) throws -> [String] {
    let folder = root + "/" + below
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
      throw MediaError(
        .notReadable, file: folder, "cannot be listed (\(reason(of: error)))",
        remedy: "Check the rights of the folder.")
    }
    var result: [String] = []
    for name in names where !name.hasPrefix(".") {
      let url = URL(fileURLWithPath: folder + "/" + name)
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else { continue }
      if isFolder.boolValue {
        let isLink = (try url.resourceValues(forKeys: [.isSymbolicLinkKey])).isSymbolicLink == true
        if isLink || url.standardizedFileURL.resolvingSymlinksInPath().path == skipped { continue }
        result += try videos(in: root, below: below + name + "/", except: skipped)
      } else if fileExtensions.contains(url.pathExtension.lowercased()) {
        result.append(below + name)
      }
    }
    return result
  }
}
