import Foundation
import Support
import TestSupport
import Testing

@testable import CaptionReview

/// The server of a review over real sockets: who gets an answer, and media files in parts.
@Suite struct ReviewServerTests {
  private let folder: ScratchFolder
  private let server: ReviewServer
  private let client: PageClient
  private let clip = Data((0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })

  init() throws {
    folder = try ScratchFolder()
    try clip.write(to: URL(fileURLWithPath: folder.file("a clip & é.mp4")))
    try folder.write("<script>alert(1)</script>", to: "page.html")
    try folder.write("secret", to: "secret.txt")
    let rows = """
      [{"media_path": "a clip & é.mp4", "caption": "one"},
       {"media_path": "page.html", "caption": "two"}, {"media_path": "none.mp4", "caption": "three"}]
      """
    server = try ReviewServer(dataset: try folder.write(rows, to: "data.json"))
    client = try PageClient(server)
  }

  private func media(_ name: String) -> String {
    "media?file=" + (name.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")
  }

  // MARK: Access

  @Test func thePageIsOnlyThereWithItsToken() throws {
    defer { server.close() }
    #expect(try client.request("").status == 200)
    #expect(client.root.count == 50)
    var wrong = Array(client.root.utf8)
    wrong[20] = wrong[20] == UInt8(ascii: "0") ? UInt8(ascii: "1") : UInt8(ascii: "0")
    let paths = [
      "/", "", "*", "/rows", "/favicon.ico", String(client.root.dropLast()),
      String(client.root.dropLast(2)) + "/rows", String(decoding: wrong, as: UTF8.self) + "rows",
      "/x" + client.root + "rows", "/.." + client.root + "rows", client.root.uppercased() + "rows",
      "http://127.0.0.1:\(client.port)\(client.root)rows",
    ]
    for path in paths where !path.isEmpty {
      let answer = try client.raw(
        "GET \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(client.port)\r\n\r\n")
      #expect(answer.status == 403, "\(path)")
      #expect(!answer.text.contains("three"))
    }
    let other = try ReviewServer(dataset: folder.file("data.json"))
    defer { other.close() }
    #expect(other.address.suffix(49) != server.address.suffix(49))
  }

  @Test func otherHostsAndOriginsAreRefused() throws {
    defer { server.close() }
    let port = client.port
    for host in ["localhost:\(port)", "LOCALHOST:\(port)", "127.0.0.1:\(port)"] {
      #expect(try client.request("rows", host: host).status == 200, "\(host)")
    }
    for host in [
      "evil.example", "evil.example:\(port)", "127.0.0.1", "127.0.0.1:1", "localhost.:\(port)", "",
      "127.0.0.1:\(port).evil.example",
    ] {
      #expect(try client.request("rows", host: host).status == 403, "\(host)")
    }
    // HTTP/1.0 needs no Host, and two of them are ambiguous.
    #expect(try client.raw("GET \(client.root)rows HTTP/1.0\r\n\r\n").status == 403)
    let twice = "Host: 127.0.0.1:\(port)\r\nHost: 127.0.0.1:\(port)\r\n"
    #expect(try client.raw("GET \(client.root)rows HTTP/1.1\r\n\(twice)\r\n").status == 403)
    let own = ["Origin": "http://127.0.0.1:\(port)"]
    #expect(try client.request("rows", headers: own).status == 200)
    for origin in ["http://evil.example", "null", "https://127.0.0.1:\(port)"] {
      #expect(try client.request("rows", headers: ["Origin": origin]).status == 403, "\(origin)")
    }
  }

  @Test func itListensOnLoopbackOnly() throws {
    defer { server.close() }
    #expect(server.address.hasPrefix("http://127.0.0.1:\(client.port)/"))
    let hexPort = String(format: "%04X", client.port)
    let listening = try ["/proc/net/tcp", "/proc/net/tcp6"].flatMap { path in
      try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").filter {
        $0.split(separator: " ").dropFirst(3).first == "0A" && $0.contains(":\(hexPort) ")
      }
    }
    #expect(listening.count == 1 && listening[0].contains("0100007F:\(hexPort) "), "\(listening)")
  }

  @Test func answersAreProtected() throws {
    defer { server.close() }
    for path in ["", "rows", "page.js", "page.css", media("page.html")] {
      let answer = try client.request(path)
      #expect(answer.status == 200)
      let policy = try #require(answer.headers["content-security-policy"])
      #expect(policy.hasPrefix("default-src 'none'") && !policy.contains("unsafe"))
      #expect(answer.headers["x-content-type-options"] == "nosniff")
      #expect(answer.headers["referrer-policy"] == "no-referrer")
      #expect(answer.headers["cross-origin-resource-policy"] == "same-origin")
    }
    // A file of the dataset must not become a page of this server.
    let type = try client.request(media("page.html")).headers["content-type"]
    #expect(type == "application/octet-stream")
  }

