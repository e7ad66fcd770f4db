/// What a cached file was made from, kept in its metadata: the file is used again only if all of it
/// is as before.
///
/// A file's metadata may hold more: what was found out while it was made, such as how many frames
/// there were.
public struct Fingerprint: Equatable, Sendable {
  public enum Key: String, Sendable, CaseIterable {
    /// The kind of file and the version of its rules.
    case content
    /// SHA-256 of the source file.
    case source = "source_sha256"
    /// The clip that the file goes with, where that is not its source.
    case clip = "clip_sha256"
    /// What the text encoder read.
    case prompt
    /// The size that the source was brought to.
    case bucket
    /// Length of sound, in seconds.
    case seconds
    /// `FileIdentity` of the model's file.
    case model
    case textEncoder = "text_encoder"
    case dtype
    /// Other options that change the numbers.
    case options

    // What was found out.

    /// Width and height that the aspect was judged by, `1280x720`.
    case sourceSize = "source_size"
    /// Frames that could be decoded; with a plus where more were not looked for.
    case sourceFrames = "source_frames"
    /// Seconds of a sound that decides on its length itself.
    case sourceSeconds = "source_seconds"
    /// Whether the source has sound: `yes` or `no`.
    case sourceAudio = "source_sound"
    case framesPerSecond = "frames_per_second"
    /// Which frames of the source are damaged; not there if none is.
    case sourceDamage = "source_damage"
    /// The color conversions applied to the source, such as tone mapping; clauses separated by
    /// semicolons.
    case color
    /// The word that was put before the caption.
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

  /// Whether a file with this metadata was made from just this.
  func fits(_ metadata: Fingerprint) -> Bool {
    // To the letter: Swift takes texts for equal that Unicode calls equivalent, and tokenizers
    // don't.
    fields.allSatisfy { metadata.fields[$0]?.utf8.elementsEqual($1.utf8) ?? false }
  }

  /// With more that is worth keeping in the file.
  func adding(_ more: [Key: String]) -> Fingerprint {
    var result = self
    for (key, value) in more { result[key] = value }
    return result
  }
}
