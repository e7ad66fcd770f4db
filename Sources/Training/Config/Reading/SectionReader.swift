import Foundation
import NN
import Optimizers
import Support

/// The problems and notes that the readers of all sections have found.
final class ConfigurationReading {
  /// Whether named files and folders must exist.
  let checksPaths: Bool
  /// Whether keys of the training configuration are suggested for unknown ones.
  let suggestsTrainingKeys: Bool
  private(set) var problems: [ConfigurationProblems.Problem] = []
  var source: ConfigurationSource

  init(file: String, checksPaths: Bool, suggestsTrainingKeys: Bool = true) {
    (self.checksPaths, self.suggestsTrainingKeys) = (checksPaths, suggestsTrainingKeys)
    source = ConfigurationSource(file: file)
  }

  func report(_ key: String, _ place: ConfigurationPlace, _ message: String) {
    problems.append(.init(place: place, key: key, message: message))
  }
}

/// Reads a section key by key, and collects problems instead of stopping at the first one.
///
/// If a value is invalid, the default stays, so that the rest is still checked. The default is
/// never used, because reading then throws at the end.
final class SectionReader {
  /// The section's path, such as `validation.samples[0]`; empty for the whole configuration.
  let path: String
  let reading: ConfigurationReading
  /// The position of the section itself.
  private let place: ConfigurationPlace
  private let entries: [ConfigurationNode.Entry]
  private var known: [String] = []

  init(
    _ entries: [ConfigurationNode.Entry], path: String, place: ConfigurationPlace,
    _ reading: ConfigurationReading
  ) {
    self.entries = entries
    self.path = path
    self.place = place
    self.reading = reading
    for entry in entries { reading.source.places[full(entry.key)] = entry.place }
  }

  /// An absent section, in which every key has its default.
  func absentSection(_ key: String) -> SectionReader {
    SectionReader([], path: full(key), place: place, reading)
  }

  /// - Returns: nil if the key is absent, or if its value is invalid, which is then reported.
  func read<Value>(_ key: String, _ rule: Rule<Value>) -> Value? {
    guard let entry = entry(key) else { return nil }
    return rule.read(entry.value, RuleContext(key: full(key), place: entry.place, reading: reading))
  }

  func required<Value>(_ key: String, _ rule: Rule<Value>) -> Value? {
    if entry(key) == nil { report(key, "is missing; it has no default") }
    return read(key, rule)
  }

  /// Whether the key is given, even as null.
  func has(_ key: String) -> Bool { entry(key) != nil }

  /// Every key and its value.
  var all: [(key: String, value: ConfigurationNode)] {
    entries.map { ($0.key, $0.value) }
  }

  /// - Parameter key: the key; absent keys are reported at the position of the section.
  func report(_ key: String, _ message: String) {
    reading.report(full(key), entry(key)?.place ?? place, message)
  }

  func isNull(_ key: String) -> Bool { entry(key)?.value.isNull ?? false }

  /// Reports a problem of the section as a whole.
  func report(_ message: String) { reading.report(path, place, message) }

  /// Reports keys of a free-form section that `body` rejects.
  func checkOptions(_ key: String, _ body: () throws(Issues) -> Void) {
    do {
      try body()
    } catch {
      for issue in error.all {
        let option = issue.subject.pathDescription
        // An option may be a key next to the section, such as warmup_steps.
        let isKey = known.contains(option)
        reading.report(
          isKey ? full(option) : "\(full(key)).\(option)",
          reading.source.places["\(full(key)).\(option)"] ?? entry(isKey ? option : key)?.place
            ?? place,
          issue.message)
      }
    }
  }

  func notice(_ key: String, _ message: String) {
    reading.source.notices.append(.init(place: entry(key)?.place, key: full(key), message: message))
  }

  /// Reports unknown keys, with the most similar known one.
  func finish() {
    for entry in entries where !known.contains(entry.key) {
      let near = NearestName.find(entry.key, in: known).map(full)
      let suggestion =
        reading.suggestsTrainingKeys
        ? TrainingConfiguration.keys(named: entry.key)?.joined(separator: " or ") ?? near
          ?? TrainingConfiguration.keys(near: entry.key)?.joined(separator: " or ")
        : near
      reading.report(
        full(entry.key), entry.place,
        "is not a known key" + (suggestion.map { "; did you mean \($0)?" } ?? ""))
    }
  }

  private func entry(_ key: String) -> ConfigurationNode.Entry? {
    if !known.contains(key) { known.append(key) }
    return entries.first { $0.key == key }
  }

  private func full(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
}

extension SectionReader {
  enum PathKind { case file, folder, any }

  /// Reports a path that does not exist.
  ///
  /// - Parameters:
  ///   - path: the path; nil and empty paths are reported elsewhere.
  ///   - hint: advice that follows the message.
  func checkExists(_ key: String, _ path: String?, _ kind: PathKind, hint: String = "") {
    guard reading.checksPaths, let path, !path.isEmpty else { return }
    if !FileManager.default.fileExists(atPath: path) {
      report(key, "\(path) does not exist\(hint)")
    } else if kind == .file, isFolder(path) {
      report(key, "\(path) is a folder, but must be a file")
    } else if kind == .folder, !isFolder(path) {
      report(key, "\(path) is not a folder")
    }
  }
}
