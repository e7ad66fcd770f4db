import Foundation
import HTTP
import Media
import Support

/// Captions by a server with OpenAI's chat API: vLLM, SGLang, llama.cpp, Ollama, LM Studio.
public struct OpenAICaptioner: Captioner {
  public struct Options: Sendable {
    /// The base of the API, such as `http://127.0.0.1:8001/v1`.
    public var url: String
    /// The model; nil for the only one that the server has.
    public var model: String?
    public var key: String?
    public var maxTokens = 4096
    /// The frames per second that the model sees.
    public var fps = 2.0
    /// The parameters that vLLM knows in addition to OpenAI's, as the official trainer sends them:
    /// a repetition penalty, the frame rate, and whether the model thinks. Nil for servers that may
    /// refuse them.
    public var vLLM: VLLM?
    /// The limit for an answer, in seconds.
    public var timeLimit = 600.0
    /// The delays between attempts of a request that fails temporarily, in seconds.
    public var retryDelays: [Double] = [1, 2, 4, 8, 16, 30]
    public var environment = ProcessInfo.processInfo.environment

    public init(url: String) { self.url = url }
  }

  public struct VLLM: Equatable, Sendable {
    public var thinks: Bool
    public var repetitionPenalty = 1.05

    public init(thinks: Bool) { self.thinks = thinks }
  }

  public let maxConcurrency = 64
  public let summary: String
  private let options: Options
  private let model: String
  private let server: ModelServer
  let abilities: ServerAbilities

  private var chat: String { "\(options.url)/chat/completions" }

  /// Connects to the server, chooses the model and finds out what it takes.
  ///
  /// - Throws: `Issue` and `CaptionFailure` for a server that can't be used.
  public init(_ given: Options) throws {
    var options = given
    while options.url.hasSuffix("/") { options.url.removeLast() }
    for ending in ["/chat/completions", "/models"] where options.url.hasSuffix(ending) {
      options.url.removeLast(ending.count)
    }
    let address = options.url
    guard address.hasPrefix("http://") || address.hasPrefix("https://") else {
      throw Issue(
        ["server"], "is not a URL (\(address), expected http://HOST:PORT/v1)")
    }
    self.options = options
    server = try ModelServer(
      name: address, key: options.key, timeLimit: options.timeLimit,
      retries: RetryPolicy(delays: options.retryDelays, retriesTimeouts: false),
      keyAdvice: "Give the right one in OPENAI_API_KEY or `key`.", environment: options.environment)
    model = try Self.model(options, server)
    let (chosen, talk) = (model, server)
    abilities = try ServerAbilities(of: address) { parts in
      try Self.refusal(of: parts, model: chosen, options, talk)
    }
    summary = "\(model) at \(address), which \(abilities.description)"
  }

  public func cancel() { server.cancel() }

  // MARK: Connecting

  private static func headers(_ options: Options) -> [(name: String, value: String)] {
    options.key.map { [("Authorization", "Bearer \($0)")] } ?? []
  }

  private static func model(_ options: Options, _ server: ModelServer) throws -> String {
    let request = HTTPRequest(
      url: "\(options.url)/models", headers: headers(options), timeLimit: min(30, options.timeLimit)
    )
    let brief = RetryPolicy(delays: Array(options.retryDelays.prefix(1)))
    let response = try server.send(request, retries: brief)
    guard response.isSuccess else {
      // Some servers list no models.
      if [404, 405, 501].contains(response.status), let model = options.model { return model }
      throw server.failure(
        status: response.status, message: ServerError.message(of: response), bytes: 0)
    }
    guard let list = (try? JSON(parsing: response.body))?["data"]?.array else {
      throw server.malformed(response, "lists no models, as OpenAI's API does")
    }
    let models = list.compactMap { $0["id"]?.string }
    let names = models.prefix(10).joined(separator: ", ")
    guard let wanted = options.model else {
      guard let only = models.first, models.count == 1 else {
        throw Issue(
          [.file(options.url)],
          models.isEmpty ? "has no model" : "has several models (\(names))",
          suggestion: "Choose one with `model`.")
      }
      return only
    }
    guard models.isEmpty || models.contains(wanted) else {
      throw Issue(
        ["model"], "the server has no model \(wanted) (it has \(names))")
    }
    return wanted
  }

