import LTX
import Media
import Torch

/// Something known of the result.
public enum GenerationCondition: Sendable {
  /// A picture that one pixel frame should look like. At frame 0 it takes the first frame's place;
  /// elsewhere it is shown to the model beside the video. `strength` is 0 (none) to 1 (the picture
  /// itself). `crf`: how H.264 compresses it first, as the model saw stills in training; nil takes
  /// the model's, 0 leaves the picture as it is.
  case image(path: String, frame: Int = 0, strength: Double = 1, crf: Int? = nil)
  /// A picture, or the first frame of a video, that is the result's first frame.
  case firstFrame(path: String)
  /// The video begins with a clip's first frames, `8k + 1` of them; nil takes as many as there are.
  case prefix(path: String, frames: Int? = nil)
  /// The video ends with a clip's last frames, `8k` of them; nil takes as many as there are.
  case suffix(path: String, frames: Int? = nil)
  /// A whole video, of which a stretch is made anew, in seconds; its sound likewise.
  case retake(path: String, from: Double, to: Double)
  /// A whole video, of which the part under a mask is made anew: a picture or video, white where.
  case inpaint(path: String, mask: String)
  /// A whole video, of which the part under a mask is kept, as masks are used in training: a
  /// picture or video, white where.
  case keep(path: String, mask: String)
  /// A whole video, of which a rectangle is kept.
  case crop(path: String, region: PixelRegion)
  /// A video that an IC-LoRA refers to.
  ///
  /// - scale: how much coarser it is shown than the result; nil takes what the LoRAs were trained
  ///   with.
  /// - isShown: puts it to the left of the result.
  case reference(path: String, strength: Double = 1, scale: Scale? = nil, isShown: Bool = false)
  /// A sound that the video is made for; the result has it as it is. `start` in seconds.
  case audio(path: String, start: Double = 0)
  /// The sound begins with that of a file; nil takes all of it.
  case audioPrefix(path: String, seconds: Double? = nil)
  /// The sound ends with the end of a file's; nil takes all of it.
  case audioSuffix(path: String, seconds: Double? = nil)
  /// A whole sound, of which a part is kept: where a `.pt` tensor or the level of a sound file is
  /// above a half.
  case audioKeep(path: String, mask: String)
  /// A sound that a LoRA refers to.
  case audioReference(path: String)
  /// A video that the sound is made for; the result has its pictures.
  case video(path: String)

  /// How much coarser a reference is shown than the result: pixels of the result for one of its
  /// own, and frames.
  public struct Scale: Sendable, Equatable {
    public var space: Int
    public var time: Int

    public init(space: Int = 1, time: Int = 1) {
      self.space = space
      self.time = time
    }
  }

  /// The file.
  public var path: String {
    switch self {
    case .image(let path, _, _, _), .firstFrame(let path), .prefix(let path, _),
      .suffix(let path, _),
      .retake(let path, _, _), .inpaint(let path, _), .keep(let path, _), .crop(let path, _),
      .reference(let path, _, _, _), .audio(let path, _), .audioPrefix(let path, _),
      .audioSuffix(let path, _),
      .audioKeep(let path, _), .audioReference(let path), .video(let path):
      path
    }
  }

  /// The file of its mask.
  public var maskPath: String? {
    switch self {
    case .inpaint(_, let mask), .keep(_, let mask), .audioKeep(_, let mask): mask
    default: nil
    }
  }

  /// Whether the result is as long and as large as the file, unless told otherwise.
  var coversAll: Bool {
    switch self {
    case .retake, .inpaint, .video: true
    default: false
    }
  }

  /// Whether it says something of the sound that is made.
  var isOfAudio: Bool {
    switch self {
    case .audioPrefix, .audioSuffix, .audioKeep, .audioReference: true
    default: false
    }
  }

  /// Whether its file is an audio file.
  var isAudio: Bool { if case .audio = self { true } else { isOfAudio } }
}

/// A rectangle of a picture, in pixels; the bottom and the right edge do not belong to it.
public struct PixelRegion: Sendable, Equatable {
  public var top: Int
  public var left: Int
  public var bottom: Int
  public var right: Int

  public init(top: Int, left: Int, bottom: Int, right: Int) {
    (self.top, self.left, self.bottom, self.right) = (top, left, bottom, right)
  }
}
