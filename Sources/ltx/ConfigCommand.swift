import ArgumentParser
import Foundation
import Support
import Training

/// `ltx config`: makes, checks and shows training configurations.
struct ConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config",
    abstract: "Write, check or show a training configuration.",
    subcommands: [InitConfigCommand.self, CheckConfigCommand.self, ShowConfigCommand.self])
}

/// The file of a configuration, and overrides of its keys.
struct ConfigurationArguments: ParsableArguments {
  @Argument(
    help: "The training configuration, YAML.", completion: .file(extensions: ["yaml", "yml"]))
  var config: String

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "A key to override, such as optimization.steps=50 or 'validation.samples[0].prompt=\"A cat\"'; the value is YAML. Repeatable.",
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
    abstract: "Write a commented configuration to start from.",
    discussion: "Modes:\n\n" + ConfigurationMode.list
      + "\n\nExample:\n\n  ltx config init t2v config.yaml")

  @Argument(help: "The mode of training.")
  var mode: ConfigurationMode

  @Argument(
    help: "The file to write, which must not exist yet. (default: standard output)",
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
        throw ValidationError("\(file): already exists. Choose another name, or remove it.")
      } catch {
        throw ValidationError("\(file): can't be written (\(reason(of: error)))")
      }
    }
    print(file)
  }
}

struct CheckConfigCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check a configuration without loading a model.",
    discussion: """
      Reports all problems at once with their lines: unknown keys, wrong types and values, keys that exclude \
      each other, files and folders that don't exist. `ltx train --dry-run` checks what depends on the model.

      Exit status: 0 without problems, 2 with problems.

      Example:

        ltx config check config.yaml
      """)

  @OptionGroup var configuration: ConfigurationArguments

  @Flag(help: "Accept files and folders that don't exist.")
  var skipPaths = false

  func run() throws {
    let c = try checkingInput { try configuration.read(checksPaths: !skipPaths) }
    for notice in c.notices { printError("note: \(notice)") }
    print("\(configuration.config): no problems found")
  }
}

struct ShowConfigCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print a configuration with all defaults.",
    discussion:
      """
      Files and folders need not exist. The official trainer can read the output unless it has keys that \
      only this program knows.

      Example:

        ltx config show config.yaml
      """
  )

  @OptionGroup var configuration: ConfigurationArguments

  @Flag(help: "Print JSON with all keys.")
  var json = false

  func run() throws {
    let c = try checkingInput { try configuration.read(checksPaths: false) }
    for notice in c.notices { printError("note: \(notice)") }
    try working {
      guard json else { return print(try c.resolvedYAML, terminator: "") }
      print(c.json.text(JSONFormat(isPretty: true, normalizesNumbers: true)))
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
