import ArgumentParser
import Foundation
import LTX
import LoRAFiles
import NN
import Support
import Torch

struct MergeLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge", abstract: "Merge LoRAs into one, or into a checkpoint.",
    discussion: """
      The merged LoRA has exactly the combined effect, and the sum of the ranks; --rank makes it \
      smaller and less exact. With --into, the output is a copy of a checkpoint with the LoRAs added \
      to its weights. Weights that the checkpoint stores in fp8 or int8 are quantized again in \
      their own format; --dtype fp8 quantizes the matrices of the transformer's blocks.

      Example: ltx lora merge style.safetensors:0.8 --into ltx-2.3.safetensors --dtype fp8 --output ltx-2.3-style-fp8.safetensors
      """)

  @Argument(
    help: ArgumentHelp(
      "The LoRAs to merge. The default strength is 1.", valueName: "file[:strength]"),
    completion: .file())
  var loras: [FileWithStrength]

  @Option(help: ArgumentHelp("The file to write.", valueName: "file"), completion: .file())
  var output: String

  @Option(
    help: ArgumentHelp("The checkpoint to add the LoRAs to.", valueName: "file"),
    completion: .file())
  var into: String?

  @Option(help: "The rank of the merged LoRA.")
  var rank: Int?

  @Option(
    help: ArgumentHelp(
      "The dtype of the merged LoRA, or fp8 for the matrices of a checkpoint; the default is the "
        + "files' own."))
  var dtype: MergedDType?

  func validate() throws {
    if into != nil, rank != nil {
      throw ValidationError("--rank can't be combined with --into, which writes no LoRA")
    }
    if let dtype, (into != nil) != (dtype == .fp8) {
      throw ValidationError(
        into != nil
          ? "--dtype must be fp8 with --into (got \(dtype.rawValue)). Without --dtype, a checkpoint "
            + "keeps its dtypes."
          : "--dtype fp8 needs --into. A LoRA can be written in float32 or bfloat16."
      )
    }
  }

  func run() throws {
    var locks = OutputLocks("ltx lora merge")
    defer { locks.release() }
    let files = try checkingInput {
      try requireOutput(output, inputs: loras.map(\.path) + (into.map { [$0] } ?? []))
      try locks.lock(file: output)
      return try loras.map { (file: try LoRAFile(path: $0.path), strength: $0.strength) }
    }
    if let into {
      let fusion = try checkingInput {
        let checkpoint = try Checkpoint(ofAnyLayout: into)
        let fusion = try CheckpointFusion(
          checkpoint, loras: files, form: dtype == .fp8 ? .float8 : .asStored)
        for note in fusion.notes { printError("note: \(note)") }
        for (file, _) in files {
          if try file.baseWarning(checkpoint) == nil,
            let doubt = try file.baseWarningOrDoubt(checkpoint)
          {
            printError("note: \(doubt)")
          }
        }
        return fusion
      }
      let progress = PhasedProgress()
      let changed = try working {
        defer { progress.finish() }
        return try fusion.write(to: output) {
          progress.show("writing", $0, of: $1, unit: "tensors")
        }
      }
      progress.finish()
      let quantized = fusion.quantizedCount
      printError(
        Self.summary(changed: changed, of: fusion.adaptedCount)
          + (quantized == 0 ? "" : ", \(quantized) matrices quantized"))
    } else {
      for (file, _) in files { noteIgnored(file) }
      let merged = try checkingInput {
        let merged = try LoRA.merged(files.map { (try LoRA($0.file), $0.strength) })
        for (file, strength) in files {
          if let note = try file.zeroNote { printError("warning: \(note)") }
          if strength == 0 {
            printError("warning: \(file.path): has strength 0 and changes nothing")
          }
        }
        let names: SubjectTable = [["checkpoint"]: "ltx lora inspect --model CHECKPOINT"]
        for warning in merged.warnings { printError("warning: \(names.message(warning))") }
        guard let rank else { return merged }
        let (resized, layers) = try merged.resized(to: .rank(rank))
        printError(ResizeLoRACommand.summary(layers))
        return resized
      }
      try working { try merged.write(to: output, dtype: dtype?.dtype) }
    }
    print(output)
  }
}

/// The dtypes that `merge` can write.
enum MergedDType: String, ExpressibleByArgument, CaseIterable {
  case float32, bfloat16, fp8

  /// The dtype of a merged LoRA.
  var dtype: DType {
    switch self {
    case .float32: .float32
    case .bfloat16: .bfloat16
    case .fp8: .float8E4M3
    }
  }
}

extension MergeLoRACommand {
  static func summary(changed: Int, of count: Int) -> String {
    guard changed < count || count == 0 else { return "\(changed) weights changed" }
    let lost =
      changed == 0
      ? "the output has the weights of the checkpoint"
      : "the other changes are zero or too small for the dtype"
    return "warning: \(changed) of \(count) weights changed; \(lost)"
  }
}

struct ResizeLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resize", abstract: "Reduce the rank of a LoRA.",
    discussion: """
      Each layer's change is replaced by the closest one of the new rank. The energy is the square \
      of its norm; the share that is kept is printed for each layer and for all. LoKr and LoHa \
      become LoRA.

      Example: ltx lora resize style.safetensors small.safetensors --rank 16
      """)

  @OptionGroup var files: LoRAFiles

  @Option(help: "The new rank. Layers of a lower rank stay unchanged.")
  var rank: Int?

  @Option(help: "The share of each layer's energy to keep, such as 0.95, which sets the ranks.")
  var energy: Double?

  func validate() throws {
    guard (rank == nil) != (energy == nil) else {
      throw ValidationError("give either --rank or --energy")
    }
  }

  func run() throws {
    try files.run { lora in
      let progress = PhasedProgress()
      defer { progress.finish() }
      let (resized, layers) = try lora.resized(to: rank.map { .rank($0) } ?? .energy(energy ?? 1)) {
        progress.show("resizing", $0, of: $1, unit: "layers")
      }
      progress.finish()
      for layer in layers {
        print(
          "\(layer.path)  rank \(layer.oldRank) to \(layer.newRank), energy "
            + String(format: "%.4f", layer.keptShare))
      }
      printError(Self.summary(layers))
      return resized
    }
  }

  static func summary(_ layers: [LoRA.ResizedLayer]) -> String {
    let (kept, all) = layers.reduce((0.0, 0.0)) { ($0.0 + $1.keptEnergy, $0.1 + $1.energy) }
    return String(format: "energy kept in all: %.4f", all == 0 ? 1 : kept / all)
  }
}
