import Support

/// The meaning of a column of a dataset.
///
/// The roles that only one kind of cached file is made from are declared beside their artifacts.
public struct Role: Hashable, Sendable {
  /// The default name of the column, which is upstream's.
  public let name: String
  /// The accepted names of the column, the default one first.
  public let columnNames: [String]
  /// Whether the column names a file.
  let isMedia: Bool

  init(_ name: String, otherNames: [String] = [], isMedia: Bool = true) {
    self.name = name
    columnNames = [name] + otherNames
    self.isMedia = isMedia
  }

  /// The clip or image that is generated in training.
  public static let video = Role(
    "video",
    otherNames: ["media_path", "video_path", "media", "path", "file_name", "file", "clip"])
  /// The clip's audio; without a clip, audio that is generated without video.
  public static let audio = Role("audio")
  public static let caption = Role(
    "caption", otherNames: ["text", "prompt", "description"], isMedia: false)
  /// The number of times that the sample appears in an epoch of training.
  public static let repeats = Role("repeats", otherNames: ["num_repeats"], isMedia: false)

  /// All roles.
  public static let all =
    [video, audio] + Artifacts.all.compactMap(\.column) + [caption, repeats]
}

/// The columns of a dataset by their roles.
public struct DatasetColumns: Equatable, Sendable {
  public let names: [Role: String]
  /// The columns that nothing reads.
  public let unused: [String]

  public subscript(role: Role) -> String? { names[role] }

  /// - Parameter named: the columns that the user named; the others are found by their names.
  /// - Throws: `Issue` for a named column that the dataset does not have, and if no column of media
  ///   or captions is found.
  init(of file: DatasetFile, named: [Role: String]) throws {
    let there = "the dataset has \(file.columns.joined(separator: ", "))"
    var names: [Role: String] = [:]
    for role in Role.all {
      if let name = named[role] {
        guard file.columns.contains(name) else {
          throw Issue(
            ["columns", .name(role.name)], "\(file.path) has no column \"\(name)\"; \(there)")
        }
        names[role] = name
      } else {
        names[role] = role.columnNames.first { name in
          file.columns.contains(name) && !named.contains { $0.value == name }
        }
      }
    }
    func require(_ roles: [Role], _ what: String) throws {
      guard roles.allSatisfy({ names[$0] == nil }) else { return }
      let known = roles.flatMap(\.columnNames).joined(separator: ", ")
      throw Issue(
        [.file(file.path)], "has no column of \(what) (\(there), expected one of \(known))",
        suggestion: "Name the column with `columns.\(roles[0].name)`.")
    }
    try require([.video, .audio], "media files")
    // In a folder, each clip may or may not have a caption file.
    if file.rows.contains(where: { $0.line != nil }) { try require([.caption], "captions") }
    self.names = names
    unused = file.columns.filter { !names.values.contains($0) && $0 != ReviewMark.column }
  }
}
