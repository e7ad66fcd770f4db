import Foundation
import Media

extension CacheFolder {
  /// Names that the folder goes by; the official trainer's older caches have other ones.
  var folderNames: [String] {
    self == .referenceAudioLatents ? [rawValue, "audio_reference_latents"] : [rawValue]
  }

  /// What a sample must have for this to be of use.
  var base: CacheFolder? {
    switch self {
    case .latents, .audioLatents: nil
    case .conditions, .referenceLatents, .videoMasks: .latents
    case .referenceAudioLatents, .audioMasks: .audioLatents
    }
  }

  enum Shape { case video, text, audio, mask }

  var shape: Shape {
    switch self {
    case .latents, .referenceLatents: .video
    case .conditions: .text
    case .audioLatents, .referenceAudioLatents: .audio
    case .videoMasks, .audioMasks: .mask
    }
  }
}

/// The folders of a cache and the files in them; opens none.
public struct DatasetCache: Sendable {
  /// The cache itself: the folder that was given, or the `.precomputed` in it.
  public let root: String
  /// By content, then by the sample's name: paths.
  public let files: [CacheFolder: [String: String]]
  /// Names that stand twice in a folder, as `.safetensors` and `.pt`, relative to the root.
  let twice: [String]
  /// Files that a run left behind when it was killed, relative to the root.
  public let leftovers: [String]
  /// Other files in the folders, which nothing reads, relative to the root.
  public let unread: SkippedFiles

  /// - Throws: `DatasetError` when it holds no folder of a cache.
  public init(path: String) throws {
    let root = Self.root(path)
    var files: [CacheFolder: [String: String]] = [:]
    var leftovers: [String] = []
    var twice: [String] = []
    var unread = SkippedFiles()
    for content in CacheFolder.allCases {
      for name in content.folderNames where Self.isFolder("\(root)/\(name)") {
        let found = try CacheFolder.files(below: "\(root)/\(name)")
        files[content, default: [:]].merge(found) { first, _ in first }
        twice += found.keys.filter { sample in
          ["safetensors", "pt"].allSatisfy { access("\(root)/\(name)/\(sample).\($0)", F_OK) == 0 }
        }.map { "\(name)/\($0)" }
        let others = Self.others("\(root)/\(name)").map { "\(name)/\($0)" }
        leftovers += others.filter(Self.isLeftover)
        unread.files += others.filter { !Self.isLeftover($0) }.map {
          SkippedFile($0, "not a .safetensors or .pt file, so nothing reads it")
        }
      }
    }
    guard !files.isEmpty else {
      throw DatasetError(
        path: path,
        problem: Self.isFolder(path)
          ? "holds no latents/, conditions/ or other folder of a cache; name the folder that `ltx preprocess` wrote"
          : "there is no such folder; name the one that `ltx preprocess` wrote")
    }
    // Older caches name `latent_7` and `condition_7`.
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

  /// The folder of a cache: `.precomputed` in the given one if that is there.
  public static func root(_ path: String) -> String {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    return isFolder(trimmed + "/.precomputed") ? trimmed + "/.precomputed" : trimmed
  }

  /// The file relative to the root, for messages.
  public func relative(_ path: String) -> String {
    path.hasPrefix(root + "/") ? String(path.dropFirst(root.count + 1)) : path
  }

  public func path(_ content: CacheFolder, _ name: String) -> String? { files[content]?[name] }

  /// What the samples are listed by: video latents or, in a cache of sound alone, audio latents.
  public var primary: CacheFolder {
    files[.latents]?.isEmpty ?? true && !(files[.audioLatents]?.isEmpty ?? true)
      ? .audioLatents : .latents
  }

  /// Names of all samples, in alphabetical order.
  public var samples: [String] { Set(files.values.flatMap(\.keys)).sorted() }

  static func isFolder(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
      && isFolder.boolValue
  }

  private static func isLeftover(_ file: String) -> Bool {
    file.hasSuffix(".partial") || file.hasSuffix(".tmp")
  }

  /// Files that are not samples; hidden ones only where a run left them behind.
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
