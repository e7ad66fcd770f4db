import Support

/// The result of one check of the machine.
public struct Check: Sendable {
  public enum Status: String, Sendable {
    case ok
    /// It works, with a limit that the text states.
    case note
    /// Something that is needed does not work.
    case problem
  }

  /// Such as `libtorch` or `cuda:0`.
  public let name: String
  public let status: Status
  /// The finding, as a clause without a period.
  public let text: String
  /// The remedy, as a sentence without its period; nil if there is nothing to do. Both texts name
  /// subjects in backticks, which a `SubjectTable` translates.
  public let remedy: String?
  /// The finding for programs. Sizes are in bytes, rates in bytes per second.
  public let values: JSONObject

  public init(
    _ name: String, _ status: Status, _ text: String, remedy: String? = nil,
    values: JSONObject = [:]
  ) {
    (self.name, self.status, self.text) = (name, status, text)
    (self.remedy, self.values) = (remedy, values)
  }

  /// A check that ended with an error whose message is a problem and a remedy: `no driver was
  /// found. Install one`.
  init(_ name: String, _ status: Status, failure message: String, values: JSONObject = [:]) {
    let parts = message.split(separator: ". ", maxSplits: 1)
    self.init(
      name, status, parts.first.map(String.init) ?? message,
      remedy: parts.count > 1 ? String(parts[1]) : nil, values: values)
  }

  /// The finding and the remedy in one sentence.
  public var sentence: String { remedy.map { "\(text). \($0)" } ?? text }

  /// - Parameter translate: Replaces subjects in backticks by their names.
  public func json(_ translate: (String) -> String = { $0 }) -> JSON {
    var object: JSONObject = [
      "name": .string(name), "status": .string(status.rawValue), "text": .string(translate(text)),
    ]
    object["remedy"] = remedy.map { .string(translate($0)) }
    for member in values { object[member.key] = member.value }
    return .object(object)
  }
}

/// A size in words, such as `38.0 GB`.
func gigabytes(_ bytes: Int) -> String { "\(rounded(Double(bytes) / 1e9)) GB" }

/// A number with one digit after the point.
func rounded(_ value: Double) -> String {
  let tenths = Int((value * 10).rounded())
  return "\(tenths / 10).\(abs(tenths) % 10)"
}
