// The options of `ltx caption`, by their subject.

import ArgumentParser
import Captions
import Foundation
import LTX
import LocalCaptioning
import Support

/// The clips to caption, and the instruction for the model.
struct CaptionClipOptions: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      """
      An instruction for the model. Default: one that asks for a detailed caption, of what is seen \
      and heard.
      """,
      valueName: "text"))
  var instruction: String?

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "The extensions of the files to caption. Default: all that can be decoded.",
      valueName: "mp4,mov,…"))
  var extensions: String?

  @Flag(name: .shortAndLong, help: "Search subfolders too.")
  var recursive = false

  var extensionSet: Set<String>? {
    extensions.map { text in
      Set(
        text.split(separator: ",").map {
          $0.trimmingCharacters(in: CharacterSet(charactersIn: ". ")).lowercased()
        }.filter { !$0.isEmpty })
    }
  }

  func validate() throws {
    guard extensionSet?.isEmpty != true else {
      throw ValidationError("--extensions: is empty. Write for example mp4,mov")
    }
    guard instruction?.contains(where: { !$0.isWhitespace }) ?? true else {
      throw ValidationError("--instruction: is empty")
    }
  }
}

/// The model that writes captions.
struct CaptionModelOptions: ParsableArguments {
  enum Kind: String, CaseIterable, ExpressibleByArgument {
    case qwenOmni = "qwen_omni"
    case geminiFlash = "gemini_flash"
    case openAI = "openai"
  }

  /// Whether Qwen3-Omni thinks before it answers.
  enum Thinking: EnumerableFlag {
    case on, off

    static func name(for value: Thinking) -> NameSpecification {
      .customLong(value == .on ? "enable-thinking" : "no-thinking")
    }

    static func help(for value: Thinking) -> ArgumentHelp? {
      value == .on
        ? "Let Qwen3-Omni think before it answers, which takes several times as long." : nil
    }
  }

  @Option(
    name: [.customLong("captioner-type"), .customShort("c")],
    help: """
      The model: Qwen's omni models in this process or by vLLM, Google's Gemini, or any server with \
      OpenAI's API.
      """)
  var type: Kind = .qwenOmni

  @Option(
    help: ArgumentHelp(
      "The folder of a Qwen2.5-Omni or Qwen3-Omni model.", valueName: "folder"),
    completion: .directory)
  var captionerModel: String?

  @Option(
    help: ArgumentHelp(
      "The address of a server. Default for openai: http://127.0.0.1:8001/v1.", valueName: "url"))
  var vllmUrl: String?

  @Option(
    help: ArgumentHelp(
      "The model of the server. Default: the only one that it has.", valueName: "name"))
  var vllmModel: String?

  @Option(help: ArgumentHelp("The model of Gemini.", valueName: "name"))
  var geminiModel = "gemini-3.5-flash"

