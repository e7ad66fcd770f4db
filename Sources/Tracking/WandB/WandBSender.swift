import Foundation
import HTTP
import Support
import Synchronization

/// Sends a run's rows and files from a thread of its own. It never blocks or fails training. If the
/// server can't be reached, it keeps trying; when it gives up, it shows one message, and the rest
/// stays in the run's folder.
final class WandBSender: Sendable {
  /// Intervals and limits; times are in seconds.
  struct Pace: Sendable {
    /// The time between two messages, short at first because somebody may be watching.
    var first = 2.0
    var later = 10.0
    /// The longest time without a message, because the server marks a silent run as crashed.
    var heartbeat = 30.0
    /// The time after which a failing server is given up.
    var outage = 1800.0
    /// The longest wait between attempts.
    var longestDelay = 60.0
    /// The longest time that the end of training waits for the thread.
    var finish = 300.0
    /// The max number of waiting rows, after which the run is given up.
    var rows = 50_000
  }

  struct Target: Sendable {
    let entity: String
    let project: String
    let run: String
    /// The number of rows that the server already has.
    let firstRow: Int
  }

  private struct Queue {
    var rows: [String] = []
    /// The number of the first row in `rows`.
    var offset: Int
    var summary: String?
    var files: [(name: String, path: String)] = []
    var exitCode: Int?
    /// Whether sending has been given up for good.
    var hasGivenUp = false
    /// The number of files that the server refused.
    var lostFiles = 0
  }

  private let api: WandBAPI
  private let target: Target
  private let pace: Pace
  private let folder: String
  private let notice: @Sendable (String) -> Void
  private let queue: Mutex<Queue>
  /// Signalled at the end of training, to wake the thread.
  private let ending = DispatchSemaphore(value: 0)
  private let done = DispatchSemaphore(value: 0)
  private let start = Date()

  /// - Parameters:
  ///   - folder: the run's folder, for messages.
  ///   - notice: shows the user a line; called from another thread.
  init(
    _ api: WandBAPI, target: Target, pace: Pace, folder: String,
    notice: @escaping @Sendable (String) -> Void
  ) {
    self.api = api
    self.target = target
    self.pace = pace
    self.folder = folder
    self.notice = notice
    queue = Mutex(Queue(offset: target.firstRow))
    let thread = Thread { [self] in
      work()
      done.signal()
    }
    thread.name = "wandb"
    thread.start()
  }

  // MARK: Called by training

  func add(row: String, summary: String) {
    let overflows = queue.withLock { queue in
      guard !queue.hasGivenUp else { return false }
      queue.rows.append(row)
      queue.summary = summary
      return queue.rows.count > pace.rows
    }
    if overflows { giveUp("more than \(pace.rows) rows wait to be sent") }
  }

  func add(file name: String, at path: String) {
    queue.withLock { if !$0.hasGivenUp { $0.files.append((name, path)) } }
  }

  /// Waits until everything has been sent, or the time is up.
  func finish(exitCode: Int) {
    queue.withLock { $0.exitCode = exitCode }
    ending.signal()
    let deadline = DispatchTime.now() + pace.finish
    var result = done.wait(timeout: min(.now() + 5, deadline))
    if result == .timedOut, .now() < deadline {
      notice("Weights & Biases: sending what is left, for \(Int(pace.finish)) s at most")
      result = done.wait(timeout: deadline)
    }
    if result == .timedOut {
      giveUp("not everything could be sent within \(Int(pace.finish)) s")
      api.client.cancel()
    }
    let lost = queue.withLock { $0.hasGivenUp ? 0 : $0.lostFiles }
    if lost > 0 { notice("Weights & Biases: \(lost) files were not taken. \(remedy)") }
  }

  // MARK: The thread

  private var isEnding: Bool { queue.withLock { $0.exitCode != nil || $0.hasGivenUp } }

  /// Waits for a time, or until training ends.
  private func pause(_ seconds: Double) {
    guard !isEnding else {
      // At the end, attempts still need a pause between them.
      Thread.sleep(forTimeInterval: min(seconds, 1))
      return
    }
    _ = ending.wait(timeout: .now() + seconds)
  }

