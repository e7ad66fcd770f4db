import Support
import Torch

/// One turn of a conversation with an omni model.
public struct QwenOmniMessage: Sendable {
  public enum Part: Sendable {
    case text(String)
    /// [3, height, width], uint8
    case image(Tensor)
    case video(QwenOmniClip)
    /// Mono samples at 16 kHz, -1 to 1.
    case audio([Float])
  }

  /// `system`, `user` or `assistant`.
  public var role: String
  public var parts: [Part]

  public init(role: String, _ parts: [Part]) {
    self.role = role
    self.parts = parts
  }
}

/// The chosen frames of a clip, and its audio if that is to be interleaved with them.
public struct QwenOmniClip: Sendable {
  /// [frames, 3, height, width], uint8; an even number of frames.
  public var frames: Tensor
  /// Mono samples at 16 kHz, -1 to 1.
  public var audio: [Float]?

  public init(frames: Tensor, audio: [Float]? = nil) {
    self.frames = frames
    self.audio = audio
  }
}

/// The tokens of a conversation, with the placeholders of its media (the chat templates of
/// Qwen2.5-Omni and Qwen3-Omni).
struct QwenOmniPrompt: Sendable {
  let configuration: QwenOmniConfiguration
  let tokenizer: Tokenizer
  let opening: AssistantOpening

  /// A part of a turn whose media are known by their sizes.
  enum Part: Sendable {
    case text(String)
    /// The number of tokens of an image or of a recording.
    case image(tokens: Int)
    case audio(tokens: Int)
    /// A clip, and the number of tokens of its audio if that is interleaved with it.
    case video(VideoSteps, audioTokens: Int?)
  }

  /// The tokens of a clip in time.
  struct VideoSteps: Sendable {
    let count: Int
    let tokensPerStep: Int
    let seconds: Float
  }

  /// The text that Qwen2.5-Omni expects in front of a conversation without a system turn.
  private static let systemText = "You are a helpful assistant."

  /// - Parameter thinking: False makes Qwen3-Omni answer without thinking; nil leaves it to the
  ///   model.
  func tokens(
    of conversation: [(role: String, parts: [Part])], thinking: Bool?
  ) throws -> [Int] {
    var turns = conversation
    if configuration.family == .qwen25, turns.first?.role != "system" {
      turns.insert((role: "system", parts: [.text(Self.systemText)]), at: 0)
    }
    var ids: [Int] = []
    // Text is encoded together up to the next placeholder: line breaks of the template and of the
    // content may be one token.
    var text = ""
    func flush() throws {
      if !text.isEmpty { ids += try tokenizer.encode(text, addBOS: false) }
      text = ""
    }
    for turn in turns {
      text += "<|im_start|>\(turn.role)\n"
      for part in turn.parts {
        if case .text(let content) = part {
          text += content
        } else {
          try flush()
          ids += placeholders(part)
        }
      }
      text += "<|im_end|>\n"
    }
    text += "<|im_start|>assistant\n" + opening.text(thinking: thinking)
    try flush()
    return ids
  }

  private func placeholders(_ part: Part) -> [Int] {
    let tokens = configuration.tokens
    func repeated(_ token: Int, _ count: Int) -> [Int] { Array(repeating: token, count: count) }
    switch part {
    case .text: return []
    case .image(let count):
      return [tokens.visionStart] + repeated(tokens.image, count) + [tokens.visionEnd]
    case .audio(let count):
      return [tokens.audioStart] + repeated(tokens.audio, count) + [tokens.audioEnd]
    case .video(let steps, nil):
      return [tokens.visionStart] + repeated(tokens.video, steps.count * steps.tokensPerStep)
        + [tokens.visionEnd]
    case .video(let steps, let count?):
      return [tokens.visionStart, tokens.audioStart] + interleaved(steps, audioTokens: count)
        + [tokens.audioEnd, tokens.visionEnd]
    }
  }

  /// The placeholders of a clip and its audio in the order of time: by chunks in Qwen2.5-Omni,
  /// frames before audio; token by token in Qwen3-Omni, frames before audio of the same time.
  private func interleaved(_ steps: VideoSteps, audioTokens: Int) -> [Int] {
    let perSecond = Float(configuration.positionsPerSecond)
    let video = (0..<steps.count).flatMap { step in
      Array(repeating: Float(step) * steps.seconds * perSecond, count: steps.tokensPerStep)
    }
    let audio = (0..<audioTokens).map(Float.init)
    let tokens = configuration.tokens
    var ids: [Int] = []
    switch configuration.family {
    case .qwen25:
      let length = Float(Int(configuration.positionsPerSecond * configuration.secondsPerChunk))
      let (videoChunks, audioChunks) = (
        Self.chunks(of: video, length: length), Self.chunks(of: audio, length: length)
      )
      for index in 0..<max(videoChunks.count, audioChunks.count) {
        for (chunks, token) in [(videoChunks, tokens.video), (audioChunks, tokens.audio)]
        where index < chunks.count {
          ids += Array(repeating: token, count: chunks[index])
        }
      }
    case .qwen3:
      var (nextVideo, nextAudio) = (0, 0)
      while nextVideo < video.count || nextAudio < audio.count {
        if nextAudio == audio.count
          || nextVideo < video.count && video[nextVideo] <= audio[nextAudio]
        {
          ids.append(tokens.video)
          nextVideo += 1
        } else {
          ids.append(tokens.audio)
          nextAudio += 1
        }
      }
    }
    return ids
  }

  /// The numbers of tokens of each chunk. A token can only begin the next chunk, even if its time
  /// lies in a later one, as in `transformers`.
  private static func chunks(of times: [Float], length: Float) -> [Int] {
    var counts = [0]
    for time in times {
      if time >= Float(counts.count) * length { counts.append(0) }
      counts[counts.count - 1] += 1
    }
    return counts
  }
}
