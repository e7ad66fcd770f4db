// T frames of the spectrogram, C channels.

import LTX
import Torch

/// The initial weights of the vocoder. Most of them are trained; the rest is a synthesizer.
///
/// A spectrogram has no phases, and frames of a steady tone are equal. A convolutional network
/// computes equal outputs from them, so its waveform repeats with every frame: it can only make
/// multiples of 100 Hz. The phase of any other tone needs a sum over all frames since the beginning.
/// The three stages of this vocoder are:
///
/// 1. Analysis, at the rate of the spectrogram. Trained: pitch and the partials' amplitudes.
/// 2. Accumulation, at the same rate. Dilated convolutions with weights of 1 add up the pitch over
///    the last 625 frames.
/// 3. Synthesis, at 16 kHz. Snakes with 1 / β = 64 turn phases into waves: sin²(φ + θ) - sin²(φ - θ)
///    = sin(2φ) sin(2θ), with the amplitude in θ.
///
/// The weights of stages 2 and 3 are exact in bfloat16 and stay as they are.
enum OscillatorVocoder {
  static let kernel = 9
  /// The first one spreads an amplitude over 225 samples, to smooth the steps between frames. Sums
  /// over frames need products of 5 in any order.
  static let dilations = [25, 5, 125]

  static var layout: TinyBandwidthExtendingVocoder {
    var layout = TinyBandwidthExtendingVocoder(fftLength: 128)
    layout.vocoder = .init(
      channels: 128, upsampling: [1, 1, ToneBatch.hop], upsamplingKernels: [1, 1, ToneBatch.hop])
    (layout.vocoder.kernels, layout.vocoder.dilations) = ([kernel], dilations)
    layout.extender = .init(channels: 32, upsampling: [15, 16], upsamplingKernels: [31, 32])
    layout.extender.kernels = [3]
    layout.extenderBins = 32
    // A phase passes seven snakes on its way, and its scale is the tone's pitch.
    layout.filterType = .float32
    return layout
  }

  static var config: String { "{\"vocoder\": \(layout.config)}" }

  /// The channels of the analysis' output, which the synthesizer reads.
  enum Output {
    /// The phase that a frame adds to φ, divided by `pitchUnit`.
    static let pitch = 0
    /// Eight times θ of partial p in channel s: `amplitudes + 2 p + s`.
    static let amplitudes = 8
    static let amplitudeUnit = 0.125
    /// Products with it and with its quotients by powers of 2 are exact.
    static let pitchUnit = 5.0
    /// A pitch in the middle, in `pitchUnit`.
    static let meanPitch = 2.6
  }

  /// Keys of the trained analysis, without the component's prefix.
  static func isAnalysis(_ key: String) -> Bool {
    ["vocoder.conv_pre.", "vocoder.ups.0.", "vocoder.resblocks.0.", "vocoder.ups.1."]
      .contains(where: key.hasPrefix) && !key.hasSuffix("filter")
  }

  /// All tensors below `vocoder`.
  static func initial(seed: UInt64) throws -> [(key: String, tensor: Tensor)] {
    let drawn = RandomWeights.Drawn(
      try Generator(seed: RandomSeed.mix(seed, "vocoder")), purpose: .training)
    let prefix = Checkpoint.Prefix.vocoder
    try layout.draw(RandomWeights(into: drawn) / prefix)
    let fixed = Synthesizer.tensors
    return try drawn.tensors.map { key, tensor in
      let name = String(key.dropFirst(prefix.count + 1))
      if let table = fixed[name] { return (key, try table.tensor(like: tensor)) }
      return (key, try initial(name, tensor, of: drawn.tensors, prefix))
    }
  }

