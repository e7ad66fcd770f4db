import Foundation
import Support

/// A column of a dataset that is made from its clips, such as references or captions.
///
/// `DerivedColumnMaker` requests the values clip by clip. It records their inputs, resumes,
/// replaces files atomically and writes the dataset.
public protocol DerivedColumn: Sendable {
  /// The name of the column.
  var name: String { get }
  /// Earlier names of the column, which are removed from rows with a new value.
  var formerNames: [String] { get }
  /// One value, for messages: `reference`.
  var noun: String { get }
  /// The name of the hidden file that records what the values were made from.
  var recordsName: String { get }
  /// A text that changes if the same clip would get a different value.
  var signature: String { get }

  /// Checks that the values can be stored in a dataset.
  ///
  /// - Parameters:
  ///   - isFolder: whether the dataset is a folder of media, which has no columns to write.
  ///   - columns: the columns of the dataset.
  /// - Throws: `Issue`.
  func check(dataset: String, isFolder: Bool, columns: [String]) throws
  /// Returns the file of a clip's value; nil if values are texts in the dataset itself.
  func file(for clip: DerivedClip) -> DerivedFile?
  /// Makes the value of a clip.
  ///
  /// - Parameters:
  ///   - path: The file to write; nil for a value that is a text.
  ///   - progress: Called with the current activity, such as `frame 12`.
  /// - Throws: Any error, which fails the clip's rows.
  func make(
    _ clip: DerivedClip, at path: String?, progress: (String) -> Void
  ) throws -> DerivedValue
}

extension DerivedColumn {
  public var formerNames: [String] { [] }
  public func check(dataset: String, isFolder: Bool, columns: [String]) throws {}
  public func file(for clip: DerivedClip) -> DerivedFile? { nil }
}

/// A clip of a dataset.
public struct DerivedClip: Equatable, Sendable {
  /// The path in the dataset.
  public let media: String
  /// The absolute path.
  public let source: String
  /// The folder that the dataset's paths are relative to.
  public let root: String
}

/// The file of a value.
public struct DerivedFile: Equatable, Sendable {
  public let folder: String
  /// The file's name in the folder.
  public let name: String
  /// The path in the column.
  public let value: String

  var path: String { "\(folder)/\(name)" }
}

/// The value of a clip.
public struct DerivedValue: Equatable, Sendable {
  /// The text; nil for a value in a file.
  public var text: String?
  /// Notes for the user about the value, one sentence each.
  public var notes: [String]

  public init(text: String? = nil, notes: [String] = []) {
    self.text = text
    self.notes = notes
  }
}

/// The options of making a column.
public struct DerivedColumnOptions: Sendable {
  /// The dataset file, or a folder of media.
  public var dataset: String
  /// The folder that media paths are relative to; nil for the dataset's folder.
  public var mediaFolder: String?
  /// The column of the media files; nil to find it by its name.
  public var videoColumn: String?
  /// The path of the dataset with its new column; nil to change the dataset file itself.
  public var outputDataset: String?
  /// Whether all values are made again, replacing values of unknown origin.
  public var overwrite = false

  public init(dataset: String) { self.dataset = dataset }
}

/// The result of making a column.
public struct DerivedColumnSummary: Equatable, Sendable {
  /// The number of clips whose value was made in this run.
  public var made = 0
  /// The number of clips whose value was made earlier, from the same source with the same options.
  public var upToDate = 0
  /// The number of clips whose value was written by hand and is kept.
  public var kept = 0
  /// The problems of rows without a value.
  public var failures: [Issue] = []
  /// Notes for the user about the values, one sentence each.
  public var notes: [String] = []
}
