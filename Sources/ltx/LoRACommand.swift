import ArgumentParser
import Foundation
import LTX
import LoRAFiles
import Support
import TensorFiles

/// `ltx lora`: files of low-rank adapters.
struct LoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lora",
    abstract: "Inspect, merge, convert and cut down LoRA files.",
    discussion: """
      Reads the keys of ComfyUI and LTX-2, diffusers, kohya and peft, with alpha. Everything but convert writes \
      ComfyUI's keys, which LTX-2's own code and diffusers read too; alpha becomes part of B. Files appear when they are \
      whole.

      Exit status: 0 if all was done, 1 if writing failed, 2 if the input can't be used.
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

/// One LoRA in, one LoRA out.
struct LoRAFiles: ParsableArguments {
  @Argument(help: "The LoRA to read.", completion: .file())
  var input: String

  @Argument(help: "The LoRA to write.", completion: .file())
  var output: String

  @Option(help: "What its numbers are written in; as they came if left out.")
  var dtype: ComputeDType?

  /// - Parameter change: all of the work that can be wrong about the input.
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
    throw LoRAError(description: "\(path) \(problem)")
  }
}

func noteIgnored(_ file: LoRAFile) {
  if let note = file.otherModulesNote { printError("note: \(note)") }
  if let first = file.ignoredKeys.first {
    printError(
      "note: \(file.path): changes of biases are left out: \(file.ignoredKeys.count), such as \(first)"
    )
  }
}

struct InspectLoRACommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show what a LoRA file holds, and how much it changes each layer.",
    discussion: """
      Says which adapters generate uses, how far the LoRA moves the model, by modality and by depth, and whether its \
      values are finite. With --model, changes are also given as a share of the checkpoint's weights.

      Exit status: 0, 1 if the LoRA holds values that are not finite, 2 if it can't be read or does not fit the model.

      Example: ltx lora inspect style.safetensors --model ltx-2.3-22b-dev.safetensors
      """)

  @Argument(help: "The LoRA.", completion: .file())
  var file: String

  @Option(
    help: ArgumentHelp(
      "A checkpoint to check the LoRA against and to compare it with: whole or a transformer alone, in any layout "
        + "that generate reads.", valueName: "file"),
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
        "error: \(report.file): \(first.displayed()) \(LoRAFile.nonFiniteProblem(others: report.nonFiniteKeys.count - 1))"
      )
      throw ExitCode(1)
    }
  }
}

struct ConvertLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Rename a LoRA's tensors for other software.",
    discussion:
      "An alpha becomes part of B; kohya's files get an alpha that equals the rank, which changes nothing."
  )

  @OptionGroup var files: LoRAFiles

  @Option(help: ArgumentHelp("Whose keys to write.", valueName: "format"))
  var to: WrittenFormat

  func run() throws { try files.run(format: to.format) { $0 } }
}

struct StripLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "strip", abstract: "Leave out a stream's adapters.")

  @OptionGroup var files: LoRAFiles

  @Option(help: "Whose; cross is what lies between video and audio. Repeatable.")
  var stream: [LoRAPart]

  func run() throws { try files.run { try $0.stripped(of: Set(stream)) } }
}

struct ScaleLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale", abstract: "Make a LoRA weaker or stronger for good.")

  @OptionGroup var files: LoRAFiles

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("What the effect is multiplied by.", valueName: "factor"))
  var by: Double

  @Option(help: "Whose; cross is what lies between video and audio. Repeatable; all if left out.")
  var stream: [LoRAPart] = []

  func run() throws {
    try files.run { try $0.scaled(by: by, parts: Set(stream.isEmpty ? LoRAPart.allCases : stream)) }
  }
}
