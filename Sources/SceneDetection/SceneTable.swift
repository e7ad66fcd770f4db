import Foundation
import Media

/// `scenes.csv`, a table of the scenes that a split wrote, one line per scene.
struct SceneTable {
  static let header = "index,start_frame,end_frame,start_seconds,end_seconds,file"
  /// The folder that holds the table.
  let folder: String

  private var path: String { folder + "/" + SceneSplitter.tableName }

  static func data(_ scenes: [WrittenScene]) -> Data {
    let lines = scenes.map { scene in
      let start = String(format: "%.6f", scene.startSeconds)
      let end = String(format: "%.6f", scene.endSeconds)
      let place = "\(scene.number),\(scene.scene.start),\(scene.scene.end),\(start),\(end),"
      return place + TextFormats.csvField(scene.file ?? "")
    }
    return Data(([header] + lines).map { $0 + "\n" }.joined().utf8)
  }

  /// The scenes of one video in the table, and their preview images; empty if the table doesn't
  /// exist or was not written by ltx.
  func files(ofStem stem: String) throws -> [String] {
    guard let data = FileManager.default.contents(atPath: path) else { return [] }
    // Unicode scalars, not characters, because a comma with a combining accent still ends a field.
    let lines = String(decoding: data, as: UTF8.self).unicodeScalars.split(separator: "\n")
    guard lines.first.map({ String($0) }) == Self.header else { return [] }
    let scenes = lines.dropFirst().compactMap { line in
      let fields = line.split(separator: ",", maxSplits: 5, omittingEmptySubsequences: false)
      return fields.count == 6 ? SceneName(Self.unquoted(String(fields[5])), stem: stem) : nil
    }.filter { $0.image == nil && SceneSplitter.sceneExtensions.contains($0.fileExtension) }
    let numbers = Set(scenes.map(\.number))
    let images = try FileManager.default.contentsOfDirectory(atPath: folder).filter { name in
      guard let name = SceneName(name, stem: stem) else { return false }
      return name.image != nil && name.fileExtension == "jpg" && numbers.contains(name.number)
    }
    return scenes.map(\.text) + images
  }

  private static func unquoted(_ field: String) -> String {
    let scalars = field.unicodeScalars
    guard scalars.count >= 2, scalars.first == "\"", scalars.last == "\"" else { return field }
    var result = String.UnicodeScalarView()
    var isSecond = false
    for scalar in scalars.dropFirst().dropLast() {
      isSecond = scalar == "\"" && !isSecond
      if !isSecond { result.append(scalar) }
    }
    return String(result)
  }
}

/// `<stem>-Scene-001.mp4`, or `<stem>-Scene-001-01.jpg` for a preview image.
struct SceneName {
  let text: String
  /// The scene's number with leading zeros.
  let number: String
  /// The image's number.
  let image: String?
  let fileExtension: String

  /// - Parameter count: The number of scenes; numbers have at least three digits.
  init(stem: String, number: Int, of count: Int, fileExtension: String) {
    self.number = Self.padded(number, digits: max(3, String(count).count))
    image = nil
    self.fileExtension = fileExtension
    text = "\(stem)-Scene-\(self.number).\(fileExtension)"
  }

  init(stem: String, number: Int, of count: Int, image: Int, of imageCount: Int) {
    self.number = Self.padded(number, digits: max(3, String(count).count))
    let number = Self.padded(image, digits: String(imageCount).count + 1)
    self.image = number
    fileExtension = "jpg"
    text = "\(stem)-Scene-\(self.number)-\(number).jpg"
  }

  /// Nil for a name of another format or video.
  init?(_ text: String, stem: String) {
    let prefix = stem + "-Scene-"
    guard text.hasPrefix(prefix), let dot = text.lastIndex(of: ".") else { return nil }
    let parts = text[..<dot].dropFirst(prefix.count).split(
      separator: "-", omittingEmptySubsequences: false)
    let isNumeric = parts.allSatisfy { !$0.isEmpty && $0.allSatisfy { "0123456789".contains($0) } }
    guard isNumeric, (1...2).contains(parts.count), parts[0].count >= 3 else { return nil }
    self.text = text
    number = String(parts[0])
    image = parts.count > 1 ? String(parts[1]) : nil
    fileExtension = String(text[text.index(after: dot)...])
  }

  private static func padded(_ number: Int, digits: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }
}
