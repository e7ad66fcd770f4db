import LTX
import Media

/// A file that provides one modality of a condition.
public struct MediaFile: Sendable, Equatable {
  public var path: String
  public var modality: Modality
  /// The start of the used part of an audio file, in seconds.
  public var start = 0.0
  /// The H.264 compression of an image before it is encoded, like the stills in the training data;
  /// nil for the model's default, 0 for no compression.
  public var crf: Int?

  public init(_ path: String, _ modality: Modality, start: Double = 0, crf: Int? = nil) {
    (self.path, self.modality, self.start, self.crf) = (path, modality, start, crf)
  }

  public static func video(_ path: String) -> MediaFile { MediaFile(path, .video) }
  public static func audio(_ path: String) -> MediaFile { MediaFile(path, .audio) }
}

/// The conditions of validation samples and of requests for generation.
extension Condition<MediaFile> {
  /// An image at a pixel frame.
  public static func image(
    path: String, frame: Int = 0, strength: Double = 1, crf: Int? = nil
  ) -> Self {
    Self(MediaFile(path, .video, crf: crf), .image(frame: frame), strength: strength)
  }

  /// An image, or the first frame of a video, that is the result's first frame.
  public static func firstFrame(path: String) -> Self { Self(.video(path), .firstFrame) }

  /// The first `8k + 1` frames of a clip at the start of the video; nil for all of them.
  public static func prefix(path: String, frames: Int? = nil) -> Self {
    Self(.video(path), .prefix(frames.map { .frames($0) }))
  }

  /// The last `8k` frames of a clip at the end of the video; nil for all of them.
  public static func suffix(path: String, frames: Int? = nil) -> Self {
    Self(.video(path), .suffix(frames.map { .frames($0) }))
  }

  /// A complete video, of which a range of seconds is generated again, with its audio.
  public static func retake(path: String, from: Double, to: Double) -> Self {
    Self(.video(path), .retake(from: from, to: to))
  }

  /// A complete video, of which the part under a mask is generated again, where the mask is white.
  public static func inpaint(path: String, mask: String) -> Self {
    Self(.video(path), .mask(.video(mask), .replacesWhite))
  }

  /// A complete video, of which the part under a mask is kept, where the mask is white, like masks
  /// in training.
  public static func keep(path: String, mask: String) -> Self {
    Self(.video(path), .mask(.video(mask), .keepsWhite))
  }

  /// A complete video, of which a rectangle is kept.
  public static func crop(path: String, region: PixelRegion) -> Self {
    Self(.video(path), .crop(region))
  }

  /// A video that an IC-LoRA refers to.
  public static func reference(
    path: String, strength: Double = 1, scale: ReferenceScale? = nil, isShown: Bool = false
  ) -> Self {
    Self(.video(path), .reference(scale: scale, isShown: isShown), strength: strength)
  }

  /// Audio that the video is generated for; the result contains it unchanged. `start` is in
  /// seconds.
  public static func audio(path: String, start: Double = 0) -> Self {
    Self(MediaFile(path, .audio, start: start), .whole)
  }

  /// A file's audio at the start of the audio; nil for all of it.
  public static func audioPrefix(path: String, seconds: Double? = nil) -> Self {
    Self(.audio(path), .prefix(seconds.map { .seconds($0) }))
  }

  /// The end of a file's audio at the end of the audio; nil for all of it.
  public static func audioSuffix(path: String, seconds: Double? = nil) -> Self {
    Self(.audio(path), .suffix(seconds.map { .seconds($0) }))
  }

  /// Audio that is kept where a tensor or the level of an audio file is above 0.5.
  public static func audioKeep(path: String, mask: String) -> Self {
    Self(.audio(path), .mask(.audio(mask), .keepsWhite))
  }

  /// Audio that a LoRA refers to.
  public static func audioReference(path: String) -> Self { Self(.audio(path), .reference()) }

  /// A video that the audio is generated for; the result contains its frames.
  public static func video(path: String) -> Self { Self(.video(path), .whole) }
}

extension Condition<MediaFile> {
  public var path: String { source.path }

  /// The path of the mask; nil for other conditions.
  public var maskPath: String? { mask?.path }

  public var modality: Modality { source.modality }

  /// Whether the result is as long and as large as the file by default.
  var coversAll: Bool {
    switch (modality, kind) {
    case (_, .retake), (_, .mask(_, .replacesWhite)), (.video, .whole): true
    default: false
    }
  }
}
