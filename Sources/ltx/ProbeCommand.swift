import ArgumentParser
import LoRAFiles
import Probe
import Support
import TensorFiles
import Torch

struct ProbeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "probe",
    abstract: "Run one component on given tensors, for comparison with other implementations.",
    discussion: """
      Components: \(Probe.componentNames.joined(separator: ", ")).

      Example:

        ltx probe transformer --model ltx-2.3.safetensors --inputs in.safetensors --output out.safetensors
      """)

  @Argument(help: "The component to run.")
  var component: String

  @Option(help: ArgumentHelp("The LTX-2 checkpoint.", valueName: "file"))
  var model: String?

  @Option(help: ArgumentHelp("The folder of the text encoder.", valueName: "folder"))
  var textEncoder: String?

  @Option(help: ArgumentHelp("The model folder of the captioner.", valueName: "folder"))
  var captionerModel: String?

  @Flag(
    name: .customLong("use-8bit"), help: "Store the captioner's language model in int8.")
  var use8Bit = false

  @Option(
    name: .customLong("lora"),
    help: ArgumentHelp(
      "A LoRA to add; repeatable. The default strength is 1.", valueName: "file[:strength]"))
  var loras: [FileWithStrength] = []

  @Option(help: ArgumentHelp("The training configuration.", valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      "The input tensors, safetensors; for tokenize, caption-processor and caption-text, JSON.",
      valueName: "file"))
  var inputs: String?

  @Option(help: ArgumentHelp("The file of the output tensors, safetensors.", valueName: "file"))
  var output: String

  @Option(help: "The dtype of weights and computation.")
  var dtype: ComputeDType = .float32

  @OptionGroup var compute: ComputeOptions

  func run() throws {
    try compute.apply()
    try compute.require(dtype)
    var options = Probe.Options()
    options.model = model
    options.textEncoder = textEncoder
    options.captionerModel = captionerModel
    options.use8Bit = use8Bit
    options.loras = loras.map(\.lora)
    options.config = config
    options.inputs = inputs
    options.dtype = dtype.dtype
    options.device = compute.device
    let names: SubjectTable = [
      ["model"]: "--model", ["textEncoder"]: "--text-encoder", ["loras"]: "--lora",
      ["captionerModel"]: "--captioner-model", ["configuration"]: "--config",
      ["inputs"]: "--inputs",
    ]
    let outputs = try checkingInput(names) { try Probe.run(component, options) }
    try working { try writeSafetensors(outputs, to: output) }
  }
}