  @Test func methodsAndPathsThatDoNotExist() throws {
    defer { server.close() }
    #expect(try client.request("nothing").status == 404)
    #expect(try client.request("../data.json").status == 404)
    #expect(try client.request("rows", method: "POST", body: Data()).status == 405)
    #expect(try client.request("rows", method: "DELETE").headers["allow"] == "GET, HEAD")
    #expect(try client.request("save").headers["allow"] == "POST")
    #expect(try client.request("save", method: "POST", body: Data("{}".utf8)).status == 415)
    let head = try client.request("rows", method: "HEAD")
    #expect(head.status == 200 && (head.headers["content-length"].flatMap { Int($0) } ?? 0) > 100)
  }

  // MARK: Media

  @Test func onlyFilesOfTheDatasetAreSent() throws {
    defer { server.close() }
    let answer = try client.request(media("a clip & é.mp4"))
    #expect(answer.status == 200 && answer.body == clip)
    #expect(answer.headers["content-type"] == "video/mp4")
    #expect(answer.headers["accept-ranges"] == "bytes")
    for name in [
      "secret.txt", "data.json", "../\(folder.path)/secret.txt", "/etc/passwd", "", "none.mp4",
      "./a clip & é.mp4", "a clip & é.mp4\0",
    ] {
      #expect(try client.request(media(name)).status == 404, "\(name)")
    }
    for query in [
      "media", "media?", "media?file", "media?file=%", "media?other=a", "media?file=%FF",
    ] {
      #expect(try client.request(query).status == 404, "\(query)")
    }
  }

