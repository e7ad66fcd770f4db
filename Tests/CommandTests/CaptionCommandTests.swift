import Foundation
import HTTPTestSupport
import Support
import Synchronization
import TestSupport
import Testing

/// `ltx caption`, run as a user runs it.
@Suite struct CaptionCommandTests {
  private let shop: Workshop

  init() throws {
    shop = try Workshop()
    let clips = try Clips.all()
    try FileManager.default.copyItem(atPath: clips[3], toPath: shop.path + "/a.mp4")
    try shop.write("bad.mp4", "no video")
  }

  /// A server that captions everything, and records what it is sent.
  private final class Server: Sendable {
    let requests = Mutex<[LocalServer.Request]>([])
    private let server: Mutex<LocalServer?> = Mutex(nil)
    /// The seconds before an answer.
    let delay: Double

    var address: String { server.withLock { $0?.address ?? "" } }

    init(delay: Double = 0) throws {
      self.delay = delay
      let made = try LocalServer { [weak self] request in self?.respond(request) }
      server.withLock { $0 = made }
    }

    private func respond(_ request: LocalServer.Request) -> LocalServer.Response? {
      requests.withLock { $0.append(request) }
      if request.method == "GET" {
        return .json("{\"data\": [{\"id\": \"omni\"}]}")
      }
      Thread.sleep(forTimeInterval: delay)
      return .json(
        "{\"choices\": [{\"message\": {\"content\": \"A fine clip.\"}, \"finish_reason\": \"stop\"}]}"
      )
    }
  }

  private func caption(
    _ arguments: [String], environment: [String: String] = [:]
  ) throws -> Program.Result {
    try Program.run(["caption"] + arguments, in: shop.path, environment: environment)
  }

