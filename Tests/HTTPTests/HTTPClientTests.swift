import Foundation
import HTTP
import HTTPTestSupport
import MediaTestSupport
import Support
import Synchronization
import Testing

@Suite struct HTTPClientTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func client(_ environment: [String: String] = [:]) throws -> HTTPClient {
    try HTTPClient(environment: environment)
  }

  private func echo() throws -> LocalServer {
    try LocalServer { request in
      var headers = ["X-Method": request.method, "X-Target": request.target]
      headers["X-Mine"] = request.headers["mine"]
      headers["X-Encoding"] = request.headers["transfer-encoding"]
      return .init(headers: headers, body: request.body)
    }
  }

  @Test(arguments: ["POST", "PUT"], [0, 1, 70_000, 3_000_000])
  func bodiesArriveWholeWithTheirLength(method: String, count: Int) throws {
    let server = try echo()
    let data = Data((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 8) })
    let path = folder.path + "/body"
    try (Data("before".utf8) + data + Data("after".utf8)).write(to: URL(fileURLWithPath: path))
    for body in [HTTPRequest.Body.bytes(data), .file(path: path, range: 6..<6 + count)] {
      let response = try client().send(
        HTTPRequest(
          method: method, url: server.address + "/a?b=c", headers: [("Mine", "yes")], body: body))
      #expect(response.status == 200)
      #expect(response.body == data)
      #expect(response.headers["x-method"] == method)
      #expect(response.headers["x-target"] == "/a?b=c")
      #expect(response.headers["x-mine"] == "yes")
      // File storage requires a length and doesn't accept chunks.
      #expect(response.headers["x-encoding"] == nil)
    }
  }

  @Test func aClientIsUsedForOneRequestAfterAnother() throws {
    let server = try echo()
    let client = try self.client()
    let posted = try client.send(.post(server.address, json: ["a": [1, 2.5.json, nil]]))
    #expect(try JSON(parsing: posted.body) == ["a": [1, .number(2.5), nil]])
    let got = try client.send(HTTPRequest(url: server.address))
    #expect(got.headers["x-method"] == "GET")
    #expect(got.body.isEmpty)
  }

  @Test func aRedirectKeepsMethodAndBodyAndTakesNoCredentialsElsewhere() throws {
    let seen = Mutex<[String?]>([])
    let other = try LocalServer { request in
      seen.withLock { $0.append(request.headers["authorization"]) }
      return .init(headers: ["X-Method": request.method], body: request.body)
    }
    let target = "http://localhost:\(other.port)/"
    let first = try LocalServer { _ in
      .init(status: 307, headers: ["Location": target], body: Data("moved".utf8))
    }
    let response = try client().send(
      HTTPRequest(
        method: "POST", url: first.address, headers: [("Authorization", "secret")],
        body: .bytes(Data("body".utf8))))
    #expect(response.status == 200)
    #expect(response.body == Data("body".utf8))
    #expect(response.headers["x-method"] == "POST")
    #expect(seen.withLock { $0 } == [nil])
  }

  @Test func redirectsToFilesAreRefused() throws {
    let server = try LocalServer { _ in
      .init(status: 302, headers: ["Location": "file:///etc/passwd"])
    }
    let failure = #expect(throws: HTTPFailure.self) {
      try client().send(HTTPRequest(url: server.address))
    }
    #expect(failure?.kind == .unusable)
  }

  @Test(arguments: ["file:///etc/passwd", "ftp://127.0.0.1/", "no address", ""])
  func otherAddressesAreRefused(url: String) throws {
    let failure = #expect(throws: HTTPFailure.self) { try client().send(HTTPRequest(url: url)) }
    #expect(failure?.kind == .unusable)
  }

  @Test func failuresAreDistinguished() throws {
    let server = try LocalServer { _ in nil }
    #expect(
      #expect(throws: HTTPFailure.self) { try client().send(HTTPRequest(url: server.address)) }?
        .kind
        == .connection)
    server.stop()
    #expect(
      #expect(throws: HTTPFailure.self) { try client().send(HTTPRequest(url: server.address)) }?
        .kind
        == .unreachable)
    let missing = HTTPRequest(
      method: "PUT", url: server.address, body: .file(path: folder.path + "/nothing", range: 0..<1))
    #expect(#expect(throws: HTTPFailure.self) { try client().send(missing) }?.kind == .unusable)
  }

  @Test func aFileThatBecameShorterIsNamed() throws {
    let server = try echo()
    let path = folder.path + "/short"
    try Data("abc".utf8).write(to: URL(fileURLWithPath: path))
    let request = HTTPRequest(
      method: "PUT", url: server.address, body: .file(path: path, range: 0..<10))
    let failure = #expect(throws: HTTPFailure.self) { try client().send(request) }
    #expect(failure?.problem == "\(path) has become shorter while it was sent")
    #expect(failure?.kind == .unusable)
  }

  @Test func slowAnswersEndAtTheLimitOrWhenCancelled() throws {
    let server = try LocalServer { _ in
      Thread.sleep(forTimeInterval: 30)
      return .init()
    }
    let begin = Date()
    let request = HTTPRequest(url: server.address, timeLimit: 0.2)
    #expect(#expect(throws: HTTPFailure.self) { try client().send(request) }?.kind == .timeout)
    let other = try client()
    DispatchQueue.global().asyncAfter(deadline: .now() + 0.2) { other.cancel() }
    #expect(
      #expect(throws: HTTPFailure.self) { try other.send(HTTPRequest(url: server.address)) }?.kind
        == .cancelled)
    #expect(Date().timeIntervalSince(begin) < 15)
  }

  /// A certificate that isn't trusted is rejected, unless `SSL_CERT_FILE` names it.
  @Test(
    .enabled(
      if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl"),
      "openssl is not installed"))
  func certificatesAreVerified() throws {
    let (key, certificate) = (folder.path + "/key.pem", folder.path + "/cert.pem")
    let making = try Self.openssl([
      "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days",
      "2",
      "-subj",
      "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
    ])
    making.waitUntilExit()
    try #require(making.terminationStatus == 0)
    // An unused port, from a server that has stopped.
    let port = try LocalServer { _ in nil }.port
    let server = try Self.openssl([
      "s_server", "-key", key, "-cert", certificate, "-accept", "\(port)", "-www",
    ])
    defer { server.terminate() }
    let trusting = try client(["SSL_CERT_FILE": certificate])
    var response: HTTPResponse?
    for _ in 0..<50 where response == nil {
      // the server may not be listening yet
      response = try? trusting.send(HTTPRequest(url: "https://localhost:\(port)/"))
      if response == nil { Thread.sleep(forTimeInterval: 0.1) }
    }
    #expect(response?.status == 200)
    let stranger = #expect(throws: HTTPFailure.self) {
      try client().send(HTTPRequest(url: "https://localhost:\(port)/"))
    }
    #expect(stranger?.kind == .certificate)
    // A host name other than the certificate's.
    let impostor = #expect(throws: HTTPFailure.self) {
      try trusting.send(HTTPRequest(url: "https://127.0.0.1:\(port)/"))
    }
    #expect(impostor?.kind == .certificate)
  }

  private static func openssl(_ arguments: [String]) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    return process
  }

  // MARK: Retries

  @Test(
    arguments: [
      ([500, 503, 200], 200, 3), ([429, 404], 404, 2), ([200], 200, 1), ([401, 200], 401, 1),
      ([500, 500, 500, 200], 500, 3), ([0, 0, 201], 201, 3),
    ] as [([Int], Int, Int)])
  func retries(statuses: [Int], result: Int, tries: Int) throws {
    let left = Mutex(statuses)
    let server = try LocalServer { _ in
      let status = left.withLock { $0.isEmpty ? 200 : $0.removeFirst() }
      return status == 0 ? nil : .init(status: status)
    }
    let response = try RetryPolicy(delays: [0.01, 0.01]).send(
      HTTPRequest(url: server.address), with: client())
    #expect(response.status == result)
    #expect(left.withLock { $0.count } == statuses.count - tries)
  }

  @Test func aBusyServerIsGivenTheTimeThatItAsksFor() throws {
    let left = Mutex(1)
    let server = try LocalServer { _ in
      left.withLock { count in
        count -= 1
        return count == 0 ? .init(status: 429, headers: ["Retry-After": "1"]) : .init()
      }
    }
    let begin = Date()
    #expect(
      try RetryPolicy(delays: [0.01]).send(HTTPRequest(url: server.address), with: client()).status
        == 200)
    #expect(Date().timeIntervalSince(begin) >= 1)
  }

  @Test(
    arguments: [
      ("3", 3), ("0", 0), ("-5", 0), ("9999", RetryPolicy.longestDelay), ("nan", 0),
      ("soon", nil), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
      ("Fri, 01 Jan 2100 00:00:00 GMT", RetryPolicy.longestDelay),
    ] as [(String, Double?)])
  func theTimeToWaitIsANumberOrADate(text: String, seconds: Double?) throws {
    let server = try LocalServer { _ in .init(status: 503, headers: ["Retry-After": text]) }
    let response = try client().send(HTTPRequest(url: server.address))
    #expect(RetryPolicy.requestedDelay(response) == seconds)
  }

  @Test func timeoutsAreRetriedOnlyIfThePolicySaysSo() throws {
    let count = Mutex(0)
    let server = try LocalServer { _ in
      count.withLock { $0 += 1 }
      Thread.sleep(forTimeInterval: 5)
      return .init()
    }
    let request = HTTPRequest(url: server.address, timeLimit: 0.2)
    for (retries, total) in [(false, 1), (true, 3)] {
      let policy = RetryPolicy(delays: [0.01], retriesTimeouts: retries)
      #expect(
        #expect(throws: HTTPFailure.self) { try policy.send(request, with: client()) }?.kind
          == .timeout)
      #expect(count.withLock { $0 } == total)
    }
  }

  @Test func waitingForARetryEndsWhenCancelled() throws {
    let server = try LocalServer { _ in .init(status: 503) }
    let client = try self.client()
    DispatchQueue.global().asyncAfter(deadline: .now() + 0.2) { client.cancel() }
    let begin = Date()
    #expect(
      #expect(throws: HTTPFailure.self) {
        try RetryPolicy(delays: [30]).send(HTTPRequest(url: server.address), with: client)
      }?.kind == .cancelled)
    #expect(Date().timeIntervalSince(begin) < 10)
  }

  @Test func answersThatEndEarlyOrDripAreFailures() throws {
    let cut = try LocalServer { _ in .init(body: Data(count: 100), hangUpAfter: 10) }
    #expect(
      #expect(throws: HTTPFailure.self) { try client().send(HTTPRequest(url: cut.address)) }?.kind
        == .connection)
    let slow = try LocalServer { _ in .init(body: Data(count: 100), dripInterval: 0.1) }
    #expect(
      #expect(throws: HTTPFailure.self) {
        try client().send(HTTPRequest(url: slow.address, timeLimit: 0.5))
      }?.kind == .timeout)
  }

  @Test func aPoolSendsRequestsAtTheSameTime() throws {
    let arrived = Mutex(0)
    let server = try LocalServer { _ in
      arrived.withLock { $0 += 1 }
      // Each waits for the other, which would never come after it.
      let limit = ContinuousClock.now + .seconds(20)
      while arrived.withLock({ $0 < 2 }), ContinuousClock.now < limit { usleep(1000) }
      return .init(status: arrived.withLock { $0 == 2 } ? 200 : 500)
    }
    let pool = try HTTPClientPool(environment: [:])
    let address = server.address
    let statuses = Mutex<[Int?]>([])
    let done = DispatchSemaphore(value: 0)
    for _ in 0..<2 {
      Thread.detachNewThread {
        let status = try? pool.withClient { try $0.send(HTTPRequest(url: address)).status }
        statuses.withLock { $0.append(status) }
        done.signal()
      }
    }
    for _ in 0..<2 { done.wait() }
    #expect(statuses.withLock { $0 } == [200, 200])
    pool.cancel()
    #expect(throws: HTTPFailure.self) {
      try pool.withClient { try $0.send(HTTPRequest(url: address)) }
    }
  }
}

extension Double {
  fileprivate var json: JSON { JSON(self) }
}
