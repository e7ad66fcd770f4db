import LTX
import Torch

/// What to generate. Together with the models it decides every byte of the result.
public struct GenerationRequest: Sendable {
  public var prompt: String
  /// What the video should not look like; read only where classifier-free guidance is on.
  public var negativePrompt = defaultNegativePrompt
  /// In pixels: multiples of what one latent cell stands for.
  public var width = 768
  public var height = 512
  /// Pixel frames: `8k + 1` where a latent frame stands for 8.
  public var frames = 121
  /// Frames per second.
  public var frameRate = 24.0
  public var steps = 40
  public var guidance = defaultGuidance
  /// Blocks whose self-attention spatio-temporal guidance leaves out; nil for the one that the reference uses.
  public var stgBlocks: Set<Int>?
  public var seed: UInt64 = 10
  /// Pictures that frames should look like.
  public var images: [ImageCondition] = []

  public init(prompt: String) { self.prompt = prompt }

  public static let defaultNegativePrompt =
    "blurry, low resolution, overexposed, underexposed, faded colours, noise, flicker, shaky camera, jerky motion, "
    + "distorted anatomy, deformed hands, deformed face, cartoon, subtitles, watermark, compression artefacts"

  /// The video guidance of ltx-pipelines for LTX-2.
  public static let defaultGuidance: Guidance = {
    var guidance = Guidance()
    guidance.cfg = 3
    guidance.stg = 1
    guidance.rescale = 0.7
    return guidance
  }()

  /// The block that spatio-temporal guidance leaves out unless told otherwise: 29 of LTX-2's 48, and the one at the same
  /// depth in a transformer of another one.
  public static func defaultSTGBlock(of blocks: Int) -> Int { blocks * 29 / 48 }
}

/// A picture that one frame of the video should look like.
public struct ImageCondition: Sendable {
  public var path: String
  /// The pixel frame. At 0 the picture takes the first frame's place; elsewhere it is shown to the model beside the video.
  public var frame: Int
  /// 0 (none) to 1 (the picture itself).
  public var strength: Double

  public init(path: String, frame: Int = 0, strength: Double = 1) {
    self.path = path
    self.frame = frame
    self.strength = strength
  }
}

/// What to generate with.
public struct GenerationModels: Sendable {
  /// A file of low-rank adapters and how much of it to add; 0 is the same as leaving it out.
  public struct LoRA: Sendable {
    public var path: String
    public var strength: Double

    public init(path: String, strength: Double = 1) {
      self.path = path
      self.strength = strength
    }
  }

  public var checkpoint: String
  /// The folder of the language model that reads prompts.
  public var textEncoder: String
  /// Stacked in this order.
  public var loras: [LoRA] = []
  public var device = Device.cpu
  /// What models compute in.
  public var dtype: DType

  /// - Parameter dtype: nil takes bfloat16, the reference's, on GPUs, and float32 on CPUs, few of which are fast in
  ///   bfloat16.
  public init(
    checkpoint: String, textEncoder: String, loras: [LoRA] = [], device: Device = .cpu, dtype: DType? = nil
  ) {
    self.checkpoint = checkpoint
    self.textEncoder = textEncoder
    self.loras = loras
    self.device = device
    self.dtype = dtype ?? (device == .cpu ? .float32 : .bfloat16)
  }
}

/// A request that can't be fulfilled, found before any model is loaded.
public struct GenerationError: Error, Equatable, CustomStringConvertible, Sendable {
  /// The options of `ltx generate`, which the values of a request go by.
  public enum Option: String, Sendable {
    case prompt, output, width, height, steps, image, lora
    case frames = "num-frames"
    case frameRate = "frame-rate"
    case cfg = "cfg-scale"
    case stg = "stg-scale"
    case stgBlocks = "stg-blocks"
    case rescale = "rescale"
    case checkpoint = "model-path"
    case textEncoder = "text-encoder-path"
  }

  public let option: Option
  /// What is wrong and what to do, to be read after the option's name.
  public let problem: String

  init(_ option: Option, _ problem: String) {
    self.option = option
    self.problem = problem
  }

  public var description: String { "--\(option.rawValue): \(problem)" }
}
