import ArgumentParser
import Foundation
import Support
import Training

/// `ltx config`: makes, checks and shows training configurations.
struct ConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config",
    abstract: "Begin, check or show a training configuration.",
    subcommands: [InitConfigCommand.self, CheckConfigCommand.self, ShowConfigCommand.self])
}

/// The file of a configuration, and what is changed of it.
struct ConfigurationArguments: ParsableArguments {
  @Argument(
    help: "The training configuration, YAML.", completion: .file(extensions: ["yaml", "yml"]))
  var config: String

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Another value for a key, such as optimization.steps=50 or 'validation.samples[0].prompt=\"A cat\"'. The value is YAML. May be given several times.",
      valueName: "key=value"))
  var overrides: [String] = []

  /// - Throws: `ConfigurationProblems`.
  func read(checksPaths: Bool = true) throws -> TrainingConfiguration {
    try TrainingConfiguration(path: config, overrides: overrides, checksPaths: checksPaths)
  }
}

struct InitConfigCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Write a commented configuration to begin with.",
    discussion: "Modes:\n\n" + ConfigurationMode.list)

  @Argument(help: "What is trained.")
  var mode: ConfigurationMode

  @Argument(
    help: "The file to write; standard output if left out. It must not exist yet.",
    completion: .file())
  var file: String?

  var printsItsResult: Bool { file == nil }

  func run() throws {
    guard let file else {
      print(mode.template, terminator: "")
      return
    }
    try checkingInput {
      do {
        try Data(mode.template.utf8).write(
          to: URL(fileURLWithPath: file), options: .withoutOverwriting)
      } catch CocoaError.fileWriteFileExists {
        throw ValidationError("\(file) exists already; give another name, or remove it")
      } catch {
        throw ValidationError("\(file) can't be written: \(reason(of: error))")
      }
    }
    print(file)
  }
}

struct CheckConfigCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Look for what is wrong with a configuration.",
    discussion: """
      Tells everything that is wrong at once, each with its line: unknown keys, wrong types and values, keys that exclude \
      each other, files and folders that don't exist. What depends on the model is checked by `ltx train --dry-run`.

      Exit status: 0 if nothing is wrong, 2 if something is.
      """)

  @OptionGroup var configuration: ConfigurationArguments

  @Flag(help: "Files and folders need not exist.")
  var skipPaths = false

  func run() throws {
    let c = try checkingInput { try configuration.read(checksPaths: !skipPaths) }
    for notice in c.notices { printError("note: \(notice)") }
    print("\(configuration.config): nothing is wrong")
  }
}

struct ShowConfigCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print a configuration with every default in place.",
    discussion:
      "Files and folders need not exist. The official trainer reads what is printed as long as it uses no keys of ours."
  )

  @OptionGroup var configuration: ConfigurationArguments

  @Flag(help: "As JSON, with all keys.")
  var json = false

  func run() throws {
    let c = try checkingInput { try configuration.read(checksPaths: false) }
    for notice in c.notices { printError("note: \(notice)") }
    try working {
      guard json else { return print(try c.resolvedYAML, terminator: "") }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      print(String(decoding: try encoder.encode(c.json), as: UTF8.self))
    }
  }
}

extension ConfigurationMode: ExpressibleByArgument {
  fileprivate static var list: String {
    let width = allCases.map(\.rawValue.count).max() ?? 0
    return allCases.map {
      "  \($0.rawValue)\(String(repeating: " ", count: width - $0.rawValue.count))  \($0.title)"
    }.joined(separator: "\n")
  }
}