  /// The reason why the server doesn't take some parts; nil if it does.
  private static func refusal(
    of parts: [JSON], model: String, _ options: Options, _ server: ModelServer
  ) throws -> String? {
    var request = try HTTPRequest.post(
      "\(options.url)/chat/completions",
      json: [
        "model": .string(model), "max_tokens": 8, "temperature": 0,
        "messages": [["role": "user", "content": .array(parts)]],
      ], headers: headers(options))
    request.timeLimit = options.timeLimit
    // A server fails for parts that it does not know, and is not asked again, unless it is busy.
    var response = try server.send(
      request, retries: RetryPolicy(delays: [], retriesTimeouts: false))
    if [429, 503].contains(response.status) { response = try server.send(request) }
    if response.isSuccess { return nil }
    let message = ServerError.message(of: response)
    switch response.status {
    case 401, 403, 404, 429, 503:
      throw server.failure(status: response.status, message: message, bytes: 0)
    default: return server.redacted(message)
    }
  }

  // MARK: Captions

  /// The parts of a message about a clip, without the instruction.
  private struct Parts {
    var seen: [JSON] = []
    var heard: [JSON] = []
    var content: CaptionInstructions.Content
    var notes: [String] = []
  }

  public func request(
    for clip: MediaClip, _ instructions: CaptionInstructions
  ) throws -> CaptionRequest {
    let parts = try parts(of: clip, asFile: abilities.video == .file)
    return CaptionRequest { [self] _ in
      do {
        return try answer(parts, instructions)
      } catch let failure as CaptionFailure
        where abilities.video == .file && clip.kind == .video && failure.scope == .clip
      {
        // Servers have limits on the size of files, and decoders that are less tolerant.
        var frames = try self.parts(of: clip, asFile: false)
        frames.notes.append("the server did not take the file, so its frames were sent")
        do { return try answer(frames, instructions) } catch is CaptionFailure { throw failure }
      }
    }
  }

  private func parts(of clip: MediaClip, asFile: Bool) throws -> Parts {
    let audio = clip.kind == .image ? nil : try ClipMedia.audio(of: clip.path)
    let heard: [JSON]
    var notes: [String] = []
    if let audio, abilities.audio != .none {
      heard = [MessagePart.audio(audio, as: abilities.audio)]
    } else {
      heard = []
      if audio != nil, clip.kind == .video { notes.append("the server takes no audio") }
    }
    func refused(_ what: String, _ remedy: String) -> CaptionFailure {
      CaptionFailure(
        Issue(
          [.file(clip.path)], "is \(what), which the server does not take",
          suggestion: "Serve a model that \(remedy), such as Qwen2.5-Omni."), scope: .clip)
    }
    switch clip.kind {
    case .audio:
      guard audio != nil else {
        throw MediaError(
          .noStream, file: clip.path, "has no audio", remedy: "Remove it from the folder.")
      }
      guard !heard.isEmpty else { throw refused("audio", "hears") }
      return Parts(heard: heard, content: .audio)
    case .image:
      guard abilities.video != .none else { throw refused("an image", "sees") }
      let frames = try ClipMedia.frames(of: clip.path, fps: options.fps)
      return Parts(seen: frames.map { MessagePart.image($0) }, content: .image)
    case .video:
      guard abilities.video != .none else { throw refused("a video", "sees") }
      let seen: [JSON]
      if asFile {
        // A file that can't be decoded fails here, with a sentence of our own.
        let reader = try VideoReader(path: clip.path)
        _ = try reader.nextFrame()
        let file = try Data(contentsOf: URL(fileURLWithPath: clip.path), options: .mappedIfSafe)
        seen = [MessagePart.video(file, mediaType: clip.mediaType ?? "video/mp4")]
      } else {
        seen = try ClipMedia.frames(of: clip.path, fps: options.fps).map { MessagePart.image($0) }
      }
      return Parts(
        seen: seen, heard: heard, content: .video(hasAudio: !heard.isEmpty), notes: notes)
    }
  }

