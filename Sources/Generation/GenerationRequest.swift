import LTX
import LoRAFiles
import NN
import Torch

/// A generation request. Together with the models, it determines every byte of the result.
///
/// Values that aren't set come from the model (see `GenerationDefaults`) or, when a whole video is
/// edited, from that video.
public struct GenerationRequest: Sendable {
  /// The prompts; each gives one result.
  public var prompts: [String]
  /// The negative prompt; used only with classifier-free guidance.
  public var negativePrompt = defaultNegativePrompt
  /// The size in pixels: multiples of the compression factors.
  public var width: Int?
  public var height: Int?
  /// The number of pixel frames: `8k + 1` if a latent frame holds 8.
  public var frames: Int?
  /// The range in which the model chooses the number of frames, instead of `frames`.
  public var duration: AutomaticDuration?
  /// Frames per second.
  public var frameRate: Double?
  /// Whether audio is generated too, if the output can hold it.
  public var hasAudio = true
  /// Whether the model is distilled: fixed noise levels, no guidance.
  public var isDistilled = false
  public var steps: Int?
  public var method = Sampler.Method.euler
  public var guidance = PerModality(video: GuidanceChoice(), audio: GuidanceChoice())
  /// The seed, the same for every prompt.
  public var seed: UInt64 = 10
  /// The conditions on the result, in the order in which they are applied.
  public var conditions: [Condition<MediaFile>] = []
  /// The strength of the attention between the video and its references, 0 to 1.
  public var referenceAttention = 1.0
  /// Frames that the first stage generates in addition to the video.
  public var generatedKeyframes = GeneratedKeyframes.count(0)
  /// LTX-2.5's detailing recipe: keyframes at the ends of segments of 24 or 32 frames that both
  /// stages refine, and rounds that each double the frame rate; nil without it.
  public var detailingRounds: Int?
  /// The steps of a diffusion decoder; nil for the model's own number.
  public var decoderSteps: Int?

  public init(prompts: [String]) { self.prompts = prompts }

  public static let defaultNegativePrompt =
    "blurry, low resolution, overexposed, underexposed, faded colours, noise, flicker, shaky camera, jerky motion, "
    + "distorted anatomy, deformed hands, deformed face, cartoon, subtitles, watermark, compression artefacts, "
    + "muffled sound, distorted voice, robotic voice, echo, hiss, sound out of step with the picture"
}

/// The guidance of one modality; nil values are the model's defaults.
public struct GuidanceChoice: Sendable {
  public var cfg: Double?
  public var stg: Double?
  public var modality: Double?
  public var rescale: Double?
  public var skipSteps: Int?
  public var stgBlocks: Set<Int>?

  public init() {}
}

/// The models of a generation.
public struct GenerationModels: Sendable {
  /// The checkpoint, and the language model that reads prompts.
  public var files: ModelFiles
  /// Quantizes the language model's weights to int8: half the memory of bfloat16.
  public var textEncoder8bit = false
  package var textEncoderStorage: WeightStorage { textEncoder8bit ? .int8 : .asStored }
  /// Quantizes the matrices of the transformer while they are loaded; those that are quantized in
  /// the file stay in its format.
  public var quantization: BaseQuantization?
  /// The LoRAs, applied in this order.
  public var loras: [LoRARef] = []
  /// Fuses LoRAs into the weights while they are loaded, which makes steps faster, instead of
  /// keeping them separate, which rounds less.
  public var fusesLoRAs = false
  /// A spatial latent upsampler: the video is generated at a smaller size, then upsampled and
  /// refined.
  public var upsampler: String?
  /// The distilled LoRA for the refining stage, which has few steps and no guidance.
  public var distilledLoRA: String?
  /// An IC-LoRA for the refining stage of the detailing recipe, whose reference is the first
  /// stage's video.
  public var detailingLoRA: LoRARef?
  /// The temporal latent upsampler of the detailing recipe's rounds.
  public var temporalUpsampler: String?
  /// The strength of the distilled LoRA in the refining stage, and in the first one; nil means the
  /// values in `GenerationDefaults`.
  public var distilledStrength: Double?
  public var distilledFirstStageStrength: Double?
  public var device = Device.cpu
  /// The memory of the transformer and of the language model.
  public var memory = MemorySettings()
  /// The dtype that models compute in.
  public var dtype: DType

  /// - Parameter dtype: nil means bfloat16, like upstream, on GPUs, and float32 on CPUs, few of
  ///   which are fast in bfloat16.
  public init(
    _ files: ModelFiles, loras: [LoRARef] = [], device: Device = .cpu, dtype: DType? = nil
  ) {
    self.files = files
    self.loras = loras
    self.device = device
    self.dtype = dtype ?? (device == .cpu ? .float32 : .bfloat16)
  }
}
