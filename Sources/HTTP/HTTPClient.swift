import CCurl
import Foundation
import Synchronization

/// Sends requests one after another over persistent connections. Calls block; any thread may call,
/// and one request runs at a time.
///
/// Certificates are verified against the system's authorities, or those in the file that
/// `SSL_CERT_FILE` names. The proxies of `https_proxy`, `http_proxy` and `no_proxy` are used.
/// Redirects are followed, without credentials if they lead to another host.
package final class HTTPClient: Sendable {
  private struct Handle: @unchecked Sendable { let pointer: UnsafeMutableRawPointer }

  private let handle: Mutex<Handle>
  private let isCancelled = Atomic(false)
  private let authorities: String?
  private let userAgent: String

  /// - Throws: `HTTPFailure` if libcurl is not installed.
  package init(environment: [String: String], userAgent: String = "swift-ltx") throws {
    if let problem = ccurl_load() {
      throw HTTPFailure(
        kind: .unusable, url: "network",
        problem:
          "libcurl can't be loaded (\(String(cString: problem))); install it (Debian, Ubuntu: libcurl4)"
      )
    }
    guard let pointer = ccurl_new() else {
      throw HTTPFailure(
        kind: .unusable, url: "network", problem: "libcurl has no memory for a connection")
    }
    handle = Mutex(Handle(pointer: pointer))
    authorities = environment["SSL_CERT_FILE"].flatMap { $0.isEmpty ? nil : $0 }
    self.userAgent = userAgent
  }

  deinit { handle.withLock { ccurl_free($0.pointer) } }

  /// Makes the current request and all later ones fail with `.cancelled`. Called from another
  /// thread.
  package func cancel() { isCancelled.store(true, ordering: .relaxed) }

  /// Waits between two attempts.
  ///
  /// - Throws: `HTTPFailure` of kind `.cancelled` as soon as `cancel()` is called.
  package func pause(_ seconds: Double, before request: HTTPRequest) throws {
    let end = Date().addingTimeInterval(seconds)
    repeat {
      guard !isCancelled.load(ordering: .relaxed) else {
        throw HTTPFailure(kind: .cancelled, url: request.url, problem: "the request was cancelled")
      }
      Thread.sleep(forTimeInterval: min(0.1, max(0, end.timeIntervalSinceNow)))
    } while end.timeIntervalSinceNow > 0
  }

  /// - Throws: `HTTPFailure` if there is no response; a response with an error status is returned.
  package func send(_ request: HTTPRequest) throws -> HTTPResponse {
    try handle.withLock { handle in
      let transfer = try HTTPTransfer(request) { self.isCancelled.load(ordering: .relaxed) }
      return try withExtendedLifetime(transfer) { try perform(transfer, handle.pointer) }
    }
  }

  private func perform(_ transfer: HTTPTransfer, _ curl: UnsafeMutableRawPointer) throws
    -> HTTPResponse
  {
    let request = transfer.request
    ccurl_reset(curl)
    var list: UnsafeMutableRawPointer?
    defer { ccurl_free_headers(list) }
    // Without an empty `Expect`, libcurl asks the server before each larger body and waits for its
    // answer.
    for line in request.headers.map({ "\($0.name): \($0.value)" }) + ["Expect:"] {
      guard let longer = ccurl_append_header(list, line) else {
        throw HTTPFailure(kind: .unusable, url: request.url, problem: "no memory for the headers")
      }
      list = longer
    }
    let me = Unmanaged.passUnretained(transfer).toOpaque()
    return try withUnsafeTemporaryAllocation(of: CChar.self, capacity: CCURL_ERROR_BUFFER_SIZE) {
      text in
      text.initialize(repeating: 0)
      var code = Int32(CCURL_OK)
      func check(_ result: Int32) { if code == 0 { code = result } }
      func set(_ option: Int, _ value: Int) { check(ccurl_set_number(curl, Int32(option), value)) }
      func set(_ option: Int, _ value: UnsafeRawPointer?) {
        check(ccurl_set_pointer(curl, Int32(option), value))
      }
      func set(_ option: Int, _ value: String) {
        value.withCString { set(option, UnsafeRawPointer($0)) }
      }

      set(CCURL_OPTION_ERRORBUFFER, UnsafeRawPointer(text.baseAddress))
      set(CCURL_OPTION_PROTOCOLS, CCURL_HTTP_AND_HTTPS)
      set(CCURL_OPTION_REDIR_PROTOCOLS, CCURL_HTTP_AND_HTTPS)
      set(CCURL_OPTION_URL, request.url)
      set(CCURL_OPTION_USERAGENT, userAgent)
      set(CCURL_OPTION_ACCEPT_ENCODING, "")
      set(CCURL_OPTION_HTTPHEADER, UnsafeRawPointer(list))
      set(CCURL_OPTION_NOSIGNAL, 1)
      set(CCURL_OPTION_FOLLOWLOCATION, 1)
      set(CCURL_OPTION_MAXREDIRS, 5)
      set(CCURL_OPTION_SSL_VERIFYPEER, 1)
      set(CCURL_OPTION_SSL_VERIFYHOST, 2)
      if let authorities { set(CCURL_OPTION_CAINFO, authorities) }
      set(CCURL_OPTION_CONNECTTIMEOUT_MS, 20_000)
      if let limit = request.timeLimit {
        set(CCURL_OPTION_TIMEOUT_MS, Int(limit * 1000))
      } else {
        // Fails an upload that has stalled for a minute.
        set(CCURL_OPTION_LOW_SPEED_LIMIT, 1)
        set(CCURL_OPTION_LOW_SPEED_TIME, 60)
      }
      switch request.method {
      case "GET": set(CCURL_OPTION_HTTPGET, 1)
      case "POST":
        set(CCURL_OPTION_POST, 1)
        check(
          ccurl_set_offset(curl, Int32(CCURL_OPTION_POSTFIELDSIZE_LARGE), Int64(transfer.bodySize)))
      default:
        set(CCURL_OPTION_UPLOAD, 1)
        set(CCURL_OPTION_CUSTOMREQUEST, request.method)
        check(
          ccurl_set_offset(curl, Int32(CCURL_OPTION_INFILESIZE_LARGE), Int64(transfer.bodySize)))
      }
      for option in [
        CCURL_OPTION_WRITEDATA, CCURL_OPTION_READDATA, CCURL_OPTION_HEADERDATA,
        CCURL_OPTION_SEEKDATA,
        CCURL_OPTION_XFERINFODATA,
      ] {
        set(option, UnsafeRawPointer(me))
      }
      check(ccurl_set_transfer(curl, Int32(CCURL_OPTION_WRITEFUNCTION), HTTPTransfer.receiveBody))
      check(
        ccurl_set_transfer(curl, Int32(CCURL_OPTION_HEADERFUNCTION), HTTPTransfer.receiveHeader))
      check(ccurl_set_transfer(curl, Int32(CCURL_OPTION_READFUNCTION), HTTPTransfer.sendBody))
      check(ccurl_set_seek(curl, HTTPTransfer.seekBody))
      check(ccurl_set_progress(curl, HTTPTransfer.checkCancellation))
      set(CCURL_OPTION_NOPROGRESS, 0)

      if code == 0 { code = ccurl_perform(curl) }
      guard code == 0 else {
        if let problem = transfer.problem {
          throw HTTPFailure(kind: .unusable, url: request.url, problem: problem)
        }
        let described = String(
          decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        throw HTTPFailure(
          kind: Self.kind(code), url: request.url,
          problem: described.isEmpty ? String(cString: ccurl_describe(code)) : described)
      }
      return HTTPResponse(
        status: Int(ccurl_status(curl)), headers: transfer.responseHeaders,
        body: transfer.responseBody)
    }
  }

  private static func kind(_ code: Int32) -> HTTPFailure.Kind {
    switch Int(code) {
    case CCURL_PEER_VERIFICATION, CCURL_CA_FILE: .certificate
    case CCURL_ABORTED_BY_CALLBACK: .cancelled
    case CCURL_UNSUPPORTED_PROTOCOL, CCURL_MALFORMED_URL: .unusable
    case CCURL_UNKNOWN_PROXY, CCURL_UNKNOWN_HOST, CCURL_NO_CONNECTION: .unreachable
    case CCURL_TIMEOUT: .timeout
    default: .connection
    }
  }
}