  /// The initial values of a tensor outside the synthesizer.
  private static func initial(
    _ name: String, _ tensor: Tensor, of drawn: [(key: String, tensor: Tensor)], _ prefix: String
  ) throws -> Tensor {
    let scale = AudioVAEModel.deviation
    switch name {
    case "vocoder.conv_pre.weight": return try tensor / scale
    case "vocoder.conv_pre.bias":
      // Together with the division, normalizes log-mel values.
      guard let weight = drawn.first(where: { $0.key == "\(prefix).vocoder.conv_pre.weight" })
      else { return tensor }
      return try weight.tensor.to(.float32).sum([1, 2]) * (-AudioVAEModel.meanLevel / scale)
    case "vocoder.ups.1.weight", "vocoder.ups.1.bias":
      return try readout(name.hasSuffix("bias"), tensor)
    case "bwe_generator.conv_post.weight":
      // The extension begins with no effect.
      return try .zeros(like: tensor)
    default: return tensor
    }
  }

  /// Small random weights [64, 32, 1] of the pitch and the amplitudes, and 0 for the channels that
  /// the synthesizer computes; or the bias.
  private static func readout(_ isBias: Bool, _ tensor: Tensor) throws -> Tensor {
    let width = layout.vocoder.channels / 4
    var values = [Float](repeating: 0, count: width)
    if isBias {
      values[Output.pitch] = Float(Output.meanPitch)
      return try Tensor(values, shape: [width]).to(tensor.dtype)
    }
    for channel in 0..<Synthesizer.thetas { values[Output.amplitudes + channel] = 0.1 }
    values[Output.pitch] = 0.1
    return try tensor * Tensor(values, shape: [1, width, 1]).to(tensor.dtype)
  }
}

/// The fixed weights of the accumulation and of the synthesis.
enum Synthesizer {
  /// The number of amplitudes: one per partial and channel of the audio.
  static let thetas = 2 * TonePartials.ratios.count

  /// The elements of a tensor that aren't 0.
  struct Table {
    var values: [[Int]: Double] = [:]
    /// The value of all other elements.
    var rest = 0.0

    subscript(_ index: Int...) -> Double {
      get { values[index] ?? rest }
      set { values[index] = newValue }
    }

    func tensor(like tensor: Tensor) throws -> Tensor {
      let shape = tensor.shape
      var elements = [Float](repeating: Float(rest), count: shape.reduce(1, *))
      for (index, value) in values {
        elements[zip(index, shape).reduce(0) { $0 * $1.1 + $1.0 }] = Float(value)
      }
      return try Tensor(elements, shape: shape).to(tensor.dtype)
    }
  }

  /// The pitch after each pair of convolutions, which filter it slightly, and its sum.
  private static let copies = [1, 3, 5]
  private static let sums = [2, 4, 6]

  /// The channels of the synthesis: φ, the amplitudes, then left and right.
  private static let phase = 0
  private static let firstTheta = 1
  private static let firstWave = 1 + thetas

  /// The logarithm of a β whose reciprocal is 0: a snake that changes nothing.
  private static let straight = 20.0
  /// The logarithm of 1 / 64 to within bfloat16.
  private static let bent = -4.15625
  private static let gain = 64.0

  /// The partials whose waves each pair of convolutions adds, and the smoothing of their amplitudes.
  private static let waves: [Int: (partials: [Int], smoothing: [Double])] = [
    0: ([0, 1, 2, 3], [1, 2, 3, 4, 5, 4, 3, 2, 1].map { $0 / 25 }),
    2: ([4, 5], [0, 0, 0, 1, 2, 1, 0, 0, 0].map { $0 / 4 }),
  ]

  /// The tables by their names below the vocoder's prefix.
  static var tensors: [String: Table] {
    accumulation.merging(synthesis) { $1 }.merging(ending) { $1 }
  }