  @Test func partsOfFilesAreSent() throws {
    defer { server.close() }
    let path = media("a clip & é.mp4")
    for (range, expected) in [
      ("bytes=0-0", 0..<1), ("bytes=0-", 0..<300_000), ("bytes=299999-", 299_999..<300_000),
      ("bytes=-5", 299_995..<300_000), ("bytes=-400000", 0..<300_000),
      ("bytes=10-99999999999999999999", 10..<300_000), ("BYTES=270000- 280000", 270_000..<280_001),
    ] {
      let answer = try client.request(path, headers: ["Range": range])
      #expect(answer.status == 206, "\(range)")
      #expect(answer.body == clip[expected], "\(range)")
      #expect(
        answer.headers["content-range"]
          == "bytes \(expected.lowerBound)-\(expected.upperBound - 1)/300000", "\(range)")
    }
    for range in ["bytes=300000-", "bytes=-0", "bytes=99999999999999999999-"] {
      let answer = try client.request(path, headers: ["Range": range])
      #expect(answer.status == 416 && answer.headers["content-range"] == "bytes */300000")
    }
    for range in ["bytes=5-1", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=-1-2"] {
      let answer = try client.request(path, headers: ["Range": range])
      #expect(answer.status == 200 && answer.body == clip, "\(range)")
    }
    let head = try client.request(path, method: "HEAD", headers: ["Range": "bytes=1-3"])
    #expect(head.status == 206 && head.headers["content-length"] == "3")
  }

  @Test func aPartOfAnotherVersionIsNotSent() throws {
    defer { server.close() }
    let path = media("a clip & é.mp4")
    let tag = try #require(try client.request(path, method: "HEAD").headers["etag"])
    let part = ["Range": "bytes=0-9", "If-Range": tag]
    #expect(try client.request(path, headers: part).status == 206)
    try clip.dropLast().write(to: URL(fileURLWithPath: folder.file("a clip & é.mp4")))
    let answer = try client.request(path, headers: part)
    #expect(answer.status == 200 && answer.body == clip.dropLast())
  }

  @Test func foldersAndPipesAreNotSent() throws {
    defer { server.close() }
    try FileManager.default.createDirectory(
      atPath: folder.file("none.mp4"), withIntermediateDirectories: true)
    #expect(try client.request(media("none.mp4")).status == 404)
    try FileManager.default.removeItem(atPath: folder.file("none.mp4"))
    #expect(mkfifo(folder.file("none.mp4"), 0o600) == 0)
    #expect(try client.request(media("none.mp4")).status == 404)
  }

  @Test func aClientThatStopsReadingHoldsUpNobody() throws {
    defer { server.close() }
    let large = folder.file("none.mp4")
    try Data().write(to: URL(fileURLWithPath: large))
    #expect(truncate(large, 200 << 20) == 0)
    let slow = try Connection(port: client.port)
    let host = "Host: 127.0.0.1:\(client.port)\r\n\r\n"
    try slow.send(Data("GET \(client.root)\(media("none.mp4")) HTTP/1.1\r\n\(host)".utf8))
    for _ in 0..<20 { #expect(try client.request("rows").status == 200) }
    withExtendedLifetime(slow) {}
  }

  // MARK: Malformed requests

  @Test(arguments: [
    "nonsense\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
    "GET / HTTP/1.1\r\nbad header\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
  ])
  func malformedRequestsAreRefused(text: String) throws {
    defer { server.close() }
    let answer = try client.raw(text)
    #expect([400, 403].contains(answer.status), "\(text): \(answer.status)")
    #expect(try client.request("").status == 200)
  }

  @Test func endlessHeadersAreRefused() throws {
    defer { server.close() }
    let line = "X: " + String(repeating: "a", count: 1000) + "\r\n"
    let connection = try Connection(port: client.port)
    do {
      try connection.send(Data("GET / HTTP/1.1\r\n".utf8))
      for _ in 0..<4000 { try connection.send(Data(line.utf8)) }
      #expect(try connection.answer().status == 400)
    } catch {
      // The server may have closed the connection before everything was sent.
    }
    #expect(try client.request("").status == 200)
  }

  @Test func hangingUpAtAnyPointIsHarmless() throws {
    defer { server.close() }
    let request =
      "POST \(client.root)save HTTP/1.1\r\nHost: 127.0.0.1:\(client.port)\r\n"
      + "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"version\":\"\","
    for count in stride(from: 0, through: request.utf8.count, by: 7) {
      let connection = try Connection(port: client.port)
      try connection.send(Data(request.utf8.prefix(count)))
    }
    let gone = try Connection(port: client.port)
    try gone.send(
      Data("GET \(client.root)rows HTTP/1.1\r\nHost: 127.0.0.1:\(client.port)\r\n\r\n".utf8))
    gone.finish()
    #expect(try client.request("rows").status == 200)
  }

  @Test func severalRequestsShareAConnection() throws {
    defer { server.close() }
    let connection = try Connection(port: client.port)
    func request(_ path: String, _ more: String = "") -> Data {
      Data(
        "GET \(client.root)\(path) HTTP/1.1\r\nHost: 127.0.0.1:\(client.port)\r\n\(more)\r\n".utf8)
    }
    try connection.send(request("rows") + request("nothing") + request("page.css"))
    #expect(try connection.answer().status == 200)
    #expect(try connection.answer().status == 404)
    #expect(try connection.answer().headers["content-type"] == "text/css; charset=utf-8")
    try connection.send(request("version", "Connection: close\r\n"))
    let last = try connection.answer()
    #expect(last.status == 200 && last.headers["connection"] == "close")
    #expect(connection.isClosed())
  }

  // MARK: Bodies

  @Test func bodiesThatAreTooLargeAreRefused() throws {
    defer { server.close() }
    let limit = ReviewRoutes.maximumBody
    let head =
      "POST \(client.root)save HTTP/1.1\r\nHost: 127.0.0.1:\(client.port)\r\n"
      + "Content-Type: application/json\r\n"
    // The answer comes before the body.
    let announced = try client.raw(head + "Content-Length: \(limit + 1)\r\n\r\n")
    #expect(announced.status == 413 && announced.headers["connection"] == "close")
    let chunked = try Connection(port: client.port)
    try chunked.send(Data((head + "Transfer-Encoding: chunked\r\n\r\n").utf8))
    let chunk = Data("100000\r\n".utf8) + Data(count: 1 << 20) + Data("\r\n".utf8)
    for _ in 0...(limit >> 20) { try chunked.send(chunk) }
    try chunked.send(Data("0\r\n\r\n".utf8))
    #expect(try chunked.answer().status == 413)
    #expect(try client.request("rows").status == 200)
  }

  @Test func aRefusalArrivesAlthoughTheBodyWasNotRead() throws {
    defer { server.close() }
    let connection = try Connection(port: client.port)
    try connection.send(
      Data("POST /wrong/save HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n".utf8)
        + Data(count: 10_000_000))
    #expect(try connection.answer().status == 403)
    #expect(connection.isClosed())
  }

  @Test(arguments: [
    "", "{", "[]", "{}", #"{"version": 1, "edits": []}"#, #"{"version": "x"}"#,
    #"{"version": "x", "edits": [{"row": "a", "media": ""}]}"#,
    #"{"version": "x", "edits": [{"row": 1e30, "media": ""}]}"#,
    #"{"version": "x", "edits": [{"row": 0, "media": "a", "caption": 5}]}"#, "\u{FF}\u{0}",
    String(repeating: "[", count: 100_000),
  ])
  func bodiesThatAreNotRequestsAreRefused(body: String) throws {
    defer { server.close() }
    let answer = try client.request(
      "save", method: "POST", headers: ["Content-Type": "application/json"], body: Data(body.utf8))
    #expect(answer.status == 400)
    #expect(answer.text.hasPrefix("The request can't be read: "), "\(answer.text)")
  }

  // MARK: The server itself

  @Test func aPortThatIsTakenIsReported() throws {
    defer { server.close() }
    let text = message {
      _ = try ReviewServer(dataset: folder.file("data.json"), port: Int(client.port))
    }
    #expect(
      text.hasPrefix("port: \(client.port) can't be used (Address already in use)"), "\(text)")
  }

  @Test(arguments: [-1, 65_536, Int.max]) func portsThatDoNotExistAreReported(port: Int) throws {
    defer { server.close() }
    let text = message { _ = try ReviewServer(dataset: folder.file("data.json"), port: port) }
    #expect(text == "port: must be between 0 and 65535 (got \(port))")
  }

  @Test func aClosedServerAnswersNothing() throws {
    let open = try Connection(port: client.port)
    server.close()
    #expect(open.isClosed())
    #expect(throws: PageClient.Failure.self) { try client.request("") }
    server.close()
  }
}
