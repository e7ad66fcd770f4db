// B batch, C channels, N samples.

import Foundation
import Support
import Torch

/// Changes the sample rate of audio: a sinc below the lower rate's limit in a Hann window
/// (torchaudio, `functional/functional.py`, `resample` with its default settings).
public enum SincResampler {
  /// Zero crossings of the sinc on either side.
  static let width = 6.0
  /// The cutoff frequency, relative to the lower rate's limit.
  static let rolloff = 0.99
  static let highestRate = 10_000_000
  /// The max size of a table with one filter per phase; larger tables are not built.
  static let largestTable = 1 << 23

  /// - Parameter waveform: [B, C, N], float32
  /// - Returns: [B, C, ceil(N * new / old)]; the waveform itself if the rates are equal.
  /// - Throws: `Issue` for rates that aren't positive.
  public static func resample(_ waveform: Tensor, from old: Int, to new: Int) throws -> Tensor {
    try resample(waveform, from: old, to: new, largestTable: largestTable)
  }

  static func rateIssue(_ rate: Int) -> Issue {
    Issue(
      ["sampleRate"], "must be between 1 and \(highestRate) samples per second (got \(rate))")
  }

  static func resample(
    _ waveform: Tensor, from old: Int, to new: Int, largestTable: Int
  ) throws -> Tensor {
    for rate in [old, new] where !(1...highestRate).contains(rate) {
      throw SincResampler.rateIssue(rate)
    }
    if old == new { return waveform }
    let divisor = gcd(old, new)
    let (step, phases) = (old / divisor, new / divisor)
    let shape = waveform.shape
    let samples = shape[shape.count - 1]
    // Upstream rounds the length as a float32.
    let length = Int(Float(Double(phases * samples) / Double(step)).rounded(.up))
    let limit = Double(min(step, phases)) * rolloff
    let reach = Int((width * Double(step) / limit).rounded(.up))
    let rows = try waveform.reshape([-1, 1, samples]).pad([reach, reach + step])
    let filtered =
      phases * (2 * reach + step) <= largestTable
      ? try convolve(rows, step: step, phases: phases, reach: reach, limit: limit)
      : try gather(rows, step: step, phases: phases, reach: reach, limit: limit, length: length)
    let kept = min(length, filtered.size(1))
    return try filtered.slice(1, to: kept).reshape(Array(shape.dropLast()) + [kept])
  }

  /// A single convolution, whose output channels are the phases of the outputs between two inputs.
  ///
  /// - Parameter rows: [rows, 1, samples with padding]
  private static func convolve(
    _ rows: Tensor, step: Int, phases: Int, reach: Int, limit: Double
  ) throws -> Tensor {
    let taps = try Tensor.arange(
      from: Scalar(-reach), to: Scalar(reach + step), dtype: .float32, device: rows.device)
    let places = try Tensor.arange(
      from: 0, to: Scalar(-phases), step: -1, dtype: .float32, device: rows.device)
    let times = try places.unsqueeze(-1) / Double(phases) + (taps / Double(step)).unsqueeze(0)
    return try rows.conv1d(filter(times, limit: limit, step: step).unsqueeze(1), stride: [step])
      .transpose(1, 2).flatten(from: 1)
  }

  /// The same for rates with almost no common divisor, where a table of all filters would be very
  /// large: each output's filter is computed separately.
  private static func gather(
    _ rows: Tensor, step: Int, phases: Int, reach: Int, limit: Double, length: Int
  ) throws -> Tensor {
    let flat = try rows.squeeze(1)
    let offsets = try Tensor.arange(to: Scalar(2 * reach + 2), device: rows.device)
    let chunk = 1 << 16
    let parts = try stride(from: 0, to: length, by: chunk).map { first in
      let outputs = Array(first..<min(first + chunk, length))
      // Output n is `remainder / phases` after the input at `whole`, which padding has moved by
      // `reach`.
      let whole = try Tensor(outputs.map { $0 * step / phases }).to(rows.device).unsqueeze(-1)
      let after = outputs.map { Double($0 * step % phases) / Double(phases) }
      let taps = try offsets.to(.float64) - Double(reach)
      let times =
        try (taps.unsqueeze(0) - Tensor(after).to(rows.device).unsqueeze(-1)) / Double(step)
      let filters = try filter(times, limit: limit, step: step).to(.float32)
      let inputs = try flat.indexSelect(1, (whole + offsets).flatten())
        .reshape([-1, outputs.count, 2 * reach + 2])
      return try (inputs * filters).sum([-1])
    }
    return try Tensor.cat(parts, 1)
  }

  /// A sinc in a Hann window.
  ///
  /// - Parameters:
  ///   - times: The distances of inputs from an output, in units of `step` inputs.
  ///   - limit: The cutoff, in the same unit.
  static func filter(_ times: Tensor, limit: Double, step: Int) throws -> Tensor {
    let t = try (times * limit).clamped(min: Scalar(-width), max: Scalar(width))
    let window = try (t * Double.pi / width / 2).cos().square()
    let angle = try t * Double.pi
    let sinc = try Tensor.select(
      where: angle.equal(to: 0), Tensor.ones([1], dtype: t.dtype, device: t.device),
      else: angle.sin() / angle
    )
    return try sinc * (window * (limit / Double(step)))
  }

  private static func gcd(_ a: Int, _ b: Int) -> Int { b == 0 ? a : gcd(b, a % b) }
}
