import Foundation
import Media
import NN
import Support

/// A folder of media as a dataset: files that differ only in their extension belong together.
/// `a.mp4` or `a.png` is the clip, `a.txt` its caption, `a.wav` its audio (without a clip, the
/// audio is the sample); `a_reference.mp4` is the reference of `a`, and `a_mask.mp4` its mask.
/// Subfolders are searched. Everything else in the folder is listed with the reason why it is
/// skipped.
struct MediaFolder {
  let rows: [DatasetRow]
  /// The files that can't be used.
  let problems: [Issue]
  let skipped: SkippedFiles
  /// A caption that was probably meant for a row without one, by the row's media file.
  let nearCaptions: [String: String]

  /// The end of a reference's name, before the extension.
  static let referenceSuffix = "_reference"

  /// - Throws: `Issue` for a folder that can't be read or has no media.
  init(path: String) throws {
    let listing = try Self.listing(path)
    var skipped = listing.skipped
    var found: [String: [Role: String]] = [:]
    var unusable: [String: String] = [:]
    var problems: [Issue] = []
    for file in listing.files {
      let ending = MediaExtension.name(ofFile: file)
      let stem = ending.isEmpty ? file : String(file.dropLast(ending.count + 1))
      let role: Role
      switch Self.content(file, ending) {
      case .use(let own): role = own
      case .skip(let reason):
        skipped.files.append(SkippedFile(file, reason))
        if MediaExtension(ofFile: file) != nil { unusable[stem] = file }
        continue
      }
      if let other = found[stem]?[role] {
        problems.append(
          Issue(
            "\(file) differs from \(other) only in its extension",
            suggestion: "Rename one of them, or move it away."))
      } else {
        found[stem, default: [:]][role] = file
      }
    }
    skipped.files += Self.takeCompanions(&found)
    let orphans = OrphanedCaptions(found, files: Set(listing.files), unusable: unusable)
    skipped.files += orphans.skipped
    var rows: [DatasetRow] = []
    var nearCaptions: [String: String] = [:]
    for (stem, files) in found.sorted(by: { $0.key < $1.key })
    where files[.video] != nil || files[.audio] != nil {
      var values = files.mapValues(JSON.string)
      if let caption = files[.caption] {
        do {
          values[.caption] = .string(try Self.text("\(path)/\(caption)"))
        } catch {
          problems.append(
            Issue(
              "\(caption) is not UTF-8 text (\(reason(of: error)))", suggestion: "Save it again."))
          continue
        }
      } else if let near = orphans.near[stem], let media = files[.video] ?? files[.audio] {
        nearCaptions[media] = near
      }
      rows.append(
        DatasetRow(
          line: nil, values: Dictionary(uniqueKeysWithValues: values.map { ($0.name, $1) })))
    }
    skipped.files.sort { $0.file < $1.file }
    guard !rows.isEmpty || !problems.isEmpty else {
      throw Issue(
        [.file(path)],
        "has no videos, images or audio that can be used"
          + (skipped.isEmpty ? "" : " (\(skipped.notes(reasons: 5).joined(separator: "; ")))"),
        suggestion: "Use a folder of clips with a caption in a .txt file beside each.")
    }
    self.rows = rows
    self.problems = problems
    self.skipped = skipped
    self.nearCaptions = nearCaptions
  }

  private static func listing(_ path: String) throws -> FolderListing {
    do {
      return try FolderListing(path) { folder in
        // A cache inside the folder has no clips.
        let isCache = FileManager.default.fileExists(
          atPath: "\(path)/\(folder)/\(CacheFolder.conditions.rawValue)")
        return isCache ? "a preprocessed cache" : nil
      }
    } catch let error as MediaError {
      throw Issue([.file(path)], error.what, suggestion: error.remedy)
    }
  }

  private enum Content {
    case use(Role)
    case skip(String)
  }

  private static func content(_ file: String, _ ending: String) -> Content {
    if let media = MediaExtension(ofFile: file) {
      return media.obstacle.map { .skip($0) } ?? .use(media.kind == .audio ? .audio : .video)
    }
    switch ending {
    case "txt": return .use(.caption)
    case "json", "jsonl", "csv":
      return .skip("to use it as the dataset, name it instead of the folder")
    case "caption", "captions", "cap", "text":
      return .skip("captions are read from .txt files; rename it")
    case "":
      return .skip("no extension; if it is media, list it in a dataset file")
    default:
      return .skip(
        "not media or a caption by its extension; if it is media, list it in a dataset file")
    }
  }

  /// Assigns references and masks to their clips.
  ///
  /// - Returns: files beside them that are not used.
  private static func takeCompanions(_ found: inout [String: [Role: String]]) -> [SkippedFile] {
    var skipped: [SkippedFile] = []
    for (suffix, role) in [(referenceSuffix, Role.referenceVideo), ("_mask", .videoMask)] {
      for (stem, files) in found where stem.hasSuffix(suffix) {
        let base = String(stem.dropLast(suffix.count))
        guard let clip = files[.video], found[base]?[.video] != nil else { continue }
        found[base]?[role] = clip
        found[stem] = nil
        let what = role == .videoMask ? "masks" : "references"
        for other in [files[.caption], files[.audio]].compactMap({ $0 }) {
          skipped.append(SkippedFile(other, "captions and audio of \(what) are not used"))
        }
      }
    }
    return skipped
  }

  private static func text(_ path: String) throws -> String {
    try String(contentsOfFile: path, encoding: .utf8)
      .trimmingCharacters(in: CharacterSet(charactersIn: "\u{FEFF}").union(.whitespacesAndNewlines))
  }
}

/// The captions of a folder that belong to no media file.
struct OrphanedCaptions {
  private(set) var skipped: [SkippedFile] = []
  /// A caption that was probably meant for a clip without one, by the clip's name.
  private(set) var near: [String: String] = [:]

  /// - Parameters:
  ///   - found: the files by their names without extensions.
  ///   - files: all files.
  ///   - unusable: the media that can't be decoded, by their names without extensions.
  init(_ found: [String: [Role: String]], files: Set<String>, unusable: [String: String]) {
    var folded: [String: [String]] = [:]
    for (stem, files) in found where files[.caption] == nil {
      folded[MissingFile.folded(stem), default: []].append(stem)
    }
    for (stem, own) in found where own[.video] == nil && own[.audio] == nil {
      guard let caption = own[.caption] else { continue }
      if let media = unusable[stem] {
        skipped.append(SkippedFile(caption, "a caption whose \(media) is skipped"))
        continue
      }
      // `a.mp4.txt` beside `a.mp4`, or names that differ, for example, in case.
      let clip = (stem as NSString).deletingPathExtension
      let isDouble = files.contains(stem) && found[clip] != nil
      let likely = isDouble ? [clip] : folded[MissingFile.folded(stem)] ?? []
      if likely.count == 1, let likely = likely.first, found[likely]?[.caption] == nil,
        near[likely] == nil
      {
        near[likely] = caption
      } else if isDouble {
        skipped.append(SkippedFile(caption, "a second caption of \(stem)"))
      } else {
        skipped.append(
          SkippedFile(caption, "a caption without a video, image or audio of the same name"))
      }
    }
  }
}
