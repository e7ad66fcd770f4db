import NN
import Support

/// The shape of a vocoder, from `config.vocoder` of a checkpoint (ltx-core,
/// `audio_vae/model_configurator.py`).
public struct VocoderConfiguration: Sendable, Equatable {
  /// The activation in residual blocks.
  public enum Activation: Sendable, Equatable {
    /// HiFi-GAN: a leaky rectifier with a slope of 0.1 for negative values.
    case leaky
    /// BigVGAN: x + sin²(αx) / β, at twice the rate to avoid aliasing.
    case snake
  }

  /// The function that maps the last layer's output to -1 ... 1.
  public enum Ending: Sendable, Equatable { case tanh, clamp, none }

  /// A network that turns a mel spectrogram into samples.
  public struct Generator: Sendable, Equatable {
    public var activation: Activation
    public var ending: Ending
    /// Channels before the first upsampling; each one halves them.
    public var initialWidth: Int
    public var upsamplingRates: [Int]
    public var upsamplingKernels: [Int]
    public var residualKernels: [Int]
    /// One list for each residual kernel.
    public var residualDilations: [[Int]]
    public var lastHasBias: Bool

    /// The number of samples per spectrogram frame.
    public var factor: Int { upsamplingRates.reduce(1, *) }
  }

  /// The stage that raises the rate of the first generator's audio and adds the frequencies that it
  /// lacks.
  public struct Extension: Sendable, Equatable {
    public var generator: Generator
    public var inputRate: Int
    public var outputRate: Int
    public var hopLength: Int
    public var fftLength: Int
    public var melBins: Int

    public var ratio: Int { outputRate / inputRate }
  }

  public var generator: Generator
  /// Nil before LTX-2.3.
  public var bandwidthExtension: Extension?
  /// Samples per second of the output.
  public var sampleRate: Int
}

extension VocoderConfiguration {
  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value that is missing, of the wrong type, or not supported.
  public init(_ config: Configuration) throws {
    let vocoder = try config.object("vocoder")
    guard vocoder.has("bwe") else {
      generator = try Generator(vocoder, activation: .leaky)
      sampleRate = try vocoder.positive("output_sampling_rate", default: 24000)
      return
    }
    generator = try Generator(vocoder.object("vocoder"), activation: .snake)
    let bandwidth = try Extension(vocoder.object("bwe"))
    bandwidthExtension = bandwidth
    sampleRate = bandwidth.outputRate
  }
}

extension VocoderConfiguration.Generator {
  init(_ c: Configuration, activation: VocoderConfiguration.Activation) throws {
    let block = activation == .leaky ? "1" : "AMP1"
    let kind = try c.string("resblock")
    guard kind == block else {
      throw c.error("resblock", "is \"\(kind)\"; only \"\(block)\" is supported here")
    }
    guard try c.bool("stereo") else {
      throw c.error("stereo", "is false; only stereo is supported")
    }
    if activation == .snake {
      let name = try c.string("activation")
      guard name == "snakebeta" else {
        throw c.error("activation", "is \"\(name)\"; only snakebeta is supported")
      }
    }
    self.activation = activation
    ending = try c.bool("use_tanh_at_final", default: true) ? .tanh : .clamp
    lastHasBias = try c.bool("use_bias_at_final", default: true)
    initialWidth = try c.positive("upsample_initial_channel", default: 1024)
    upsamplingRates = try c.factors("upsample_rates", default: [6, 5, 2, 2, 2])
    upsamplingKernels = try c.factors("upsample_kernel_sizes", default: [16, 15, 8, 4, 4])
    guard upsamplingKernels.count == upsamplingRates.count,
      zip(upsamplingKernels, upsamplingRates).allSatisfy({ $0 >= $1 && ($0 - $1).isMultiple(of: 2) }
      )
    else {
      throw c.error(
        "upsample_kernel_sizes",
        "is \(upsamplingKernels); it must have a number for each of upsample_rates \(upsamplingRates), larger by an even number"
      )
    }
    guard
      upsamplingRates.reduce(1, { min($0 * $1, Configuration.maxSize + 1) })
        <= Configuration.maxSize
    else {
      throw c.error(
        "upsample_rates",
        "multiply to more than \(Configuration.maxSize) samples for a spectrogram frame; the configuration is damaged"
      )
    }
    guard upsamplingRates.count < 16, initialWidth.isMultiple(of: 1 << upsamplingRates.count) else {
      throw c.error(
        "upsample_initial_channel",
        "is \(initialWidth), which can't be halved \(upsamplingRates.count) times"
      )
    }
    residualKernels = try c.factors("resblock_kernel_sizes", default: [3, 7, 11])
    guard residualKernels.allSatisfy({ !$0.isMultiple(of: 2) }) else {
      throw c.error("resblock_kernel_sizes", "is \(residualKernels); they must be odd")
    }
    let fallback = [1, 3, 5] as JSON
    residualDilations = try c.array(
      "resblock_dilation_sizes", default: Array(repeating: fallback, count: residualKernels.count)
    ).map { item in
      guard case .array(let numbers) = item else { return [] }
      return numbers.compactMap { number in
        number.int.flatMap { (1...4096).contains($0) ? $0 : nil }
      }
    }
    guard residualDilations.count == residualKernels.count,
      residualDilations.allSatisfy({ $0.count == 3 })
    else {
      throw c.error(
        "resblock_dilation_sizes",
        "must be a list of three positive integers for each of resblock_kernel_sizes")
    }
  }
}

extension VocoderConfiguration.Extension {
  init(_ c: Configuration) throws {
    generator = try VocoderConfiguration.Generator(c, activation: .snake)
    // Its output is added to the audio.
    generator.ending = .none
    inputRate = try c.positive("input_sampling_rate")
    outputRate = try c.positive("output_sampling_rate")
    hopLength = try c.positive("hop_length", upTo: AudioVAEConfiguration.maxWindow)
    fftLength = try c.positive("n_fft", upTo: AudioVAEConfiguration.maxWindow)
    melBins = try c.positive("num_mels", upTo: AudioVAEConfiguration.maxMelBins)
    guard outputRate.isMultiple(of: inputRate) else {
      throw c.error(
        "output_sampling_rate", "is \(outputRate); it must be a multiple of \(inputRate)")
    }
    guard fftLength.isMultiple(of: 2), fftLength >= hopLength else {
      throw c.error(
        "n_fft", "is \(fftLength); it must be even and at least hop_length, \(hopLength)")
    }
    guard generator.factor == hopLength * ratio else {
      throw c.error(
        "upsample_rates",
        "multiply to \(generator.factor), but \(hopLength) samples must become \(hopLength * ratio)"
      )
    }
  }
}

extension Configuration {
  /// A list of small positive integers.
  fileprivate func factors(_ key: String, default fallback: [Int]) throws -> [Int] {
    try ints(key, default: fallback, in: 1...4096, count: 1...16)
  }
}
