import Foundation
import HTTP
import Media
import Support

/// Captions by Google's Gemini API. The file itself is sent, and Gemini samples its frames.
public struct GeminiCaptioner: Captioner {
  public struct Options: Sendable {
    public var key: String
    public var model = "gemini-3.5-flash"
    /// The limit on the answer, thinking included; nil for the model's own.
    public var maxTokens: Int?
    /// Files up to this size are part of the request, whose limit is 20 MB with its encoding. Larger
    /// ones are uploaded first, and deleted afterwards.
    public var inlineLimit = 14_000_000
    /// The limit for an answer, in seconds.
    public var timeLimit = 600.0
    /// The delays between attempts of a request that fails temporarily, in seconds.
    public var retryDelays: [Double] = [2, 4, 8, 16, 32, 60]
    /// The delay between questions whether an uploaded file is ready, in seconds.
    public var pollDelay = 2.0
    public var environment = ProcessInfo.processInfo.environment

    public init(key: String) { self.key = key }
  }

  /// The key in the environment, by the names that Google's clients read.
  public static func key(in environment: [String: String]) -> String? {
    ["GEMINI_API_KEY", "GOOGLE_API_KEY"].lazy.compactMap { environment[$0] }
      .map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.first { !$0.isEmpty }
  }

  public let maxConcurrency = 64
  public let summary: String
  private let options: Options
  private let server: ModelServer
  /// The address of the service, without a version.
  private let base: String

  private var headers: [(name: String, value: String)] { [("x-goog-api-key", options.key)] }

  /// Checks the key and the model.
  ///
  /// - Throws: `CaptionFailure` for a key or a model that can't be used, `Issue` without libcurl.
  public init(_ options: Options) throws {
    self.options = options
    let given = options.environment["GOOGLE_GEMINI_BASE_URL"] ?? ""
    base =
      given.isEmpty
      ? "https://generativelanguage.googleapis.com"
      : given.hasSuffix("/") ? String(given.dropLast()) : given
    server = try ModelServer(
      name: "Gemini", key: options.key, timeLimit: options.timeLimit,
      retries: RetryPolicy(delays: options.retryDelays, retriesTimeouts: false),
      keyAdvice: "Give the right one in GEMINI_API_KEY or `key`.", environment: options.environment)
    summary = "\(options.model) of the Gemini API"
    let name = options.model.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? ""
    let url = "\(base)/v1beta/models/\(name)"
    let response = try server.send(
      HTTPRequest(url: url, headers: headers, timeLimit: min(30, options.timeLimit)),
      retries: RetryPolicy(delays: Array(options.retryDelays.prefix(2))),
      delay: Self.requestedDelay)
    guard response.isSuccess else { throw failure(response) }
  }

  public func cancel() { server.cancel() }

  // MARK: Captions

  private struct Payload {
    let type: String
    let content: Content

    enum Content {
      case bytes(Data)
      case file(path: String, bytes: Int)
    }
  }

  public func request(
    for clip: MediaClip, _ instructions: CaptionInstructions
  ) throws -> CaptionRequest {
    let content: CaptionInstructions.Content
    switch clip.kind {
    case .image: content = .image
    case .audio: content = .audio
    case .video:
      // A file that can't be decoded fails here, with a sentence of our own.
      let reader = try VideoReader(path: clip.path)
      _ = try reader.nextFrame()
      content = .video(hasAudio: reader.hasAudio)
    }
    let media = try media(of: clip)
    let question = instructions.text(for: content)
    return CaptionRequest { [self] _ in
      switch media.content {
      case .bytes(let data):
        return try ask(
          [
            "inlineData": [
              "mimeType": .string(media.type), "data": .string(data.base64EncodedString()),
            ]
          ], question)
      case .file(let path, let bytes):
        let files = GeminiFiles(base: base, headers: headers, server: server, failure: failure)
        return try files.withUpload(
          of: path, bytes: bytes, type: media.type, pollDelay: options.pollDelay,
          limit: options.timeLimit
        ) { uri in
          try ask(
            ["fileData": ["mimeType": .string(media.type), "fileUri": .string(uri)]], question)
        }
      }
    }
  }