  private static var accumulation: [String: Table] {
    var tables: [String: Table] = [:]
    let block = "vocoder.resblocks.1"
    let (center, unit) = (OscillatorVocoder.kernel / 2, OscillatorVocoder.Output.pitchUnit)
    for pair in OscillatorVocoder.dilations.indices {
      let isFirst = pair == 0
      let isLast = pair == OscillatorVocoder.dilations.count - 1
      var first = Table()
      var second = Table()
      // Hidden channel 0 copies the pitch, 1 adds up five frames at the distance of the dilation.
      first[0, isFirst ? OscillatorVocoder.Output.pitch : copies[pair - 1], center] = 1
      second[copies[pair], 0, center] = 1
      for tap in 0...center {
        first[1, isFirst ? OscillatorVocoder.Output.pitch : sums[pair - 1], tap] =
          isFirst ? unit : 1
        // The second convolution of a pair isn't dilated; it adds up five neighbors once.
        if isFirst || tap == center { second[sums[pair], 1, tap] = 1 }
      }
      // The phase in the middle of the frame.
      if isLast { second[sums[pair], 0, center] = -unit / 2 }
      tables["\(block).convs1.\(pair).weight"] = first
      tables["\(block).convs2.\(pair).weight"] = second
      tables.merge(snakes("\(block).acts1.\(pair)", straight)) { $1 }
      tables.merge(snakes("\(block).acts2.\(pair)", straight)) { $1 }
    }
    return tables
  }

  private static var synthesis: [String: Table] {
    var tables: [String: Table] = [:]
    // Between the middles of frames, the phase changes linearly with the frame's own pitch.
    var upsampling = Table()
    let (hop, unit) = (ToneBatch.hop, OscillatorVocoder.Output.pitchUnit)
    for sample in 0..<hop {
      upsampling[sums[2], phase, sample] = 1
      upsampling[copies[2], phase, sample] =
        Double(2 * sample + 1 - hop) * unit / Double(2 * hop)
      for theta in 0..<thetas {
        upsampling[OscillatorVocoder.Output.amplitudes + theta, firstTheta + theta, sample] = 1
      }
    }
    tables["vocoder.ups.2.weight"] = upsampling
    let block = "vocoder.resblocks.2"
    let center = OscillatorVocoder.kernel / 2
    for pair in OscillatorVocoder.dilations.indices {
      var first = Table()
      var second = Table()
      var hidden = 0
      for partial in waves[pair]?.partials ?? [] {
        for channel in 0..<2 {
          for sign in [1.0, -1.0] {
            first[hidden, phase, center] = TonePartials.ratios[partial]
            for (tap, weight) in (waves[pair]?.smoothing ?? []).enumerated() {
              first[hidden, firstTheta + 2 * partial + channel, tap] =
                sign * weight * OscillatorVocoder.Output.amplitudeUnit
            }
            second[firstWave + channel, hidden, center] = sign / gain
            hidden += 1
          }
        }
      }
      tables["\(block).convs1.\(pair).weight"] = first
      tables["\(block).convs2.\(pair).weight"] = second
      tables.merge(snakes("\(block).acts1.\(pair)", straight)) { $1 }
      tables.merge(snakes("\(block).acts2.\(pair)", bent)) { $1 }
    }
    return tables
  }

  private static var ending: [String: Table] {
    var last = Table()
    for channel in 0..<2 {
      // A little emphasis makes up for what the filters of the snakes take from high frequencies.
      last[channel, firstWave + channel, 2] = -0.0625
      last[channel, firstWave + channel, 3] = 1.125
      last[channel, firstWave + channel, 4] = -0.0625
      // A snake also passes its input: θ twice, which isn't part of the wave.
      for partial in TonePartials.ratios.indices {
        last[channel, firstTheta + 2 * partial + channel, 3] =
          -2 * OscillatorVocoder.Output.amplitudeUnit / gain
      }
    }
    return ["vocoder.conv_post.weight": last].merging(snakes("vocoder.act_post", straight)) { $1 }
  }

  /// An activation of frequency 1.
  private static func snakes(_ name: String, _ logBeta: Double) -> [String: Table] {
    ["\(name).act.alpha": Table(), "\(name).act.beta": Table(rest: logBeta)]
  }
}
