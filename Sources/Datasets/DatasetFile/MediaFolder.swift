import Foundation
import Media
import NN
import Support

/// A folder of media as a dataset: files that differ in their extension only belong together. `a.mp4` or `a.png` is the
/// clip, `a.txt` its caption, `a.wav` its sound (alone, the sound is the sample); `a_reference.mp4` is the reference of
/// `a`, and `a_mask.mp4` its mask. Sub-folders are searched; names that begin with a dot are passed over.
struct MediaFolder {
  let rows: [DatasetRow]
  /// Files that can't be used.
  let problems: [RowProblem]

  /// Ends the name of a clip's reference, before the extension.
  static let referenceSuffix = "_reference"
  static let videos = VideoFolder.fileExtensions
  static let pictures: Set<String> = ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"]
  static let sounds: Set<String> = ["wav", "flac", "mp3", "m4a", "aac", "ogg", "opus", "aif", "aiff"]

  /// - Throws: `PreprocessingError` for a folder that can't be read or holds no media.
  init(path: String) throws {
    var found: [String: [Role: String]] = [:]
    var problems: [RowProblem] = []
    for file in try Self.files(path) {
      let url = URL(fileURLWithPath: file)
      let stem = String(file.dropLast(url.pathExtension.count + 1))
      guard let role = Self.role(url.pathExtension.lowercased()) else { continue }
      if let other = found[stem]?[role] {
        problems.append(
          RowProblem(
            line: nil,
            "\(file) has the name of \(other) but for its extension; rename one of them, or move it away"))
      } else {
        found[stem, default: [:]][role] = file
      }
    }
    for (suffix, role) in [(Self.referenceSuffix, Role.referenceVideo), ("_mask", .videoMask)] {
      for (stem, files) in found where stem.hasSuffix(suffix) {
        let base = String(stem.dropLast(suffix.count))
        guard let clip = files[.video], found[base]?[.video] != nil else { continue }
        found[base]?[role] = clip
        found[stem] = nil
      }
    }
    var rows: [DatasetRow] = []
    for (_, files) in found.sorted(by: { $0.key < $1.key }) where files[.video] != nil || files[.audio] != nil
    {
      var values = files.mapValues(JSONValue.string)
      if let caption = files[.caption] {
        do {
          values[.caption] = .string(try Self.text("\(path)/\(caption)"))
        } catch {
          problems.append(
            RowProblem(
              line: nil, "\(caption) is no text in UTF-8 (\(reason(of: error))); save it anew"))
          continue
        }
      }
      rows.append(
        DatasetRow(line: nil, values: Dictionary(uniqueKeysWithValues: values.map { ($0.rawValue, $1) })))
    }
    guard !rows.isEmpty || !problems.isEmpty else {
      throw PreprocessingError(
        .dataset, file: path,
        "holds no videos, pictures or sounds; give a folder of clips with a caption in a .txt file beside each"
      )
    }
    self.rows = rows
    self.problems = problems
  }

  private static func role(_ ending: String) -> Role? {
    if videos.contains(ending) || pictures.contains(ending) { return .video }
    if sounds.contains(ending) { return .audio }
    return ending == "txt" ? .caption : nil
  }

  private static func files(_ path: String) throws -> [String] {
    guard let found = FileManager.default.enumerator(atPath: path) else {
      throw PreprocessingError(.dataset, file: path, "can't be read; give yourself the right to read it")
    }
    var files: [String] = []
    while let file = found.nextObject() as? String {
      // A cache that lies within the folder holds no clips of its own.
      let isCache = FileManager.default.fileExists(
        atPath: "\(path)/\(file)/\(CacheFolder.conditions.rawValue)")
      if (file as NSString).lastPathComponent.hasPrefix(".") || isCache {
        found.skipDescendants()
      } else {
        files.append(file)
      }
    }
    return files.sorted()
  }

  private static func text(_ path: String) throws -> String {
    try String(contentsOfFile: path, encoding: .utf8)
      .trimmingCharacters(in: CharacterSet(charactersIn: "\u{FEFF}").union(.whitespacesAndNewlines))
  }
}