  private func answer(_ parts: Parts, _ instructions: CaptionInstructions) throws -> ModelAnswer {
    // Media first, then the instruction, in one turn of the user, as the official trainer sends it.
    let content =
      parts.seen + parts.heard + [MessagePart.text(instructions.text(for: parts.content))]
    var body: JSONObject = [
      "model": .string(model), "max_tokens": JSON(options.maxTokens), "temperature": 0,
      "messages": [["role": "user", "content": .array(content)]],
    ]
    if let vLLM = options.vLLM {
      body["repetition_penalty"] = JSON(vLLM.repetitionPenalty)
      body["chat_template_kwargs"] = ["enable_thinking": .bool(vLLM.thinks)]
      if case .video = parts.content { body["mm_processor_kwargs"] = ["fps": JSON(options.fps)] }
    }
    var request = try HTTPRequest.post(chat, json: .object(body), headers: Self.headers(options))
    request.timeLimit = options.timeLimit
    let response = try server.send(request)
    guard response.isSuccess else {
      var bytes = 0
      if case .bytes(let data) = request.body { bytes = data.count }
      throw server.failure(
        status: response.status, message: ServerError.message(of: response), bytes: bytes)
    }
    var answer = try Self.answer(response, server)
    answer.notes = parts.notes
    return answer
  }

  private static func answer(
    _ response: HTTPResponse, _ server: ModelServer
  ) throws -> ModelAnswer {
    guard let json = try? JSON(parsing: response.body) else {
      throw server.malformed(response, "the answer is not JSON")
    }
    // Some servers report errors with status 200.
    if let error = json["error"], error != .null {
      throw server.failure(
        status: error["code"]?.int ?? 500, message: ServerError.message(of: response), bytes: 0)
    }
    guard let choice = json["choices"]?.array?.first, let message = choice["message"] else {
      throw server.malformed(response, "the answer has no choices")
    }
    let reason = choice["finish_reason"]?.string
    let text: String
    switch message["content"] {
    case .string(let content): text = content
    case .array(let parts): text = parts.compactMap { $0["text"]?.string }.joined()
    default: text = ""
    }
    if let refusal = message["refusal"]?.string, !refusal.isEmpty {
      throw CaptionFailure(
        Issue([.file(server.name)], "the model refuses: \(server.redacted(refusal))"), scope: .clip)
    }
    if reason == "content_filter" {
      throw CaptionFailure(
        Issue([.file(server.name)], "the server's filter blocks the caption"), scope: .clip)
    }
    let isCut = reason == "length"
    guard text.contains(where: { !$0.isWhitespace }) else {
      throw CaptionFailure(
        Issue(
          [.file(server.name)], "the answer is empty",
          suggestion: isCut ? "The model used all its tokens for thinking; raise `maxTokens`." : nil
        ),
        scope: .clip)
    }
    return ModelAnswer(text: text, isCut: isCut)
  }
}

/// The words of a server about an error, in the forms that servers use.
enum ServerError {
  static func message(of response: HTTPResponse) -> String {
    guard let json = try? JSON(parsing: response.body) else { return response.excerpt }
    let error = json.array?.first?["error"] ?? json["error"]
    let text =
      error?["message"]?.string ?? error?.string ?? json["message"]?.string
      ?? json["detail"]?.string
    guard let text else { return response.excerpt }
    let line = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    return line.count > 300 ? line.prefix(300) + "…" : line
  }
}
