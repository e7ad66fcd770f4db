import CFFmpeg
import Foundation
import Support

/// The choice of a file's audio track.
public enum AudioTrackChoice: Equatable, Sendable, CustomStringConvertible {
  /// The track that players choose. Among those that can be decoded, a main track comes before
  /// commentary and tracks for impaired listeners, then a track that is marked default, then the
  /// first one.
  case automatic
  /// The first track, like upstream.
  case first
  /// A track by its number among the audio tracks, from 1.
  case number(Int)
  /// The first track in a language, as ISO 639 names it: `eng` or `en`.
  case language(String)

  /// Parses a choice: a number from 1, or a language.
  ///
  /// - Throws: `Issue` for any other string.
  public init(_ text: String) throws {
    if let number = Int(text), number >= 1 {
      self = .number(number)
    } else if (2...3).contains(text.count), text.allSatisfy({ $0.isASCII && $0.isLetter }) {
      self = .language(text.lowercased())
    } else {
      throw Issue(
        ["audioTrack"], "must be a track number or a language (got \"\(text)\")",
        suggestion: "Give a number from 1 or an ISO 639 code such as eng.")
    }
  }

  public var description: String {
    switch self {
    case .automatic: "automatic"
    case .first: "first"
    case .number(let number): "\(number)"
    case .language(let code): code
    }
  }
}

/// One audio track of a file, as described by its container.
struct AudioTrack {
  /// The number among the file's audio tracks, from 1.
  let number: Int
  /// The index of the stream in the container.
  package let stream: Int32
  /// FFmpeg's name of the codec; nil if it doesn't know the container's tag.
  let codec: String?
  /// The container's four-character code of the codec.
  let tag: String
  let sampleRate: Int
  let channelCount: Int
  /// The language tag of the track; nil if it has none.
  let language: String?
  let isDefault: Bool
  /// The purpose of a track that is not the main one: commentary, or audio for impaired listeners.
  let purpose: String?
  let isDecodable: Bool

  init(number: Int, _ stream: UnsafeMutablePointer<AVStream>) {
    let parameters = stream.pointee.codecpar.pointee
    self.number = number
    self.stream = stream.pointee.index
    codec =
      parameters.codec_id == AV_CODEC_ID_NONE
      ? nil : String(cString: avcodec_get_name(parameters.codec_id))
    tag = Self.text(ofTag: parameters.codec_tag)
    sampleRate = Int(parameters.sample_rate)
    channelCount = Int(parameters.ch_layout.nb_channels)
    let code = av_dict_get(stream.pointee.metadata, "language", nil, 0)?.pointee.value.map {
      String(cString: $0).lowercased()
    }
    language = code.flatMap { ["", "und", "unk"].contains($0) ? nil : $0 }
    let disposition = stream.pointee.disposition
    isDefault = disposition & Int32(AV_DISPOSITION_DEFAULT) != 0
    let purposes: [(Int32, String)] = [
      (Int32(AV_DISPOSITION_COMMENT), "commentary"),
      (Int32(AV_DISPOSITION_HEARING_IMPAIRED), "for the hearing impaired"),
      (Int32(AV_DISPOSITION_VISUAL_IMPAIRED), "for the visually impaired"),
      (Int32(AV_DISPOSITION_CLEAN_EFFECTS), "without dialogue"),
      (Int32(AV_DISPOSITION_KARAOKE), "karaoke"),
    ]
    purpose = purposes.first { disposition & $0.0 != 0 }?.1
    isDecodable =
      parameters.codec_id != AV_CODEC_ID_NONE && avcodec_find_decoder(parameters.codec_id) != nil
      && sampleRate > 0 && channelCount > 0
  }

  /// All audio tracks of an opened file, in its order.
  static func all(in format: UnsafeMutablePointer<AVFormatContext>) -> [AudioTrack] {
    var tracks: [AudioTrack] = []
    for index in 0..<Int(format.pointee.nb_streams) {
      guard let stream = format.pointee.streams[index],
        stream.pointee.codecpar.pointee.codec_type == AVMEDIA_TYPE_AUDIO
      else { continue }
      tracks.append(AudioTrack(number: tracks.count + 1, stream))
    }
    return tracks
  }

  /// `2: aac, 48000 Hz, 2 channels, eng, default`
  var description: String {
    var parts = [codec ?? "unknown codec \(tag)"]
    if sampleRate > 0 { parts.append("\(sampleRate) Hz") }
    if channelCount > 0 {
      parts.append(channelCount == 1 ? "1 channel" : "\(channelCount) channels")
    }
    parts += [language, purpose, isDefault ? "default" : nil].compactMap { $0 }
    return "\(number): " + parts.joined(separator: ", ")
  }

