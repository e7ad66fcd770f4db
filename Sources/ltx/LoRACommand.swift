import ArgumentParser
import Foundation
import LTX
import LoRAFiles
import Support
import TensorFiles

/// `ltx lora`: files of adapters.
struct LoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lora",
    abstract: "Inspect, merge, convert, resize, strip and scale LoRA files.",
    discussion: """
      Reads LoRA, DoRA, LoKr and LoHa with the keys of ComfyUI and LTX-2, diffusers, kohya and \
      LyCORIS, and peft. All commands except convert write ComfyUI's keys, which LTX-2's own code \
      and diffusers also read; the alpha of a LoRA is multiplied into B. An output file appears \
      only when it is complete.

      Exit status: 0 on success, 1 if writing failed, 2 if the input can't be used.

      Example: ltx lora inspect style.safetensors
      """,
    subcommands: [
      InspectLoRACommand.self, MergeLoRACommand.self, ConvertLoRACommand.self,
      ResizeLoRACommand.self,
      StripLoRACommand.self, ScaleLoRACommand.self,
    ])
}

extension LoRAPart: ExpressibleByArgument {}

/// The formats that can be written.
enum WrittenFormat: String, ExpressibleByArgument, CaseIterable {
  case comfyui, diffusers, kohya

  var format: LoRAFormat {
    switch self {
    case .comfyui: .comfyUI
    case .diffusers: .diffusers
    case .kohya: .kohya
    }
  }
}

/// The input and output files of a command that turns one LoRA into another.
struct LoRAFiles: ParsableArguments {
  @Argument(help: "The LoRA to read.", completion: .file())
  var input: String

  @Argument(help: "The LoRA to write.", completion: .file())
  var output: String

  @Option(help: "The dtype of the output; the default is the input's.")
  var dtype: ComputeDType?

  /// - Parameter change: changes the LoRA; its errors mean that the input can't be used.
  func run(format: LoRAFormat = .comfyUI, _ change: (LoRA) throws -> LoRA) throws {
    var locks = OutputLocks("ltx lora")
    defer { locks.release() }
    let lora = try checkingInput {
      try requireOutput(output, inputs: [input])
      try locks.lock(file: output)
      let file = try LoRAFile(path: input)
      noteIgnored(file)
      let whole = try LoRA(file)
      if let note = try file.zeroNote { printError("warning: \(note)") }
      let lora = try change(whole)
      try lora.requireNames(format)
      return lora
    }
    try working { try lora.write(to: output, format: format, dtype: dtype?.dtype) }
    print(output)
  }
}

func requireOutput(_ path: String, inputs: [String]) throws {
  if let problem = OutputFile.problem(path, inputs: inputs) {
    throw Issue([.file(path)], problem)
  }
}

func noteIgnored(_ file: LoRAFile) {
  if let note = file.otherModulesNote { printError("note: \(note)") }
  if let first = file.ignoredKeys.first {
    printError(
      "note: \(file.path): \(file.ignoredKeys.count) changes of biases are skipped, such as \(first)"
    )
  }
}

struct InspectLoRACommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Print the contents of a LoRA file and how much it changes each layer.",
    discussion: """
      Prints which adapters ltx generate uses, how far the LoRA moves the model by modality and \
      depth, and whether all values are finite. With --model, changes are also printed as a share \
      of the checkpoint's weights.

      Exit status: 0 on success, 1 if the LoRA contains values that are not finite, 2 if it can't \
      be read or does not fit the model.

      Example: ltx lora inspect style.safetensors --model ltx-2.3-22b-dev.safetensors
      """)

  @Argument(help: "The LoRA to read.", completion: .file())
  var file: String

  @Option(
    help: ArgumentHelp(
      "The checkpoint to check the LoRA against and compare it with: a full checkpoint or a "
        + "transformer alone, in any layout that ltx generate reads.", valueName: "file"),
    completion: .file())
  var model: String?

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let report = try checkingInput {
      let lora = try LoRAFile(path: file)
      let checkpoint = try model.map { try Checkpoint(ofAnyLayout: $0) }
      let progress = PhasedProgress()
      defer { progress.finish() }
      return try LoRAReport(lora, checkpoint: checkpoint) {
        if checkpoint != nil { progress.show("measuring", $0, of: $1, unit: "layers") }
      }
    }
    if json {
      let json = try working { try JSON(encoding: report) { .string("\($0)") } }
      print(json.text(.pretty))
    } else {
      print(report.text)
    }
    if let first = report.nonFiniteKeys.first {
      printError(
        "error: \(report.file): \(first.displayed()) "
          + LoRAFile.nonFiniteProblem(others: report.nonFiniteKeys.count - 1)
      )
      throw ExitCode(1)
    }
  }
}

struct ConvertLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Rename the tensors of a LoRA for other software.",
    discussion: """
      The alpha of a LoRA is multiplied into B. kohya's files get an alpha that equals the rank, \
      which changes nothing. LoKr and LoHa keep their alpha.

      Example: ltx lora convert style.safetensors style-kohya.safetensors --to kohya
      """)

  @OptionGroup var files: LoRAFiles

  @Option(help: ArgumentHelp("The key naming scheme of the output file.", valueName: "format"))
  var to: WrittenFormat

  func run() throws { try files.run(format: to.format) { $0 } }
}

struct StripLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "strip", abstract: "Remove the adapters of a modality.",
    discussion: "Example: ltx lora strip style.safetensors video-only.safetensors --stream audio")

  @OptionGroup var files: LoRAFiles

  @Option(
    help: "The modality to remove; cross is the attention between the two. Repeatable.")
  var stream: [LoRAPart]

  func run() throws { try files.run { try $0.stripped(of: Set(stream)) } }
}

struct ScaleLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale", abstract: "Change the strength of a LoRA permanently.",
    discussion: "Example: ltx lora scale style.safetensors half.safetensors --by 0.5")

  @OptionGroup var files: LoRAFiles

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("The factor of the effect.", valueName: "factor"))
  var by: Double

  @Option(
    help: ArgumentHelp(
      "The modality to scale; cross is the attention between the two. Repeatable; the default "
        + "is all."))
  var stream: [LoRAPart] = []

  func run() throws {
    try files.run { try $0.scaled(by: by, parts: Set(stream.isEmpty ? LoRAPart.allCases : stream)) }
  }
}
