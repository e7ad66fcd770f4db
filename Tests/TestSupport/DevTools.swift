import Foundation
import Synchronization

/// A page in a headless Chromium, driven by the DevTools protocol over two pipes.
///
/// Unlike `Browser.run`, it opens pages of a server, has real sizes of a phone, sends keys as a
/// keyboard does, and takes screenshots.
public final class DevTools {
  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  private let process: pid_t
  private let profile: ScratchFolder
  private let requests: FileHandle
  private let answers: Int32
  private var buffer = Data()
  private var lastNumber = 0
  private var session: String?
  /// The errors that the page has logged or thrown.
  public private(set) var errors: [String] = []

  /// Starts the browser with an empty page.
  public init() throws {
    guard let path = Browser.path else { throw Failure(description: "no browser is installed") }
    profile = try ScratchFolder()
    let (toBrowser, fromBrowser) = (try Self.pipe(), try Self.pipe())
    defer {
      close(toBrowser.read)
      close(fromBrowser.write)
    }
    process = try Self.start(
      [
        path, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio",
        "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
        "--user-data-dir=\(profile.path)",
      ], input: toBrowser.read, output: fromBrowser.write)
    requests = FileHandle(fileDescriptor: toBrowser.write, closeOnDealloc: true)
    answers = fromBrowser.read
    let target = try send("Target.createTarget", ["url": "about:blank"])["targetId"]
    session =
      try send("Target.attachToTarget", ["targetId": target ?? "", "flatten": true])["sessionId"]
      as? String
    for domain in ["Page", "Runtime", "Log"] { try send("\(domain).enable") }
  }

  deinit {
    // The browser leads its own process group.
    kill(-process, SIGKILL)
    var status: Int32 = 0
    waitpid(process, &status, 0)
    close(answers)
  }

  // MARK: Pages

  public func resize(width: Int, height: Int, isPhone: Bool = false) throws {
    try send(
      "Emulation.setDeviceMetricsOverride",
      ["width": width, "height": height, "deviceScaleFactor": 1, "mobile": isPhone])
  }

  public func open(_ address: String) throws {
    try send("Page.navigate", ["url": address])
    try wait("document.readyState === 'complete'")
  }

  /// Evaluates the body of an asynchronous function in the page.
  ///
  /// - Returns: Its result, as JSON; nil for none.
  @discardableResult
  public func run(_ script: String) throws -> Any? {
    let answer = try send(
      "Runtime.evaluate",
      [
        "expression": "(async()=>{\(script)})()", "awaitPromise": true, "returnByValue": true,
      ])
    if let exception = answer["exceptionDetails"] {
      throw Failure(description: "\(script): \(exception)")
    }
    return (answer["result"] as? [String: Any])?["value"]
  }

  /// Waits until an expression is true in the page, at most 30 seconds.
  public func wait(_ condition: String) throws {
    for _ in 0..<600 {
      if try run("return Boolean(\(condition))") as? Bool == true { return }
      usleep(50_000)
    }
    throw Failure(description: "this did not become true: \(condition); errors: \(errors)")
  }

  /// Types a text where the focus is.
  public func type(_ text: String) throws { try send("Input.insertText", ["text": text]) }

  /// Presses a key, as `KeyboardEvent.key` names it.
  public func press(_ key: String, control: Bool = false, alt: Bool = false) throws {
    var event: [String: Any] = ["key": key, "modifiers": (alt ? 1 : 0) + (control ? 2 : 0)]
    let codes = ["Enter": 13, "Escape": 27, " ": 32, "ArrowUp": 38, "ArrowDown": 40]
    if let code = codes[key] { event["windowsVirtualKeyCode"] = code }
    let text = key == "Enter" ? "\r" : key.count == 1 ? key : nil
    try send(
      "Input.dispatchKeyEvent",
      event.merging(["type": "keyDown"]) { $1 }.merging(
        control || alt ? [:] : text.map { ["text": $0] } ?? [:]
      ) { $1 })
    try send("Input.dispatchKeyEvent", event.merging(["type": "keyUp"]) { $1 })
  }

  /// The page as a PNG.
  public func screenshot() throws -> Data {
    let answer = try send("Page.captureScreenshot", ["format": "png"])
    guard let data = (answer["data"] as? String).flatMap({ Data(base64Encoded: $0) }) else {
      throw Failure(description: "the browser took no screenshot")
    }
    return data
  }

  // MARK: The protocol

  @discardableResult
  private func send(_ method: String, _ parameters: [String: Any] = [:]) throws -> [String: Any] {
    lastNumber += 1
    var message: [String: Any] = ["id": lastNumber, "method": method, "params": parameters]
    message["sessionId"] = session
    try requests.write(
      contentsOf: JSONSerialization.data(withJSONObject: message) + Data([0]))
    while true {
      let answer = try nextMessage()
      if let event = answer["method"] as? String { note(event, answer["params"]) }
      guard answer["id"] as? Int == lastNumber else { continue }
      if let error = answer["error"] { throw Failure(description: "\(method): \(error)") }
      return answer["result"] as? [String: Any] ?? [:]
    }
  }

  private func note(_ event: String, _ parameters: Any?) {
    let entry = (parameters as? [String: Any])?["entry"] as? [String: Any]
    if event == "Runtime.exceptionThrown" || entry?["level"] as? String == "error" {
      errors.append("\(entry?["text"] ?? parameters ?? event)")
    }
  }

  private func nextMessage() throws -> [String: Any] {
    while true {
      if let end = buffer.firstIndex(of: 0) {
        let message = try JSONSerialization.jsonObject(with: buffer[..<end])
        buffer = Data(buffer[(end + 1)...])
        return message as? [String: Any] ?? [:]
      }
      var waiting = pollfd(fd: answers, events: Int16(POLLIN), revents: 0)
      guard poll(&waiting, 1, 60_000) > 0 else {
        throw Failure(description: "the browser does not answer")
      }
      var piece = [UInt8](repeating: 0, count: 1 << 16)
      let count = read(answers, &piece, piece.count)
      guard count > 0 else { throw Failure(description: "the browser has ended") }
      buffer.append(contentsOf: piece[..<count])
    }
  }

  // MARK: The process

  /// A pipe whose ends are not inherited, with numbers above those that the browser expects.
  private static func pipe() throws -> (read: Int32, write: Int32) {
    var ends: [Int32] = [0, 0]
    guard Glibc.pipe(&ends) == 0 else { throw Failure(description: "no pipe") }
    let moved = ends.map { fcntl($0, F_DUPFD_CLOEXEC, 10) }
    for end in ends { close(end) }
    return (moved[0], moved[1])
  }

  /// Starts a program that reads from file descriptor 3 and writes to 4.
  private static func start(_ arguments: [String], input: Int32, output: Int32) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, input, 3)
    posix_spawn_file_actions_adddup2(&actions, output, 4)
    for stream in [STDOUT_FILENO, STDERR_FILENO] {
      posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_WRONLY, 0)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK))
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var words = arguments.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, arguments[0], &actions, &attributes, &words, environ)
    guard code == 0 else {
      throw Failure(description: "\(arguments[0]): \(String(cString: strerror(code)))")
    }
    return process
  }
}
