import Foundation
import Support

/// The outcome of a run.
public enum RunOutcome: String, Sendable, Codable, Equatable {
  case success
  case failed
  case interrupted
}

/// A file that shows what the model generates at a step.
public struct ValidationMedia: Sendable, Equatable {
  /// The kind of file.
  public enum Kind: String, Sendable, Codable, Equatable {
    case image
    case video
    case audio

    /// The kind by the file's extension; nil for other extensions.
    public init?(path: String) {
      switch (path as NSString).pathExtension.lowercased() {
      case "png", "jpg", "jpeg": self = .image
      case "mp4": self = .video
      case "wav": self = .audio
      default: return nil
      }
    }
  }

  /// The name, which is the same at every step: `sample_1`.
  public let name: String
  public let path: String
  public let kind: Kind
  /// The prompt.
  public let caption: String

  /// - Throws: `Issue` for an extension other than png, jpg, jpeg, mp4 and wav.
  public init(name: String, path: String, caption: String) throws {
    guard let kind = Kind(path: path) else {
      throw Issue([.file(path)], "is not an image, video or audio file that can be shown")
    }
    self.name = name
    self.path = path
    self.kind = kind
    self.caption = caption
  }
}

/// A tool that shows runs, such as TensorBoard. All calls come from the training loop, one at a
/// time, with steps that never decrease. Slow work, such as network requests, belongs on a thread
/// of the tracker's own.
///
/// Names of scalars are the official trainer's (`train/loss`, `train/loss_sigma_0.00-0.25`,
/// `stats/…`), see `MetricNames`.
public protocol RunTracker: AnyObject, Sendable {
  /// The name for users, such as `TensorBoard`.
  var name: String { get }

  func scalars(_ values: [(name: String, value: Double)], step: Int) throws
  /// - Parameter text: Markdown, if the tracker can show it; code is indented by four spaces.
  func text(_ name: String, _ text: String, step: Int) throws
  /// - Parameter data: the bytes of a PNG or JPEG file.
  func image(_ name: String, _ data: Data, width: Int, height: Int, step: Int) throws
  /// Records all samples of a validation together.
  func media(_ samples: [ValidationMedia], step: Int) throws
  /// Ends the record. No other call follows.
  func finish(_ outcome: RunOutcome) throws
}