  /// The file itself, or its content in a format that Gemini knows.
  private func media(of clip: MediaClip) throws -> Payload {
    switch (clip.kind, clip.mediaType) {
    case (.image, nil):
      guard let image = try ClipMedia.frames(of: clip.path, fps: 1).first else { break }
      return Payload(type: "image/jpeg", content: .bytes(image))
    case (.audio, nil), (.audio, "audio/mp4"):
      guard let wav = try ClipMedia.audio(of: clip.path) else { break }
      return Payload(type: "audio/wav", content: .bytes(wav))
    case (_, let type): return try file(clip, type: type ?? "video/mp4")
    }
    throw MediaError(
      .noStream, file: clip.path, "has no image or audio", remedy: "Remove it from the folder.")
  }

  private func file(_ clip: MediaClip, type: String) throws -> Payload {
    let data = try Data(contentsOf: URL(fileURLWithPath: clip.path), options: .mappedIfSafe)
    return Payload(
      type: type,
      content: data.count <= options.inlineLimit
        ? .bytes(data) : .file(path: clip.path, bytes: data.count))
  }

  private func ask(_ part: JSON, _ question: String) throws -> ModelAnswer {
    var configuration: JSONObject = ["temperature": 0]
    if let limit = options.maxTokens { configuration["maxOutputTokens"] = JSON(limit) }
    let name = options.model.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? ""
    var request = try HTTPRequest.post(
      "\(base)/v1beta/models/\(name):generateContent",
      json: [
        "contents": [["role": "user", "parts": [part, ["text": .string(question)]]]],
        "generationConfig": .object(configuration),
      ], headers: headers)
    request.timeLimit = options.timeLimit
    let response = try server.send(request, delay: Self.requestedDelay)
    guard response.isSuccess else { throw failure(response, request) }
    return try answer(response)
  }

  private func answer(_ response: HTTPResponse) throws -> ModelAnswer {
    guard let json = try? JSON(parsing: response.body) else {
      throw server.malformed(response, "the answer is not JSON")
    }
    func refused(_ reason: String) -> CaptionFailure {
      CaptionFailure(
        Issue(
          [.file(server.name)], "refuses the clip (\(reason))",
          suggestion: "Write its caption by hand."), scope: .clip)
    }
    if let reason = json["promptFeedback"]?["blockReason"]?.string { throw refused(reason) }
    guard let candidate = json["candidates"]?.array?.first else {
      throw server.malformed(response, "the answer has no candidates")
    }
    let reason = candidate["finishReason"]?.string ?? "STOP"
    let text = (candidate["content"]?["parts"]?.array ?? [])
      .filter { $0["thought"]?.bool != true }
      .compactMap { $0["text"]?.string }.joined()
    guard ["STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED"].contains(reason) else {
      throw refused(reason)
    }
    guard text.contains(where: { !$0.isWhitespace }) else {
      throw CaptionFailure(
        Issue(
          [.file(server.name)], "the answer is empty (\(reason))",
          suggestion: reason == "MAX_TOKENS"
            ? "The model used all its tokens for thinking; raise `maxTokens`." : nil),
        scope: .clip)
    }
    return ModelAnswer(text: text, isCut: reason == "MAX_TOKENS")
  }

  private func failure(_ response: HTTPResponse) -> CaptionFailure { failure(response, nil) }

  private func failure(_ response: HTTPResponse, _ request: HTTPRequest?) -> CaptionFailure {
    let message = ServerError.message(of: response)
    var bytes = 0
    if case .bytes(let data)? = request?.body { bytes = data.count }
    // An invalid key is reported as a bad request.
    let isKey = response.status == 400 && message.contains("API key")
    return server.failure(status: isKey ? 401 : response.status, message: message, bytes: bytes)
  }

  /// The delay in `google.rpc.RetryInfo`, such as `34s`.
  private static func requestedDelay(_ response: HTTPResponse) -> Double? {
    guard let details = (try? JSON(parsing: response.body))?["error"]?["details"]?.array else {
      return nil
    }
    let texts = details.compactMap { $0["retryDelay"]?.string }
    return texts.lazy.compactMap { Double($0.hasSuffix("s") ? $0.dropLast() : $0[...]) }.first
  }
}
