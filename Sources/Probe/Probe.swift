import Foundation
import LoRAFiles
import Support
import TensorFiles
import Torch

/// Runs one component of the models on given tensors, for `ltx probe`.
///
/// It calls the same code as training and generation, with no implementation of its own.
public struct Probe {
  public struct Options: Sendable {
    public var model: String?
    public var textEncoder: String?
    /// The model folder of a captioner.
    public var captionerModel: String?
    /// Whether the captioner's language model has int8 weights.
    public var use8Bit = false
    public var loras: [LoRARef] = []
    public var config: String?
    public var inputs: String?
    public var dtype: DType = .float32
    public var device: Device = .cpu

    public init() {}

    /// - Throws: `Issue` that names the option if it was not given.
    func requireModel() throws -> String {
      guard let model else { throw Issue(["model"], "is missing, but this component needs it") }
      return model
    }

    func requireTextEncoder() throws -> String {
      guard let textEncoder else {
        throw Issue(["textEncoder"], "is missing, but this component needs it")
      }
      return textEncoder
    }

    func requireCaptionerModel() throws -> String {
      guard let captionerModel else {
        throw Issue(["captionerModel"], "is missing, but this component needs it")
      }
      return captionerModel
    }
  }

  typealias Component = @Sendable (Options, ProbeInputs) throws -> [(key: String, tensor: Tensor)]

  private static let components: [(name: String, run: Component)] = [
    ("tokenize", probeTokenize),
    ("text-encoder", probeTextEncoder),
    ("connectors", probeConnectors),
    ("positions", probePositions),
    ("rope", probeRope),
    ("transformer", probeTransformer),
    ("lora-gradients", probeLoRAGradients),
    ("fuse-loras", probeFuseLoRAs),
    ("video-vae-encode", probeVideoVAEEncode),
    ("video-vae-decode", probeVideoVAEDecode),
    ("upsample", probeUpsample),
    ("audio-vae-encode", probeAudioVAEEncode),
    ("audio-vae-decode", probeAudioVAEDecode),
    ("sigmas", probeSigmas),
    ("conditioning", probeConditioning),
    ("denoise", probeDenoise),
    ("duration", probeDuration),
    ("timestep-sampler", probeTimestepSampler),
    ("training-inputs", probeTrainingInputs),
    ("training-run", probeTrainingRun),
    ("checkpoint", probeCheckpoint),
    ("caption-processor", probeCaptionProcessor),
    ("caption-towers", probeCaptionTowers),
    ("caption-logits", probeCaptionLogits),
    ("caption-generate", probeCaptionGenerate),
    ("caption-text", probeCaptionText),
  ]

  /// The components that read JSON themselves; all others read tensors.
  private static let componentsOfJSON: Set = ["tokenize", "caption-processor", "caption-text"]

  public static var componentNames: [String] { components.map(\.name) }

  /// Runs a component and returns its outputs as float32 and int64 on the CPU.
  public static func run(_ name: String, _ options: Options) throws -> [(
    key: String, tensor: Tensor
  )] {
    guard let component = components.first(where: { $0.name == name }) else {
      throw Issue(
        "\(name) is not a component; the components are \(componentNames.joined(separator: ", "))"
      )
    }
    try options.device.prepare()
    let inputs = try ProbeInputs(path: componentsOfJSON.contains(name) ? nil : options.inputs)
    let outputs = try component.run(options, inputs)
    try inputs.requireAllUsed()
    return try outputs.map { key, tensor in
      (
        key: key,
        tensor: try tensor.detach().to(.cpu, tensor.dtype.isFloatingPoint ? .float32 : .int64)
      )
    }
  }
}
