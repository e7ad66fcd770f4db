import Foundation

extension DemoScene {
  /// The fundamental frequency at a fraction of the clip's time, in hertz: one octave per frame
  /// height around the middle of the path.
  public func frequency(at time: Double) -> Double {
    baseFrequency * exp2(DemoMotion(self).rise(time))
  }

  /// The frequency in the middle of the path.
  private var baseFrequency: Double {
    var random = DemoRandom(seed: seed, purpose: .tone)
    return (size == .large ? 247 : 587) * random.uniform(0.97, 1.03)
  }

  /// The tone that follows the motion: height gives pitch, speed gives volume, the horizontal
  /// position gives the balance between left and right.
  ///
  /// - Returns: Two channels of samples, from -1 to 1. The motion always fills the clip.
  public func audio(
    seconds: Double = seconds, sampleRate: Int = sampleRate
  ) -> [[Float]] {
    let count = Int((seconds * Double(sampleRate)).rounded())
    guard count > 0 else { return [[], []] }
    let base = baseFrequency
    let motion = DemoMotion(self)
    let partials = Timbre(style)
    var left = [Float](repeating: 0, count: count)
    var right = left
    var phase = 0.0
    // The path is read once per step, and a step has a constant pitch and volumes that change
    // linearly.
    let step = max(1, sampleRate / 2000)
    var volume = volumes(motion, 0)
    for first in stride(from: 0, to: count, by: step) {
      let end = min(count, first + step)
      let time = (Double(first) + Double(step) / 2) / Double(count)
      let cycles = base * exp2(motion.rise(time)) / Double(sampleRate)
      let next = volumes(motion, Double(end) / Double(count))
      for place in first..<end {
        let part = Double(place - first) / Double(end - first)
        let value = partials.value(phase)
        left[place] = Float(value * (volume.left + (next.left - volume.left) * part))
        right[place] = Float(value * (volume.right + (next.right - volume.right) * part))
        phase += cycles
      }
      volume = next
    }
    return [left, right]
  }

  /// The volumes of both channels, for equal power at all positions.
  private func volumes(_ motion: DemoMotion, _ time: Double) -> (left: Double, right: Double) {
    // Short fades at both ends avoid clicks.
    let fade = min(1, min(time, 1 - time) * 50)
    let volume = 0.55 * fade * (0.15 + 0.85 * motion.relativeSpeed(time))
    let balance = min(1, max(0, 0.5 + 0.8 * (motion.position(time).x - 0.5)))
    return (volume * cos(balance * .pi / 2), volume * sin(balance * .pi / 2))
  }
}

/// The partials of a style's tone. The fundamental is always the strongest.
private struct Timbre {
  private let second: (ratio: Double, level: Double)
  private let third: (ratio: Double, level: Double)
  private let scale: Double

  init(_ style: DemoScene.Style) {
    switch style {
    case .plain: (second, third) = ((2, 0.3), (3, 0.15))
    case .sketch: (second, third) = ((3, 0.55), (5, 0.35))
    // The partials of a bar that is struck.
    case .snow: (second, third) = ((2.756, 0.5), (5.404, 0.3))
    }
    scale = 1 / (1 + second.level + third.level)
  }

  /// The waveform at a phase in cycles of the fundamental.
  func value(_ phase: Double) -> Double {
    let cycle = 2 * Double.pi * phase
    return scale
      * (sin(cycle) + second.level * sin(cycle * second.ratio)
        + third.level * sin(cycle * third.ratio))
  }
}
