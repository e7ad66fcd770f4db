import LTX

/// A kind of cached file: its inputs, how it is read and encoded, and how it is inspected and
/// decoded.
///
/// A new kind is a type in its own file and a line in `Artifacts.all`. Preprocessing, checks,
/// statistics and decoding query the kinds and never list them.
protocol Artifact: Sendable {
  // MARK: Names

  /// The folder of a cache that holds its files, one for each sample.
  var folder: CacheFolder { get }
  /// Names of the folder in caches of the official trainer's older scripts.
  var formerFolders: [String] { get }
  /// The content of one file, for messages: `reference latents`.
  var noun: String { get }
  /// The content in the user's terms: `reference video`.
  var contents: String { get }

  // MARK: The dataset

  /// The column that only this kind is made from; nil for kinds that are made from the clip, its
  /// audio or its caption.
  var column: Role? { get }
  /// The kind of file that a sample needs for this one to be useful.
  var base: CacheFolder? { get }
  /// Whether the sample can have such a file at all.
  func suits(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool
  /// The reason why the column is not read if no sample can have such a file: `there are no
  /// videos`.
  var reasonUnsuited: String { get }
  /// Whether the sample should have such a file.
  func isWanted(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool
  /// The media file that the sample's file is made from; nil if there isn't one.
  func source(of sample: DatasetSample) -> String?

  // MARK: Fingerprint

  /// The part of a model that makes the files; nil for files that no model makes.
  var component: ModelFiles.Component? { get }
  /// Returns the inputs that the file must be made from.
  ///
  /// - Throws: `MediaError` for a source that is missing or can't be read.
  func expectation(_ inputs: ArtifactInputs) throws -> Expectation
  /// Whether a file with a matching fingerprint is still what a run would produce, considering the
  /// facts that were found in the source.
  func isCurrent(_ found: Fingerprint, expected: Fingerprint, _ rules: CacheRules) -> Bool
  /// Whether upstream's `--overwrite` skips files of this kind.
  var survivesUpstreamOverwrite: Bool { get }

  // MARK: Reading and encoding

  /// The kind of file that must exist before this one can be made.
  var follows: CacheFolder? { get }
  /// Whether encoding certainly needs the model, so that it can be loaded in advance.
  var preloadsModel: Bool { get }
  /// Reads the source and adds the data to encode to the sample.
  ///
  /// - Throws: `MediaError` and others for a source that can't be used.
  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample) throws
  /// Records that the sample has no data for the file.
  ///
  /// - Throws: `MediaError` if there should be.
  func noteAbsence(_ inputs: ArtifactInputs, in sample: inout PreparedSample) throws

  // MARK: Inspection

  /// The kind whose files have the same layout, and should agree with these in channels and dtype.
  var family: CacheFolder { get }
  /// Whether a file of zeros is valid.
  var mayBeZero: Bool { get }
  /// The word for the source: a `clip`, a `reference`.
  var sourceNoun: String { get }
  /// Reads the sizes that a file records, and checks them against each other.
  ///
  /// - Throws: `Issue` for a tensor that is missing or has another shape.
  func inspect(_ file: SampleFile) throws -> CachedFacts
  /// Compares a file with the sample's other files.
  func mismatches(
    _ file: CacheReading.File, of sample: String, in reading: CacheReading,
    _ checker: CacheChecker
  ) -> [(kind: DatasetProblem.Kind, problem: String)]
  /// A clause in parentheses that explains why a sample has no such file; empty if there is no
  /// explanation.
  ///
  /// - Parameter metadata: The metadata of the sample's main file.
  func absence(explainedBy metadata: [String: String]) -> String

  // MARK: Decoding

  /// The conversion of files back into media; nil if that isn't possible.
  var decoding: CacheDecoding? { get }
}

/// All kinds of cached files, in the order in which they are made and listed.
enum Artifacts {
  static let all: [any Artifact] = [
    TextFeaturesArtifact(),
    VideoLatentsArtifact(),
    ReferenceLatentsArtifact(),
    VideoMaskArtifact(),
    AudioLatentsArtifact(),
    ReferenceAudioLatentsArtifact(),
    AudioMaskArtifact(),
  ]

  private static let byFolder = Dictionary(uniqueKeysWithValues: all.map { ($0.folder, $0) })

  static subscript(folder: CacheFolder) -> (any Artifact)? { byFolder[folder] }

  /// Returns the kind whose files are in a folder of this name.
  static func named(_ folder: String) -> (any Artifact)? {
    all.first { $0.folderNames.contains(folder) }
  }
}

/// The expected origin of a sample's file, or the reason for its absence.
enum Expectation {
  case made(Fingerprint)
  /// The clip has no audio to make the file from.
  ///
  /// - isInOrder: Whether the absence need not be reported.
  case absent(isInOrder: Bool)
  /// The answer depends on the clip, which has to be read first.
  case unknown
}

/// The inputs of a sample's files.
struct ArtifactInputs: Sendable {
  let sample: DatasetSample
  /// The text that the text encoder reads.
  let prompt: String
  /// The clip's facts; nil before the clip was read if no file records them.
  var clip: ClipFacts?
  let rules: CacheRules
  /// The state of the source file before its hash was taken; nil until it is read.
  var snapshot: String?

  var options: PreprocessingOptions { rules.options }
  var paths: [Role: String] { sample.paths }
}

extension Artifact {
  var formerFolders: [String] { [] }
  /// All names of the folder, the current one first.
  var folderNames: [String] { [folder.rawValue] + formerFolders }

  var column: Role? { nil }
  func suits(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool { true }
  var reasonUnsuited: String { "no row can use it" }
  func isWanted(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool {
    source(of: sample) != nil && suits(sample, options)
  }
  func source(of sample: DatasetSample) -> String? { column.flatMap { sample.paths[$0] } }

  func isCurrent(_ found: Fingerprint, expected: Fingerprint, _ rules: CacheRules) -> Bool { true }
  var survivesUpstreamOverwrite: Bool { false }

  var follows: CacheFolder? { nil }
  var preloadsModel: Bool { false }
  func noteAbsence(_ inputs: ArtifactInputs, in sample: inout PreparedSample) throws {}

  var family: CacheFolder { folder }
  var mayBeZero: Bool { false }
  var sourceNoun: String { "clip" }
  func mismatches(
    _ file: CacheReading.File, of sample: String, in reading: CacheReading,
    _ checker: CacheChecker
  ) -> [(kind: DatasetProblem.Kind, problem: String)] { [] }
  func absence(explainedBy metadata: [String: String]) -> String { "" }
}