  @Test func goodClipsAreCaptionedAndARerunMakesTheRest() throws {
    let server = try Server()
    let url = server.address + "/v1"
    let first = try caption([".", "--vllm-url", url])
    #expect(first.status == 1)
    #expect(
      first.errors.contains(
        "captioning 2 clips with omni at \(url), which takes video files and audio\n"),
      "\(first.errors)")
    #expect(first.errors.contains("error: bad.mp4: "))
    #expect(
      first.output
        == "2 clips: 1 captioned, 0 up to date, 1 failed; captions in ./dataset.json\n")
    let stored = try String(contentsOfFile: shop.path + "/dataset.json", encoding: .utf8)
    #expect(
      stored
        == "[\n  {\n    \"caption\": \"A fine clip.\",\n    \"media_path\": \"a.mp4\"\n  }\n]")
    let asked = server.requests.withLock { $0.count }
    try FileManager.default.removeItem(atPath: shop.path + "/bad.mp4")
    let second = try caption([".", "--captioner-type", "openai", "--vllm-url", url])
    #expect(second.status == 0 && second.output == "1 clip: all have captions in ./dataset.json\n")
    #expect(server.requests.withLock { $0.count } == asked)
    let third = try caption([".", "-c", "openai", "--vllm-url", url, "--override"])
    #expect(third.status == 0 && third.errors.contains("dataset.json.backup"))
    #expect(
      try String(contentsOfFile: shop.path + "/dataset.json.backup", encoding: .utf8) == stored)
    // Preprocessing reads what captioning wrote.
    let check = try Program.run(
      ["dataset", "preview", "--dataset", "dataset.json", "-o", "p.html"],
      in: shop.path)
    #expect(check.status == 0, "\(check.errors)")
  }

  @Test func keysAreHidden() throws {
    let server = try Server()
    let key = "sk-very-secret-key"
    let result = try caption([
      "a.mp4", "-o", "out.csv", "-c", "openai", "--vllm-url", server.address, "--api-key", key,
      "-i", "Describe it.",
    ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(!result.errors.contains(key) && !result.output.contains(key))
    let requests = server.requests.withLock { $0 }
    #expect(requests.allSatisfy { $0.headers["authorization"] == "Bearer \(key)" })
    let sent = String(decoding: try #require(requests.last).body, as: UTF8.self)
    #expect(sent.contains("Describe it."))
    let table = try String(contentsOfFile: shop.path + "/out.csv", encoding: .utf8)
    #expect(table == "caption,media_path\r\nA fine clip.,a.mp4\r\n")
  }

  @Test(
    arguments: [
      (["."], "Download one"), (["none", "--vllm-url", "http://127.0.0.1:1"], "does not exist"),
      ([".", "--vllm-url", "http://127.0.0.1:1"], "no server answers"),
      ([".", "-c", "gemini_flash"], "GEMINI_API_KEY"),
      ([".", "-c", "openai", "--captioner-model", "x"], "has no effect"),
      ([".", "--captioner-model", "x", "--vllm-url", "http://127.0.0.1:1"], "contradict"),
      ([".", "--captioner-model", "x", "-w", "2"], "--num-workers"),
      ([".", "--vllm-url", "http://127.0.0.1:1", "-w", "0"], "--num-workers"),
      ([".", "--vllm-url", "http://127.0.0.1:1", "-o", "x.yaml"], "--output: x.yaml"),
      ([".", "--vllm-url", "http://127.0.0.1:1", "-e", "avi"], "extensions avi"),
      ([".", "--fps", "0"], "--fps"), ([".", "--max-tokens", "0"], "--max-tokens"),
      ([".", "--timeout", "0"], "--timeout"), ([".", "--port", "80"], "--review"),
    ] as [([String], String)])
  func inputThatCanNotBeUsedIsRefused(arguments: [String], words: String) throws {
    let result = try caption(
      arguments, environment: ["GEMINI_API_KEY": "", "GOOGLE_API_KEY": "", "OPENAI_API_KEY": ""])
    #expect(result.status == 2)
    #expect(result.errors.contains(words), "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: shop.path + "/dataset.json"))
  }

  @Test func aRunThatIsInterruptedKeepsWhatItHas() throws {
    let server = try Server(delay: 0.4)
    for index in 0..<4 {
      try FileManager.default.copyItem(
        atPath: shop.path + "/a.mp4", toPath: shop.path + "/c\(index).mp4")
    }
    let outputs = try ScratchFolder()
    let process = try Program.start(
      ["caption", ".", "--vllm-url", server.address], in: shop.path, outputs: outputs.path)
    let path = shop.path + "/dataset.json"
    for _ in 0..<600 where !FileManager.default.fileExists(atPath: path) {
      Thread.sleep(forTimeInterval: 0.05)
    }
    process.interrupt()
    let result = try Program.result(of: process, in: outputs.path)
    #expect(result.status == 130, "\(result.errors)")
    let rows = try JSON(parsing: Data(contentsOf: URL(fileURLWithPath: path))).array
    #expect((1...4).contains(rows?.count ?? 0))
    let hidden = try FileManager.default.contentsOfDirectory(atPath: shop.path).filter {
      $0.hasPrefix(".")
    }
    #expect(hidden.isEmpty, "\(hidden)")
  }

  @Test func severalProcessesShareTheClips() throws {
    let server = try Server()
    for index in 0..<4 {
      try FileManager.default.copyItem(
        atPath: shop.path + "/a.mp4", toPath: shop.path + "/c\(index).mp4")
    }
    try FileManager.default.removeItem(atPath: shop.path + "/bad.mp4")
    let outputs = try (0..<2).map { _ in try ScratchFolder() }
    let processes = try (0..<2).map { rank in
      try Program.start(
        ["caption", ".", "--vllm-url", server.address], in: shop.path,
        environment: ["RANK": "\(rank)", "WORLD_SIZE": "2", "LOCAL_RANK": "\(rank)"],
        outputs: outputs[rank].path)
    }
    for (process, output) in zip(processes, outputs) {
      let result = try Program.result(of: process, in: output.path)
      #expect(result.status == 0, "\(result.errors)")
    }
    let data = try Data(contentsOf: URL(fileURLWithPath: shop.path + "/dataset.json"))
    let names = try JSON(parsing: data).array?.compactMap { $0["media_path"]?.string }
    #expect(names == ["a.mp4", "c0.mp4", "c1.mp4", "c2.mp4", "c3.mp4"])
  }
}
