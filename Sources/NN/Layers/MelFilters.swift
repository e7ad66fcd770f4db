// M mel frequencies.

import Foundation
import Torch

/// Triangular filters, evenly spaced on the mel scale.
package enum MelFilters {
  /// Slaney's scale: linear below 1000 Hz, logarithmic above; each filter divided by its width.
  ///
  /// - Parameter precision: The dtype of the computation. Filters as narrow as one frequency of the
  ///   spectrum differ by up to a thousandth between float32, which torchaudio uses, and float64,
  ///   which `transformers` uses.
  /// - Returns: [fftLength / 2 + 1, M], float32, from 0 Hz to half the sample rate.
  package static func slaney(
    sampleRate: Int, fftLength: Int, melBins: Int, precision: DType = .float32
  ) throws -> Tensor {
    let highest = Double(sampleRate) / 2
    let frequencies = try Tensor.linspace(
      from: 0, to: Double(sampleRate / 2), steps: fftLength / 2 + 1, dtype: precision)
    let mels = try Tensor.linspace(
      from: 0, to: mel(hertz: highest), steps: melBins + 2, dtype: precision)
    let corners = try hertz(mels)
    let widths = try corners.slice(0, from: 1) - corners.slice(0, to: -1)
    let slopes = try corners.unsqueeze(0) - frequencies.unsqueeze(1)
    let falling = try slopes.slice(1, to: -2).negated() / widths.slice(0, to: -1)
    let rising = try slopes.slice(1, from: 2) / widths.slice(0, from: 1)
    let triangles = try Tensor.minimum(falling, rising).clamped(min: 0)
    let scales = try (corners.slice(0, from: 2) - corners.slice(0, to: melBins)).reciprocal() * 2
    return try (triangles * scales.unsqueeze(0)).to(.float32)
  }

  /// [length], float32: the periodic Hann window.
  package static func hannWindow(_ length: Int) throws -> Tensor {
    let angle =
      try Tensor.arange(to: Scalar(length), dtype: .float32) * (2 * Double.pi / Double(length))
    return try angle.cos() * -0.5 + 0.5
  }

  private static let linearStep = 200.0 / 3
  private static let firstLogarithmic = 1000.0
  private static let firstLogarithmicMel = 1000 / linearStep
  private static let logarithmicStep = log(6.4) / 27

  private static func mel(hertz: Double) -> Double {
    hertz < firstLogarithmic
      ? hertz / linearStep : firstLogarithmicMel + log(hertz / firstLogarithmic) / logarithmicStep
  }

  private static func hertz(_ mels: Tensor) throws -> Tensor {
    let above = try ((mels - firstLogarithmicMel) * logarithmicStep).exp() * firstLogarithmic
    return try Tensor.select(
      where: mels.greaterOrEqual(to: Scalar(firstLogarithmicMel)), above, else: mels * linearStep)
  }
}
