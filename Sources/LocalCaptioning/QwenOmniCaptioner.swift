import LanguageModels
import Support
import Synchronization
import Torch

/// A captioner in this process: Qwen2.5-Omni or Qwen3-Omni from a model folder.
public final class QwenOmniCaptioner: Sendable {
  /// The options of a run.
  public struct Options: Sendable {
    /// The frame rate at which clips are seen.
    public var fps = 2.0
    /// The max number of new tokens.
    public var maxTokens = 4096
    public var repetitionPenalty = 1.05
    /// Whether a thinking model may think before it answers.
    public var thinks = false
    /// Whether a clip's audio is interleaved with its frames, as the models were trained. Official
    /// captions are made with the audio as a part of its own, after the frames.
    public var isInterleaved = false
    public var sampling = Sampling.greedy

    public init() {}
  }

  /// A clip and its instruction in the form that the model reads.
  public struct Request: Sendable {
    let inputs: CaptionInputs
    /// Notes about the clip for the user, a clause each.
    public let notes: [String]
    /// The number of tokens of the prompt.
    public var tokenCount: Int { inputs.ids.first?.count ?? 0 }
  }

  /// The answer of the model.
  public struct Answer: Sendable {
    /// The text as the model wrote it.
    public let text: String
    /// Whether the limit on tokens ended the answer.
    public let isTruncated: Bool
    public let tokenCount: Int
  }

  private let model: QwenOmniModel
  private let processor: QwenOmniProcessor
  /// Answers are written one at a time: they share the device's memory and streamed weights.
  private let turn = Mutex(())
  private let isCancelled = Atomic(false)

  /// - Parameters: Those of `QwenOmniModel`.
  /// - Throws: `Issue`, `TensorFileError` or `WeightError` for a folder that can't be used.
  public init(
    folder: String, device: Device, dtype: DType, use8Bit: Bool = false, memoryLimit: Int? = nil
  ) throws {
    // The small files first: they say at once whether the folder is the right one.
    let configuration = try QwenOmniConfiguration(folder: folder)
    processor = try QwenOmniProcessor(folder: folder, configuration: configuration)
    model = try QwenOmniModel(
      folder: folder, device: device, dtype: dtype, use8Bit: use8Bit, memoryLimit: memoryLimit)
  }

  /// Reads a clip. May be called on any thread, while the model answers for others.
  ///
  /// - Parameter instruction: Returns the instruction for a clip that has been read.
  /// - Throws: `MediaError` for a file that can't be decoded, `Issue` for one that the model can't
  ///   take.
  public func request(
    path: String, _ options: Options = Options(), instruction: (CaptionClip) -> String
  ) throws -> Request {
    var settings = QwenOmniProcessor.Options()
    settings.fps = options.fps
    settings.isInterleaved = options.isInterleaved
    settings.thinking = options.thinks
    let clip = try CaptionClip.read(path: path, processor: processor, options: settings)
    // Without audio or without frames there is nothing to interleave.
    settings.isInterleaved = options.isInterleaved && clip.audio != nil && clip.frames != nil
    let parts = clip.parts(isInterleaved: settings.isInterleaved) + [.text(instruction(clip))]
    return Request(
      inputs: try processor([[QwenOmniMessage(role: "user", parts)]], settings),
      notes: clip.notes)
  }

  /// Writes the answer to a request.
  ///
  /// - Parameter onToken: Called with the number of tokens so far. An error that it throws ends the
  ///   answer.
  /// - Throws: `Issue` for a prompt that is too long; `TorchError` if memory is exhausted;
  ///   `CancellationError` after `cancel()`.
  public func answer(
    _ request: Request, _ options: Options = Options(),
    onToken: (_ count: Int) throws -> Void = { _ in }
  ) throws -> Answer {
    let tokens = model.configuration.tokens
    let settings = GenerationOptions(
      limit: options.maxTokens, repetitionPenalty: options.repetitionPenalty,
      ends: Set(tokens.ends), pad: tokens.pad, sampling: options.sampling)
    return try turn.withLock { _ in
      var count = 0
      try requireNotCancelled()
      let result = try model.generate(request.inputs, settings) { _ in
        count += 1
        try requireNotCancelled()
        try onToken(count)
      }
      let ids = result.tokens.first ?? []
      return Answer(
        text: processor.tokenizer.decode(ids, skipSpecialTokens: true),
        isTruncated: result.isTruncated.first ?? false, tokenCount: ids.count)
    }
  }

  /// Ends the answer that is being written at its next token, and all that follow. Called from
  /// another thread.
  public func cancel() { isCancelled.store(true, ordering: .relaxed) }

  private func requireNotCancelled() throws {
    if isCancelled.load(ordering: .relaxed) { throw CancellationError() }
  }
}
