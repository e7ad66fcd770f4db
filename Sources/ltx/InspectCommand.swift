import ArgumentParser
import Foundation
import LTX
import LanguageModels
import LoRAFiles
import Support
import TensorFiles
import Torch

struct InspectCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show the components of a model's files.",
    discussion: """
      Prints the version, each component with its size, its dtypes and the formats of its quantized weights, \
      the components that are missing, and the tensors that no component uses. With a text encoder, also \
      whether it belongs to the model. Only headers are read, so large files take no longer.

      Exit status: 0 also with unknown tensors and missing components, 1 if a component does not fit its \
      configuration or the text encoder the model, 2 if the files can't be read.

      Example:

        ltx inspect ltx-2.3.safetensors
      """)

  @Argument(
    help: "The checkpoint, or any file of a model; for several files, use the options below.",
    completion: .file())
  var checkpoint: String?

  @Option(help: ArgumentHelp("The transformer's file.", valueName: "file"), completion: .file())
  var transformerPath: String?

  @Option(
    help: ArgumentHelp("The text encoder's folder or file.", valueName: "path"),
    completion: .file())
  var textEncoderPath: String?

  @Option(help: ArgumentHelp("The video VAE's file.", valueName: "file"), completion: .file())
  var videoVaePath: String?

  @Option(help: ArgumentHelp("The audio VAE's file.", valueName: "file"), completion: .file())
  var audioVaePath: String?

  @Option(help: ArgumentHelp("The duration head's file.", valueName: "file"), completion: .file())
  var durationHeadPath: String?

  func validate() throws {
    let files = [
      checkpoint, transformerPath, textEncoderPath, videoVaePath, audioVaePath, durationHeadPath,
    ]
    if files.allSatisfy({ $0 == nil }) {
      throw ValidationError("no model is given. Add a checkpoint, or the files of its components.")
    }
    if checkpoint != nil, transformerPath != nil {
      throw ValidationError(
        "--transformer-path can't be combined with a checkpoint, which has that component")
    }
  }

  func run() throws {
    var problems: [String] = []
    let model = try checkingInput { try self.model() }
    if let model {
      if model.isInferred {
        printError(
          "note: \(checkpoint ?? ""): has no configuration in its metadata, so sizes are inferred from the shapes of "
            + "tensors. Use it with --transformer-path or load_checkpoint, together with a whole checkpoint."
        )
      }
      problems += try show(model)
    }
    if let path = textEncoder { problems += try show(textEncoder: path, model) }
    for problem in problems { printError("error: \(problem)") }
    if !problems.isEmpty { throw ExitCode(1) }
  }

  /// The text encoder's path, which may be given as the only file.
  private var textEncoder: String? {
    textEncoderPath ?? checkpoint.flatMap { Self.isTextEncoder($0) ? $0 : nil }
  }

  /// The model, without its text encoder; nil if only a text encoder is given.
  private func model() throws -> Checkpoint? {
    let others = [transformerPath, videoVaePath, audioVaePath, durationHeadPath].compactMap(\.self)
    guard let checkpoint, !Self.isTextEncoder(checkpoint) else {
      guard !others.isEmpty else { return nil }
      return try Checkpoint(
        ModelFiles(
          transformer: transformerPath, textEncoder: textEncoderPath, videoVAE: videoVaePath,
          audioVAE: audioVaePath, durationHead: durationHeadPath))
    }
    if LoRAFile.isLoRA(path: checkpoint) {
      throw Issue(
        [.file(checkpoint)], "is a LoRA, not a checkpoint",
        suggestion: "Run `ltx lora inspect \(checkpoint)`.")
    }
    guard !others.isEmpty || textEncoderPath != nil else {
      return try Checkpoint(ofAnyLayout: checkpoint)
    }
    return try Checkpoint(
      ModelFiles(
        unified: checkpoint, textEncoder: textEncoderPath, videoVAE: videoVaePath,
        audioVAE: audioVaePath, durationHead: durationHeadPath))
  }

  /// Whether a path is that of a text encoder alone: its folder, or a single file.
  private static func isTextEncoder(_ path: String) -> Bool {
    guard isFile(path) else {
      return ["config.json", "tokenizer.json"].allSatisfy {
        FileManager.default.fileExists(atPath: "\(path)/\($0)")
      }
    }
    return (try? openTensors(at: path).metadata["gemma_config"]) != nil
  }

  // MARK: Output

  /// Prints the components of a model.
  ///
  /// - Returns: The errors of components that don't fit their configuration.
  private func show(_ model: Checkpoint) throws -> [String] {
    let inspection = CheckpointInspection(model)
    print("version: \(inspection.version?.description ?? "not stated")")
    for component in inspection.components {
      let types = component.types.sorted { $0.value > $1.value }.map { type, count in
        component.types.count == 1 ? "\(type)" : "\(type) \(Self.number(count))"
      }
      print(
        "\(component.name): \(Self.tensors(component.tensors)), "
          + "\(Self.number(component.parameters)) parameters, \(Self.size(component.bytes)), "
          + types.joined(separator: " + "))
      if !component.formats.isEmpty {
        let formats = component.formats.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        print("  quantized: " + formats.map { "\($0.value) \($0.key)" }.joined(separator: ", "))
      }
    }
    let missing = inspection.missing + (textEncoder == nil ? ["text encoder"] : [])
    if !missing.isEmpty { print("missing: \(missing.joined(separator: ", "))") }
    show(unused: inspection.knowinglyUnused, unknown: inspection.unknownKeys, "component")
    return inspection.problems
  }

  /// Prints the contents of a text encoder.
  ///
  /// - Returns: The reason why it does not belong to the model, if there is one.
  private func show(textEncoder path: String, _ model: Checkpoint?) throws -> [String] {
    let contents = try checkingInput { try inspectTextEncoder(at: path) }
    let entries = contents.languageModel
    let parameters = entries.reduce(0) { $0 + $1.entry.byteCount / $1.entry.dtype.size }
    let bytes = entries.reduce(0) { $0 + $1.entry.byteCount }
    print(
      "text encoder: \(contents.modelType)"
        + (contents.version.map { " (\($0.displayed()))" } ?? "")
        + ", \(Self.tensors(entries.count)), \(Self.number(parameters)) parameters, "
        + Self.size(bytes))
    if model == nil, !contents.projections.isEmpty {
      print("text projection: \(Self.tensors(contents.projections.count))")
    }
    if !contents.hasTokenizer { print("missing: tokenizer") }
    show(
      unused: contents.knowinglyUnused.map(\.key), unknown: contents.unusedKeys, "text encoder")
    guard let model, model.config.has("transformer") else { return [] }
    return try checkingInput { try model.textEncoderMismatch(at: path) }.map { ["\($0)"] } ?? []
  }

  private func show(unused: [String], unknown: [String], _ reader: String) {
    if let first = unused.first {
      print("not needed: \(Self.tensors(unused.count)), such as \(first.displayed())")
    }
    guard !unknown.isEmpty else { return }
    print("no \(reader) reads these \(unknown.count) tensors:")
    for key in unknown.prefix(1000) { print("  \(key.displayed())") }
  }

  private static func tensors(_ count: Int) -> String { counted(count, "tensor") }

  /// The size in words, such as `38.0 GB` or `4.1 MB`.
  private static func size(_ bytes: Int) -> String {
    bytes >= 1_000_000_000
      ? String(format: "%.1f GB", Double(bytes) / 1e9)
      : String(format: "%.1f MB", Double(bytes) / 1e6)
  }

  /// The number in words, such as `1234`, `56.7 thousand`, `1.2 million`.
  private static func number(_ count: Int) -> String {
    for (unit, name) in [(1e9, "billion"), (1e6, "million"), (1e3, "thousand")]
    where Double(count) >= unit {
      return String(format: "%.1f %@", Double(count) / unit, name)
    }
    return String(count)
  }
}
