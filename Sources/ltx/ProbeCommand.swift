import ArgumentParser
import LoRAFiles
import Probe
import TensorFiles
import Torch

struct ProbeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "probe",
    abstract: "Run one component on given tensors, to compare it with another implementation.",
    discussion: "Components: \(Probe.componentNames.joined(separator: ", ")).")

  @Argument(help: "The component to run.")
  var component: String

  @Option(help: ArgumentHelp("The LTX-2 checkpoint.", valueName: "file"))
  var model: String?

  @Option(help: ArgumentHelp("The folder of the text encoder.", valueName: "folder"))
  var textEncoder: String?

  @Option(
    name: .customLong("lora"),
    help: ArgumentHelp("A LoRA to apply; repeatable.", valueName: "file[:strength]"))
  var loras: [LoRAArgument] = []

  @Option(help: ArgumentHelp("A training configuration.", valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      "The input tensors, safetensors (for tokenize: a JSON array of strings).", valueName: "file"))
  var inputs: String?

  @Option(help: ArgumentHelp("Where the output tensors go, safetensors.", valueName: "file"))
  var output: String

  @Option(help: "Element type of weights and compute.")
  var dtype: ComputeDType = .float32

  @OptionGroup var compute: ComputeOptions

  func run() throws {
    compute.apply()
    var options = Probe.Options()
    options.model = model
    options.textEncoder = textEncoder
    options.loras = loras.map { .init(path: $0.path, strength: $0.strength) }
    options.config = config
    options.inputs = inputs
    options.dtype = dtype.dtype
    options.device = compute.device
    let outputs = try checkingInput { try Probe.run(component, options) }
    try working { try writeSafetensors(outputs, to: output) }
  }
}