  private func work() {
    var uploaded: [String] = []
    var lastMessage = Date.distantPast
    do {
      while !queue.withLock({ $0.hasGivenUp }) {
        if !isEnding { pause(Date().timeIntervalSince(start) < 60 ? pace.first : pace.later) }
        let (batch, isLast) = queue.withLock { queue in
          // Server and client both hold a message in memory; 5,000 rows of twenty numbers are 3 MB.
          let rows = queue.rows.prefix(5_000)
          let batch = (
            rows: Array(rows), offset: queue.offset, summary: queue.summary, files: queue.files
          )
          queue.rows.removeFirst(rows.count)
          queue.offset += rows.count
          queue.summary = nil
          queue.files = []
          return (batch, queue.exitCode != nil && queue.rows.isEmpty)
        }
        if !batch.rows.isEmpty || batch.summary != nil || !uploaded.isEmpty
          || Date().timeIntervalSince(lastMessage) >= pace.heartbeat
        {
          try send(
            rows: batch.rows, offset: batch.offset, summary: batch.summary, uploaded: uploaded)
          uploaded = []
          lastMessage = Date()
        }
        for file in batch.files where try upload(file.name, file.path) {
          uploaded.append(file.name)
        }
        if isLast {
          try finishStream(uploaded: uploaded)
          return
        }
      }
    } catch {
      giveUp(describe(error))
    }
  }

  private func send(rows: [String], offset: Int, summary: String?, uploaded: [String]) throws {
    var files: [String: JSON] = [:]
    if !rows.isEmpty {
      files["wandb-history.jsonl"] = [
        "offset": JSON(offset), "content": .array(rows.map(JSON.string)),
      ]
    }
    if let summary { files["wandb-summary.json"] = ["offset": 0, "content": [.string(summary)]] }
    var message: [String: JSON] = ["complete": false, "failed": false, "dropped": 0]
    if !files.isEmpty { message["files"] = .object(files) }
    if !uploaded.isEmpty { message["uploaded"] = .array(uploaded.map(JSON.string)) }
    try stream(.object(message))
  }

  private func finishStream(uploaded: [String]) throws {
    let code = queue.withLock { $0.exitCode } ?? 0
    try stream([
      "complete": true, "exitcode": JSON(code), "dropped": 0,
      "uploaded": .array(uploaded.map(JSON.string)),
    ])
  }

  private func stream(_ message: JSON) throws {
    let request = try api.stream(
      message, entity: target.entity, project: target.project, run: target.run)
    try persistently { request }
  }

  /// - Returns: false if the server refuses the file; the run continues without it.
  private func upload(_ name: String, _ path: String) throws -> Bool {
    do {
      try persistently {
        try api.upload(
          of: name, from: path, entity: target.entity, project: target.project, run: target.run,
          retries: RetryPolicy(delays: []))
      }
      return true
    } catch let error as Issue {
      if queue.withLock({ queue in
        queue.lostFiles += 1
        return queue.lostFiles == 1
      }) {
        notice("Weights & Biases: \(name) can't be uploaded: \(describe(error))")
      }
      return false
    }
  }

  /// Sends until a response comes that is not a temporary failure. Signed addresses expire, so each
  /// attempt makes a new request.
  private func persistently(_ request: () throws -> HTTPRequest) throws {
    let begin = Date()
    var delay = min(1, pace.longestDelay)
    while true {
      var wait = delay
      let trouble: any Error
      do {
        let request = try request()
        let response = try api.client.send(request)
        guard RetryPolicy.isPassing(response.status) else {
          return try WandBAPI.check(response, at: request.url)
        }
        wait = max(wait, RetryPolicy.requestedDelay(response) ?? 0)
        trouble = Issue(
          [.file(api.baseURL)], "answers with status \(response.status): \(response.excerpt)")
      } catch  where RetryPolicy.isPassing(error) {
        trouble = error
      }
      guard Date().timeIntervalSince(begin) < pace.outage, !queue.withLock({ $0.hasGivenUp }) else {
        throw HTTPFailure(
          kind: .unusable, url: api.baseURL,
          problem: "no success for \(Int(pace.outage)) s: \(trouble)")
      }
      pause(wait)
      delay = min(delay * 2, pace.longestDelay)
    }
  }

  private func giveUp(_ reason: String) {
    let isFirst = queue.withLock { queue in
      guard !queue.hasGivenUp else { return false }
      queue.hasGivenUp = true
      queue.rows = []
      queue.files = []
      return true
    }
    if isFirst {
      notice("Weights & Biases: \(reason). Training continues; the run is kept in full. \(remedy)")
    }
  }

  private var remedy: String { "Send it later by: wandb sync \(folder)" }
}
