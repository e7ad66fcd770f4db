import Foundation

/// The view of a run while it trains: two lines on a terminal, or an occasional plain line in a
/// log. It provides the text; the program draws it.
public struct TrainingView: Sendable {
  public let totalSteps: Int
  private let firstStep: Int
  private var record: StepRecord?
  private var meanLoss = MovingMean()
  private var stepSeconds = MovingMean(window: 20)
  private var elapsed = 0.0
  private var skipped = 0

  /// - Parameter step: the step that the run resumes after.
  public init(totalSteps: Int, resumingAfter step: Int) {
    self.totalSteps = totalSteps
    firstStep = step
  }

  /// The moving mean of the loss; nil before the first step.
  public var loss: Double? { meanLoss.value }

  /// - Parameter elapsed: the seconds since the first step began, including saving and validation,
  ///   from which the time left is computed.
  public mutating func add(_ record: StepRecord, elapsed: Double) {
    self.record = record
    self.elapsed = elapsed
    if record.skipped == nil { meanLoss.add(record.loss) } else { skipped += 1 }
    stepSeconds.add(record.seconds)
  }

  // MARK: On a terminal

  /// The lines of the view, cut to a width by dropping the least important values first; empty
  /// before the first step.
  public func lines(width: Int) -> [String] {
    guard let record else { return [] }
    return [
      progress(record, width: width),
      Self.fitting(details(record), separator: "  ", width: width),
    ].filter { !$0.isEmpty }
  }

  private func progress(_ record: StepRecord, width: Int) -> String {
    let step = "step \(record.step)/\(totalSteps)"
    let percent = totalSteps > 0 ? "\(min(100, 100 * record.step / totalSteps))%" : nil
    let rest = Self.fitting(
      [percent, rate, timeLeft(record).map { $0 + " left" }].compactMap { $0 }, separator: "  ",
      width: width - step.count - 2)
    let texts = step.count + (rest.isEmpty ? 0 : rest.count + 2)
    // The 3 columns are a space and two brackets.
    let columns = min(40, width - texts - 3)
    let bar =
      columns >= 6 ? " [" + Self.bar(record.step, of: totalSteps, columns: columns) + "]" : ""
    return String((step + bar + (rest.isEmpty ? "" : "  " + rest)).prefix(max(0, width)))
  }

  /// Returns a bar of a number of columns, drawn in halves.
  static func bar(_ done: Int, of total: Int, columns: Int) -> String {
    let share = total > 0 ? min(1, max(0, Double(done) / Double(total))) : 1
    let halves = Int(share * Double(2 * columns))
    return String(repeating: "━", count: halves / 2) + (halves % 2 == 1 ? "╸" : "")
      + String(repeating: " ", count: columns - (halves + 1) / 2)
  }

  /// Joins the first part and as many of the others as fit into the width.
  private static func fitting(_ parts: [String], separator: String, width: Int) -> String {
    var line = ""
    for part in parts {
      let longer = line.isEmpty ? part : line + separator + part
      guard longer.count <= width else { break }
      line = longer
    }
    return line
  }

  // MARK: In a log

  /// One line with everything; nil before the first step.
  public var plainLine: String? {
    record.map { record in
      (["step \(record.step)/\(totalSteps)"] + details(record)
        + [rate, timeLeft(record).map { $0 + " left" }].compactMap { $0 }).joined(separator: ", ")
    }
  }

  // MARK: Parts

  /// The details, the most important first.
  private func details(_ record: StepRecord) -> [String] {
    var parts = ["loss \(measured(record.loss))"]
    if let mean = meanLoss.value { parts.append("mean \(measured(mean))") }
    if skipped > 0 { parts.append("skipped \(skipped)") }
    parts.append("lr \(String(format: "%.2e", record.learningRate))")
    parts.append("|grad| \(measured(record.gradientNorm))")
    if let bytes = record.tensorBytes { parts.append(memoryText(bytes)) }
    return parts
  }

  private var rate: String? { stepSeconds.value.flatMap { rateText(secondsPerStep: $0) } }

  /// The time left, from the mean time per step so far; nil at the end, or if no time has passed.
  private func timeLeft(_ record: StepRecord) -> String? {
    let done = record.step - firstStep
    guard done > 0, elapsed > 0, record.step < totalSteps else { return nil }
    return timeText(elapsed / Double(done) * Double(totalSteps - record.step))
  }
}

/// Decides whether a log gets a line now: at the first step, at the last one, and whenever a number
/// of seconds have passed.
public struct LogPace: Sendable {
  private let seconds: Double
  private var last: Double?

  public init(seconds: Double = 10) { self.seconds = seconds }

  /// - Parameter time: in seconds, from any origin.
  public mutating func isDue(at time: Double, isLast: Bool) -> Bool {
    if !isLast, let last, time - last < seconds { return false }
    last = time
    return true
  }
}

/// An exponential mean over about the newest `window` values, or the newest fifth of all values if
/// that is fewer, so that the mean of a short run does not lag. The first five values have equal
/// weight.
public struct MovingMean: Sendable, Equatable {
  private let window: Double
  private var count = 0.0
  /// The mean; nil before the first value.
  public private(set) var value: Double?

  /// - Parameter window: the number of values, at least 1.
  public init(window: Double = 50) { self.window = max(1, window) }

  /// Adds a value. Values that are not finite are skipped.
  public mutating func add(_ number: Double) {
    guard number.isFinite else { return }
    count += 1
    let length = min(window, max(min(count, 5), count / 5))
    let old = value ?? number
    value = old + (number - old) / length
  }
}
