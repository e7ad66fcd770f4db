/// What a column of a dataset can hold, by the reference's names for it.
public enum Role: String, CaseIterable, Sendable, CodingKeyRepresentable, Codable {
  /// The clip or picture to be generated.
  case video
  /// Its sound; without a video, a sound to be generated alone.
  case audio
  /// What an IC-LoRA is shown.
  case referenceVideo = "reference_video"
  case referenceAudio = "reference_audio"
  /// White where the clip is given and not generated.
  case videoMask = "video_mask"
  case audioMask = "audio_mask"
  case caption
  /// How often the sample appears in an epoch of training.
  case repeats

  /// The option that names its column.
  public var option: String { "--\(rawValue.replacing("_", with: "-"))-column" }

  /// Whether the column names a file.
  var isMedia: Bool { self != .caption && self != .repeats }

  /// Names of columns that are looked for, the reference's own first.
  public var columnNames: [String] {
    switch self {
    case .video:
      ["video", "media_path", "video_path", "media", "path", "file_name", "file", "clip"]
    case .referenceVideo: ["reference_video", "ref_media_path", "reference_path"]
    case .caption: ["caption", "text", "prompt", "description"]
    case .repeats: ["repeats", "num_repeats"]
    default: [rawValue]
    }
  }
}

/// Which columns of a dataset hold what.
public struct DatasetColumns: Equatable, Sendable {
  public let names: [Role: String]
  /// Columns that nothing reads.
  public let unused: [String]

  public subscript(role: Role) -> String? { names[role] }

  /// - Parameter named: columns that the user named; the others are found by their names.
  /// - Throws: `PreprocessingError` that lists the columns there are, where one that was named is
  ///   not there, or those of media or captions can't be found.
  init(of file: DatasetFile, named: [Role: String]) throws {
    let there = "the dataset has \(file.columns.joined(separator: ", "))"
    var names: [Role: String] = [:]
    for role in Role.allCases {
      if let name = named[role] {
        guard file.columns.contains(name) else {
          throw PreprocessingError(
            .dataset, file: file.path, "there is no column \"\(name)\" (\(role.option)); \(there)")
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
      throw PreprocessingError(
        .dataset, file: file.path,
        "there is no \(what) column: none is called \(known); \(there); "
          + "name it with \(roles.map(\.option).joined(separator: " or "))")
    }
    try require([.video, .audio], "media")
    // In a folder, captions are files that each clip may lack.
    if file.rows.contains(where: { $0.line != nil }) { try require([.caption], "caption") }
    self.names = names
    unused = file.columns.filter { !names.values.contains($0) }
  }
}
