import Foundation
import Media
import Support

/// The folders of a cache and the files in them. No file is opened.
public struct DatasetCache: Sendable {
  /// The folder of the cache: the given one, or the `.precomputed` in it.
  public let root: String
  /// The paths of the files, by their folder and the sample's name.
  public let files: [CacheFolder: [String: String]]
  /// Names with both a `.safetensors` and a `.pt` file, relative to the root.
  let twice: [String]
  /// Unfinished files of runs that were killed, relative to the root.
  public let leftovers: [String]
  /// Other files in the folders, relative to the root. Nothing reads them.
  public let unread: SkippedFiles

  /// - Throws: `Issue` if it holds no folder of a cache.
  public init(path: String) throws {
    let root = Self.root(path)
    var files: [CacheFolder: [String: String]] = [:]
    var leftovers: [String] = []
    var twice: [String] = []
    var unread = SkippedFiles()
    for artifact in Artifacts.all {
      for name in artifact.folderNames where isFolder("\(root)/\(name)") {
        let found = try CacheFolder.files(below: "\(root)/\(name)")
        files[artifact.folder, default: [:]].merge(found) { first, _ in first }
        twice += found.keys.filter { sample in
          CacheFormat.allCases.allSatisfy {
            access("\(root)/\(name)/\(sample).\($0.rawValue)", F_OK) == 0
          }
        }.map { "\(name)/\($0)" }
        let others = Self.others("\(root)/\(name)").map { "\(name)/\($0)" }
        leftovers += others.filter(Self.isLeftover)
        unread.files += others.filter { !Self.isLeftover($0) }.map {
          SkippedFile($0, "not a .safetensors or .pt file, which nothing reads")
        }
      }
    }
    guard !files.isEmpty else {
      throw Issue(
        [.file(path)],
        isFolder(path)
          ? "has no latents/, conditions/ or other folder of a cache" : "does not exist",
        suggestion: "Name the folder that `ltx preprocess` wrote.")
    }
    // In older caches, `condition_7` belongs to `latent_7`.
    if let conditions = files[.conditions], let latents = files[.latents] {
      files[.conditions] = Dictionary(
        conditions.map { name, path in
          let renamed = Self.latentName(name)
          return (renamed != name && latents[renamed] != nil ? renamed : name, path)
        }, uniquingKeysWith: { first, _ in first })
    }
    self.root = root
    self.files = files
    self.leftovers = leftovers.sorted()
    unread.files.sort { $0.file < $1.file }
    self.unread = unread
    self.twice = twice.sorted()
  }

  /// Returns the folder of a cache: `.precomputed` in the given one if it exists.
  public static func root(_ path: String) -> String {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    return isFolder(trimmed + "/.precomputed") ? trimmed + "/.precomputed" : trimmed
  }

  /// Returns the path relative to the root, for messages.
  public func relative(_ path: String) -> String {
    path.hasPrefix(root + "/") ? String(path.dropFirst(root.count + 1)) : path
  }

  public func path(_ content: CacheFolder, _ name: String) -> String? { files[content]?[name] }

  /// The folder that lists the samples: video latents, or audio latents in a cache without video.
  public var primary: CacheFolder {
    files[.latents]?.isEmpty ?? true && !(files[.audioLatents]?.isEmpty ?? true)
      ? .audioLatents : .latents
  }

  /// The names of all samples, in alphabetical order.
  public var samples: [String] { Set(files.values.flatMap(\.keys)).sorted() }

  private static func isLeftover(_ file: String) -> Bool {
    file.hasSuffix(".partial") || file.hasSuffix(".tmp")
  }

  /// Returns files that are not samples; hidden ones only if a run left them behind.
  private static func others(_ folder: String) -> [String] {
    (FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? []).filter {
      file in
      guard CacheFormat(rawValue: (file as NSString).pathExtension) == nil else { return false }
      let isHidden = (file as NSString).lastPathComponent.hasPrefix(".")
      return isLeftover(file) || !isHidden && !isFolder("\(folder)/\(file)")
    }
  }

  private static func latentName(_ name: String) -> String {
    var parts = name.split(separator: "/").map(String.init)
    if let last = parts.last, last.hasPrefix("condition_") {
      parts[parts.count - 1] = "latent_" + last.dropFirst("condition_".count)
    }
    return parts.joined(separator: "/")
  }
}
