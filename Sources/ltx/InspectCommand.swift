import ArgumentParser
import Foundation
import LTX
import LoRAFiles
import Support
import TensorFiles
import Torch

struct InspectCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show the components of a checkpoint.",
    discussion: """
      Prints the version, each component with its size, its dtypes and the formats of its quantized weights, \
      and the tensors that no component uses. Only headers are read, so large files take no longer. The text \
      encoder is not inspected.

      Exit status: 0 also with unknown tensors, 1 if a component does not fit its configuration, 2 if the \
      files can't be read.

      Example:

        ltx inspect ltx-2.3.safetensors
      """)

  @Argument(
    help: "The checkpoint; for a model in several files, use the options below.",
    completion: .file())
  var checkpoint: String?

  @Option(help: ArgumentHelp("The transformer's file.", valueName: "file"), completion: .file())
  var transformerPath: String?

  @Option(help: ArgumentHelp("The video VAE's file.", valueName: "file"), completion: .file())
  var videoVaePath: String?

  @Option(help: ArgumentHelp("The audio VAE's file.", valueName: "file"), completion: .file())
  var audioVaePath: String?

  func validate() throws {
    if checkpoint == nil, transformerPath == nil, videoVaePath == nil, audioVaePath == nil {
      throw ValidationError("no model is given. Add a checkpoint, or the files of its components.")
    }
    if checkpoint != nil, transformerPath != nil || audioVaePath != nil {
      throw ValidationError(
        "--transformer-path and --audio-vae-path can't be combined with a checkpoint, which has those components"
      )
    }
  }

  func run() throws {
    let (inspection, isInferred) = try checkingInput {
      if let checkpoint, LoRAFile.isLoRA(path: checkpoint) {
        throw Issue(
          [.file(checkpoint)], "is a LoRA, not a checkpoint",
          suggestion: "Run `ltx lora inspect \(checkpoint)`.")
      }
      let model =
        if let checkpoint, videoVaePath == nil { try Checkpoint(ofAnyLayout: checkpoint) } else {
          try Checkpoint(files)
        }
      return (CheckpointInspection(model), model.isInferred)
    }
    if isInferred {
      printError(
        "note: \(checkpoint ?? ""): has no configuration in its metadata, so sizes are inferred from the shapes of "
          + "tensors. Use it with --transformer-path or load_checkpoint, together with a whole checkpoint."
      )
    }
    print("version: \(inspection.version?.description ?? "not stated")")
    for component in inspection.components {
      let types = component.types.sorted { $0.value > $1.value }.map { type, count in
        component.types.count == 1 ? "\(type)" : "\(type) \(Self.number(count))"
      }
      print(
        "\(component.name): \(component.tensors) \(component.tensors == 1 ? "tensor" : "tensors"), "
          + "\(Self.number(component.parameters)) parameters, \(Self.size(component.bytes)), "
          + types.joined(separator: " + "))
      if !component.formats.isEmpty {
        let formats = component.formats.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        print("  quantized: " + formats.map { "\($0.value) \($0.key)" }.joined(separator: ", "))
      }
    }
    if !inspection.unknownKeys.isEmpty {
      print("no component reads these \(inspection.unknownKeys.count) tensors:")
      for key in inspection.unknownKeys.prefix(1000) { print("  \(key.displayed())") }
    }
    for problem in inspection.problems { printError("error: \(problem)") }
    if !inspection.problems.isEmpty { throw ExitCode(1) }
  }

  private var files: ModelFiles {
    if let checkpoint { return ModelFiles(unified: checkpoint, videoVAE: videoVaePath) }
    return ModelFiles(transformer: transformerPath, videoVAE: videoVaePath, audioVAE: audioVaePath)
  }

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
