import ArgumentParser
import LTX
import LoRAFiles
import Support

struct QuantizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quantize",
    abstract: "Write a checkpoint with quantized weights.",
    discussion: """
      Writes a copy of a checkpoint, tensor by tensor, in which the matrices of attention and \
      feed-forward layers in the transformer's blocks are quantized as ComfyUI reads them. Everything \
      else keeps its dtype: norms, modulation, gates of attention heads, the layers before and after \
      the blocks, text connectors, VAEs and vocoder. Matrices that are quantized in another format \
      are converted.

      Example:

        ltx quantize ltx-2.3.safetensors --to fp8 --output ltx-2.3-fp8.safetensors
      """)

  @Argument(
    help: "The checkpoint, or a transformer alone.", completion: .file())
  var checkpoint: String

  @Option(
    help:
      "The format to write: fp8 (float8_e4m3fn with a scale for each matrix) or int8 (with a scale for each row)."
  )
  var to: QuantizedForm

  @Option(help: ArgumentHelp("The file to write.", valueName: "file"), completion: .file())
  var output: String

  func run() throws {
    var locks = OutputLocks("ltx quantize")
    defer { locks.release() }
    let fusion = try checkingInput {
      try requireOutput(output, inputs: [checkpoint])
      try locks.lock(file: output)
      if LoRAFile.isLoRA(path: checkpoint) {
        throw Issue([.file(checkpoint)], "is a LoRA, not a checkpoint")
      }
      let fusion = try CheckpointFusion(
        Checkpoint(ofAnyLayout: checkpoint), loras: [], form: to.form)
      guard fusion.quantizedCount > 0 else {
        throw Issue(
          [.file(checkpoint)], "has no matrices to quantize: all of them are in \(to.rawValue)")
      }
      return fusion
    }
    let progress = PhasedProgress()
    try working {
      defer { progress.finish() }
      try fusion.write(to: output) { progress.show("writing", $0, of: $1, unit: "tensors") }
    }
    progress.finish()
    printError("\(fusion.quantizedCount) matrices quantized")
    print(output)
  }
}

/// The formats that `quantize` writes.
enum QuantizedForm: String, ExpressibleByArgument, CaseIterable {
  case fp8, int8

  var form: CheckpointFusion.Form {
    switch self {
    case .fp8: .float8
    case .int8: .int8
    }
  }
}
