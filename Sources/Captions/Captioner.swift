import Foundation

/// A model that writes captions: in this process, behind a server, or in the cloud.
public protocol Captioner: Sendable {
  /// The model and the way in which clips reach it, one line for the user.
  var summary: String { get }
  /// The largest number of requests that may run at the same time.
  var maxConcurrency: Int { get }

  /// Reads a clip. Called ahead, while the model answers for the clips before, on several threads.
  ///
  /// - Throws: `MediaError` for a clip that can't be decoded, `CaptionFailure`.
  func request(for clip: MediaClip, _ instructions: CaptionInstructions) throws -> CaptionRequest

  /// Ends all requests early. Called from another thread.
  func cancel()
}

extension Captioner {
  public func cancel() {}
}

/// A clip that has been read, for which the model can be asked.
public struct CaptionRequest: Sendable {
  /// Reports the number of tokens that the model has written so far.
  public typealias Progress = @Sendable (_ tokens: Int) -> Void

  /// Asks the model and waits for its answer.
  ///
  /// - Throws: `CaptionFailure` and others, which fail the clip.
  public let answer: @Sendable (_ progress: Progress) throws -> ModelAnswer

  public init(_ answer: @escaping @Sendable (_ progress: Progress) throws -> ModelAnswer) {
    self.answer = answer
  }
}

/// The answer of a model.
public struct ModelAnswer: Equatable, Sendable {
  /// The text as the model wrote it, possibly with thoughts and JSON around the caption.
  public var text: String
  /// Whether the limit on tokens ended the answer.
  public var isCut: Bool
  /// Notes about the clip for the user, a clause each.
  public var notes: [String]

  public init(text: String, isCut: Bool = false, notes: [String] = []) {
    (self.text, self.isCut, self.notes) = (text, isCut, notes)
  }
}
