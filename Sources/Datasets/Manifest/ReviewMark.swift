import Foundation
import Support

/// The mark that a row gets when its caption is reviewed, in a column of its own.
///
/// A row that is left out is treated as if it were not in the dataset. A folder of media has no
/// columns; its marks are in a hidden file, by the paths of the media.
public enum ReviewMark: String, CaseIterable, Sendable {
  case done
  case leftOut = "left_out"

  /// The name of the column.
  public static let column = "caption_review"
  /// The file with the marks of a folder of media: a JSON object of marks by media paths.
  package static let fileName = ".ltx-caption-review.json"

  /// Returns the mark of a row; nil if it has none.
  ///
  /// - Throws: `Issue` for a value that is not a mark.
  package static func of(_ row: DatasetRow) throws(Issue) -> ReviewMark? {
    guard let value = row.values[column] else { return nil }
    guard let text = value.string else {
      throw Issue([.name(column)], "must be a string (got \(value.kind))")
    }
    guard let mark = ReviewMark(rawValue: text) else {
      let names = allCases.map { "\"\($0.rawValue)\"" }.joined(separator: " or ")
      throw Issue(
        [.name(column)], "must be \(names) (got \"\(text)\")",
        suggestion: "Correct it, or remove it from the row.")
    }
    return mark
  }

  /// Reads the marks of a folder of media.
  ///
  /// - Returns: The values by media paths, unchecked; empty if no row was marked.
  /// - Throws: `Issue` for a file that can't be read.
  static func values(ofFolder folder: String) throws -> JSONObject {
    let path = "\(folder)/\(fileName)"
    guard FileManager.default.fileExists(atPath: path) else { return [:] }
    let value: JSON
    do {
      value = try JSON(parsing: Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw Issue(
        [.file(path)], "can't be read: \(reason(of: error))",
        suggestion: "Correct it, or remove it with all marks.")
    }
    guard let marks = value.object else {
      throw Issue(
        [.file(path)], "must be an object of marks by media files (got \(value.kind))",
        suggestion: "Correct it, or remove it with all marks.")
    }
    return marks
  }
}
