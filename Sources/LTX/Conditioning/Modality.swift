/// Video or audio: the two modalities of the model.
public enum Modality: String, Sendable, Hashable, CaseIterable, Codable, CustomStringConvertible {
  case video, audio

  public var description: String { rawValue }

  public var other: Modality { self == .video ? .audio : .video }
}

/// The modalities that a model is built for, or that a request needs.
extension Set<Modality> {
  public static let video: Set = [.video]
  public static let audio: Set = [.audio]
  public static let both: Set = [.video, .audio]

  /// The names, video first: `video and audio`.
  public var names: String {
    Modality.allCases.filter(contains).map(\.rawValue).joined(separator: " and ")
  }
}

/// A value for video and one for audio.
///
/// If a modality may be absent, `Value` is an optional.
public struct PerModality<Value> {
  public var video: Value
  public var audio: Value

  public init(video: Value, audio: Value) {
    self.video = video
    self.audio = audio
  }

  /// - Parameter value: computes the value of each modality, video first.
  public init(_ value: (Modality) throws -> Value) rethrows {
    video = try value(.video)
    audio = try value(.audio)
  }

  public subscript(modality: Modality) -> Value {
    get { modality == .video ? video : audio }
    set { if modality == .video { video = newValue } else { audio = newValue } }
  }
}

extension PerModality {
  /// The values by modality, video first.
  public var pairs: [(modality: Modality, value: Value)] { [(.video, video), (.audio, audio)] }

  /// The results of a function of each value, video first.
  public func map<Result>(_ transform: (Value) throws -> Result) rethrows -> PerModality<Result> {
    PerModality<Result>(video: try transform(video), audio: try transform(audio))
  }

  /// The values of two pairs, side by side.
  public func zip<Other>(_ other: PerModality<Other>) -> PerModality<(Value, Other)> {
    PerModality<(Value, Other)>(video: (video, other.video), audio: (audio, other.audio))
  }
}

extension PerModality where Value: ExpressibleByNilLiteral {
  /// A pair without values.
  public init() { self.init(video: nil, audio: nil) }

  /// A value for one modality.
  public init(_ modality: Modality, _ value: Value) {
    self.init()
    self[modality] = value
  }
}

extension PerModality {
  /// The modalities that have a value.
  public func present<Wrapped>() -> Set<Modality> where Value == Wrapped? {
    Set(Modality.allCases.filter { self[$0] != nil })
  }

  /// The values that exist, video first.
  public func values<Wrapped>() -> [Wrapped] where Value == Wrapped? {
    [video, audio].compactMap { $0 }
  }

  /// The results of a function of each value that exists; its result may be nil.
  public func compactMap<Wrapped, Result>(
    _ transform: (Modality, Wrapped) throws -> Result?
  ) rethrows -> PerModality<Result?> where Value == Wrapped? {
    PerModality<Result?>(
      video: try video.flatMap { try transform(.video, $0) },
      audio: try audio.flatMap { try transform(.audio, $0) })
  }
}

extension PerModality: Sendable where Value: Sendable {}
extension PerModality: Equatable where Value: Equatable {}
extension PerModality: Hashable where Value: Hashable {}

/// The part of the transformer that an adapter belongs to.
public enum LoRAPart: String, Sendable, CaseIterable, Codable {
  case video, audio
  /// The attention between the modalities and its modulation, which exist only if both modalities
  /// do.
  case cross

  /// - Parameter path: The path of a module, in a LoRA file or in a checkpoint.
  public init(path: String) {
    let names = path.split(separator: ".")
    if names.contains(where: {
      $0 == "audio_to_video_attn" || $0 == "video_to_audio_attn" || $0.hasPrefix("av_ca_")
    }) {
      self = .cross
    } else {
      self = names.contains { $0.hasPrefix("audio_") } ? .audio : .video
    }
  }

  /// Whether the part exists if only some modalities are built.
  public func isBuilt(_ modalities: Set<Modality>) -> Bool {
    switch self {
    case .video: modalities.contains(.video)
    case .audio: modalities.contains(.audio)
    case .cross: modalities == .both
    }
  }
}
