/// A record of the inputs that a cached file was made from, stored in its metadata. The file is
/// reused only if all of them are unchanged.
///
/// The metadata also hold facts that were found while the file was made, such as the number of
/// frames.
public struct Fingerprint: Equatable, Sendable {
  public enum Key: String, Sendable, CaseIterable {
    /// The kind of file and the version of its rules.
    case content
    /// The SHA-256 of the source file.
    case source = "source_sha256"
    /// The SHA-256 of the clip that the file belongs to, if the clip is not its source.
    case clip = "clip_sha256"
    /// The text that the text encoder read.
    case prompt
    /// The size that the source was scaled to.
    case bucket
    /// The length of the audio, in seconds.
    case seconds
    /// The `FileIdentity` of the model's file.
    case model
    case textEncoder = "text_encoder"
    case dtype
    /// Other options that change the tensors.
    case options

    // Facts that were found.

    /// The width and height that the aspect ratio was computed from, such as `1280x720`.
    case sourceSize = "source_size"
    /// The number of frames that could be decoded, with a plus if reading stopped there.
    case sourceFrames = "source_frames"
    /// The length in seconds of audio that is not cut to a clip.
    case sourceSeconds = "source_seconds"
    /// Whether the source has audio: `yes` or `no`.
    case sourceAudio = "source_sound"
    case framesPerSecond = "frames_per_second"
    /// The damaged frames of the source; missing if there are none.
    case sourceDamage = "source_damage"
    /// The color conversions applied to the source, such as tone mapping; clauses separated by
    /// semicolons.
    case color
    /// The word that precedes the caption.
    case trigger = "trigger_word"
    /// The largest sample of the audio that was encoded, in dB of full scale; `-inf` for digital
    /// silence.
    case audioPeak = "audio_peak_dbfs"
    /// The root of the mean square of its samples, in dB of full scale; `-inf` for digital silence.
    case audioRMS = "audio_rms_dbfs"
  }

  public var fields: [String: String]

  /// - Parameter version: The version of the rules by which the file is made.
  init(_ folder: CacheFolder, _ fields: [Key: String], version: Int = 2) {
    self.fields = Dictionary(uniqueKeysWithValues: fields.map { ($0.rawValue, $1) })
    self[.content] = "ltx \(folder.rawValue) \(version)"
  }

  public init(fields: [String: String]) { self.fields = fields }

  public subscript(key: Key) -> String? {
    get { fields[key.rawValue] }
    set { fields[key.rawValue] = newValue }
  }

  /// Returns whether a file with this metadata was made from exactly these inputs.
  func fits(_ metadata: Fingerprint) -> Bool {
    // Bytes are compared, because Swift treats canonically equivalent strings as equal, and
    // tokenizers don't.
    fields.allSatisfy { metadata.fields[$0]?.utf8.elementsEqual($1.utf8) ?? false }
  }

  /// Returns the fingerprint with more facts.
  func adding(_ more: [Key: String]) -> Fingerprint {
    var result = self
    for (key, value) in more { result[key] = value }
    return result
  }
}