  @Option(
    help: ArgumentHelp(
      """
      A key for the server or for Gemini. Better set it in the environment, where other users of \
      the machine can't see it.
      """,
      valueName: "key"))
  var apiKey: String?

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "The frames of a second that the model sees. Gemini chooses them itself.", valueName: "rate"))
  var fps = 2.0

  @Option(
    help: ArgumentHelp(
      "The limit on the tokens of an answer. Default: 4096; for Gemini, the model's own.",
      valueName: "n"))
  var maxTokens: Int?

  @Flag var thinking = Thinking.off

  @Option(help: ArgumentHelp("The limit for an answer of a server.", valueName: "seconds"))
  var timeout = 600.0

  @Flag(
    name: [.customLong("use-8bit")],
    help: "Load the weights of the language model in int8, in half the memory.")
  var use8Bit = false

  @Flag(
    help: """
      Interleave the tokens of a video and its audio by their times, as the models were trained, \
      instead of sending the audio after the video, as the official trainer does.
      """)
  var useAudioInVideo = false

  @Option(help: "The dtype of a model in this process.")
  var dtype: ComputeDType = .bfloat16

  @Option(
    help: ArgumentHelp(
      "The device's memory to use, such as 24GB, or auto for what is free. Weights that don't fit are streamed. (default: auto on a GPU)",
      valueName: "size"))
  var memory: MemoryBudget?

  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    guard fps.isFinite, (0.01...120).contains(fps) else {
      throw ValidationError("--fps: must be between 0.01 and 120 (got \(fps))")
    }
    guard (1...1_000_000).contains(maxTokens ?? 1) else {
      throw ValidationError("--max-tokens: must be between 1 and 1000000 (got \(maxTokens ?? 0))")
    }
    guard timeout.isFinite, (0.1...86_400).contains(timeout) else {
      throw ValidationError("--timeout: must be between 0.1 and 86400 (got \(timeout))")
    }
    let given: [(option: String, isGiven: Bool, kinds: [Kind])] = [
      ("--captioner-model", captionerModel != nil, [.qwenOmni]),
      ("--use-8bit", use8Bit, [.qwenOmni]),
      ("--use-audio-in-video", useAudioInVideo, [.qwenOmni]),
      ("--enable-thinking", thinking == .on, [.qwenOmni]),
      ("--vllm-url", vllmUrl != nil, [.qwenOmni, .openAI]),
      ("--vllm-model", vllmModel != nil, [.qwenOmni, .openAI]),
    ]
    if let stray = given.first(where: { $0.isGiven && !$0.kinds.contains(type) }) {
      throw ValidationError("\(stray.option): has no effect with --captioner-type \(type.rawValue)")
    }
    guard captionerModel == nil || vllmUrl == nil else {
      throw ValidationError(
        "--captioner-model and --vllm-url contradict each other. Remove one of them")
    }
  }

  /// Whether the model runs in this process.
  private var isLocal: Bool { type == .qwenOmni && vllmUrl == nil }

  /// Checks what can be checked before anything is read.
  ///
  /// - Throws: `Issue`.
  func check(workers: Int) throws {
    if isLocal {
      guard captionerModel != nil else {
        throw Issue(
          "no model is given",
          suggestion:
            "Download one (`hf download Qwen/Qwen2.5-Omni-7B --local-dir Qwen2.5-Omni-7B`) "
            + "and name its folder with --captioner-model, or start a server (`vllm serve "
            + "Qwen/Qwen3-Omni-30B-A3B-Instruct --port 8001`) and name its address with --vllm-url."
        )
      }
      guard workers == 1 else {
        throw Issue(
          ["--num-workers"], "must be 1 with a model in this process (got \(workers))")
      }
    }
    if type == .geminiFlash, geminiKey == nil {
      throw Issue(
        "no key for Gemini is given",
        suggestion: "Make one at https://aistudio.google.com/apikey and set GEMINI_API_KEY.")
    }
  }

  private var environment: [String: String] { ProcessInfo.processInfo.environment }
  private var geminiKey: String? { apiKey ?? GeminiCaptioner.key(in: environment) }

  /// Opens the model, or connects to its server.
  ///
  /// - Throws: `Issue` and others for a model that can't be used.
  func captioner() throws -> any Captioner {
    switch type {
    case .qwenOmni:
      if let vllmUrl { return try serverCaptioner(vllmUrl, isVLLM: true) }
      return try LocalCaptioner(local)
    case .openAI:
      return try serverCaptioner(vllmUrl ?? "http://127.0.0.1:8001/v1", isVLLM: false)
    case .geminiFlash:
      var options = GeminiCaptioner.Options(key: geminiKey ?? "")
      options.model = geminiModel
      options.maxTokens = maxTokens
      options.timeLimit = timeout
      return try GeminiCaptioner(options)
    }
  }

  private func serverCaptioner(_ url: String, isVLLM: Bool) throws -> OpenAICaptioner {
    var options = OpenAICaptioner.Options(url: url)
    options.model = vllmModel
    options.key = apiKey ?? environment["OPENAI_API_KEY"].flatMap { $0.isEmpty ? nil : $0 }
    options.maxTokens = maxTokens ?? 4096
    options.fps = fps
    options.vLLM = isVLLM ? .init(thinks: thinking == .on) : nil
    options.timeLimit = timeout
    return try OpenAICaptioner(options)
  }

  private var local: LocalCaptionerOptions {
    var answers = QwenOmniCaptioner.Options()
    answers.fps = fps
    answers.maxTokens = maxTokens ?? 4096
    answers.thinks = thinking == .on
    answers.isInterleaved = useAudioInVideo
    return LocalCaptionerOptions(
      folder: captionerModel ?? "", compute: compute, dtype: dtype, memory: memory,
      uses8Bit: use8Bit, answers: answers)
  }

  /// Overwrites the key among the arguments of this process, which all users of a machine can read.
  func hideKey() {
    guard let apiKey, !apiKey.isEmpty else { return }
    for index in 1..<max(1, Int(CommandLine.argc)) {
      guard let argument = CommandLine.unsafeArgv[index] else { continue }
      let text = String(cString: argument)
      guard text == apiKey || text.hasPrefix("--api-key=") else { continue }
      let value = text.utf8.count - apiKey.utf8.count
      for place in max(0, value)..<text.utf8.count { argument[place] = CChar(UInt8(ascii: "*")) }
    }
  }
}