  /// Whether a track is in a language, given by a code of two or three letters.
  func isIn(_ wanted: String) -> Bool {
    language.map { Self.threeLetters($0) == Self.threeLetters(wanted) } ?? false
  }

  /// The ISO 639-2 code of a language in its terminology form (`deu`, not `ger`).
  static func threeLetters(_ code: String) -> String {
    let main = code.split(whereSeparator: { $0 == "-" || $0 == "_" }).first.map(String.init) ?? code
    if let terminology = bibliographic[main] { return terminology }
    return main.count == 2 ? Locale.LanguageCode(main).identifier(.alpha3) ?? main : main
  }

  /// Languages with two codes in ISO 639-2; containers use either one.
  private static let bibliographic = [
    "alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces",
    "dut": "nld",
    "fre": "fra", "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd",
    "mao": "mri",
    "may": "msa", "per": "fas", "rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym",
  ]

  /// A four-character code as text, or in hexadecimal if it is not printable.
  private static func text(ofTag tag: UInt32) -> String {
    let bytes = (0..<4).map { UInt8(truncatingIfNeeded: tag >> (8 * $0)) }
    return bytes.allSatisfy { (32...126).contains($0) }
      ? "\"" + String(decoding: bytes, as: UTF8.self) + "\"" : String(format: "0x%08x", tag)
  }
}

/// The chosen audio track, and a note for the user about the choice.
struct ChosenAudioTrack {
  let track: AudioTrack
  /// The note, as one clause; nil for a file with a single track that can be decoded.
  let note: String?

  /// - Throws: `MediaError` of kind `.badOption` for a track that the file does not have.
  /// - Returns: Nil for a file without audio.
  init?(_ choice: AudioTrackChoice, in format: UnsafeMutablePointer<AVFormatContext>, file: String)
    throws
  {
    let tracks = AudioTrack.all(in: format)
    guard let first = tracks.first else { return nil }
    switch choice {
    case .first: (track, note) = (first, nil)
    case .number(let number):
      guard let found = tracks.first(where: { $0.number == number }) else {
        throw Self.missing("audio track \(number)", tracks, file)
      }
      (track, note) = (found, nil)
    case .language(let code):
      let matching = tracks.filter { $0.isIn(code) }
      guard let found = Self.best(matching) ?? matching.first else {
        throw Self.missing("audio track in the language \(code)", tracks, file)
      }
      (track, note) = (found, nil)
    case .automatic:
      guard let best = Self.best(tracks) else {
        (track, note) = (first, nil)
        return
      }
      track = best
      note = Self.note(best, tracks)
    }
  }

  /// The main track that players choose; nil if none can be decoded.
  private static func best(_ tracks: [AudioTrack]) -> AudioTrack? {
    let usable = tracks.filter(\.isDecodable)
    func rank(_ track: AudioTrack) -> Int {
      (track.purpose == nil ? 0 : 2) + (track.isDefault ? 0 : 1)
    }
    return usable.min { (rank($0), $0.number) < (rank($1), $1.number) }
  }

  private static func note(_ chosen: AudioTrack, _ tracks: [AudioTrack]) -> String? {
    guard tracks.count > 1 else { return nil }
    var clauses: [String] = []
    let unusable = tracks.filter { !$0.isDecodable }
    for track in unusable {
      let reason =
        track.codec == nil
        ? "has the unknown codec tag \(track.tag)"
        : "can't be decoded (\(track.codec ?? track.tag))"
      clauses.append("audio track \(track.number) \(reason)")
    }
    if tracks.count - unusable.count > 1 {
      let list = tracks.filter(\.isDecodable).map(\.description).joined(separator: "; ")
      clauses.append("has \(tracks.count) audio tracks (\(list))")
    }
    return clauses.joined(separator: "; ")
      + "; track \(chosen.number)\(chosen.isDefault ? ", marked default," : "") is used"
      + (tracks.count - unusable.count > 1 ? "; choose another with `audioTrack`" : "")
  }

  private static func missing(_ wanted: String, _ tracks: [AudioTrack], _ file: String)
    -> MediaError
  {
    MediaError(
      .badOption, file: file,
      "has no \(wanted) (found \(tracks.map(\.description).joined(separator: "; ")))",
      remedy: "Choose one of these with `audioTrack`.")
  }
}
