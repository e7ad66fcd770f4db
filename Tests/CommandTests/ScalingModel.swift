import Foundation

/// The predicted time of a training step on several GPUs, by the formulas of docs/scaling.md.
struct ScalingModel {
  /// How weights and gradients are divided.
  enum Plan { case replicated, sharded, hybrid }

  /// Published rates of a machine with eight H100 SXM.
  enum Rates {
    static let gpus = 8
    /// Half of 989 TFLOP/s, dense bfloat16.
    static let products = 0.5 * 989e12
    /// Bytes per second and direction of a GPU's NVLink.
    static let link = 450e9
    /// Bytes per second of a GPU's network adapter: 400 Gb/s.
    static let network = 50e9
    static let memory = 3.35e12
    /// Seconds of a collective for each doubling of the ranks. An assumption.
    static let latency = 10e-6
    /// The GPU memory that a plan may use, as the planner leaves it.
    static let memoryBytes = Int(80e9 / 1.05)
  }

  var plan: Plan
  var blocks: Int
  /// The seconds of a block's forward pass, and of its backward pass with the repeated forward pass.
  var forward: Double
  var backward: Double
  /// The bytes of a block's weights as they are gathered; 0 if they are not.
  var gatheredBytes: Double
  /// The bytes of a block's gradients, float32.
  var gradientBytes: Double
  /// The bytes of the gradients outside of the blocks, which are exchanged at the end.
  var endBytes: Double

  /// The optimizer of a trained element reads 16 bytes (weight, gradient, two moments) and writes 12.
  private static let updateBytesPerGradientByte = 28.0 / 4

  struct Step {
    var seconds: Double
    /// The time of the forward and backward passes alone.
    var compute: Double
    /// The part of the time in which nothing is computed.
    var exposed: Double
    /// The bytes that each rank sends.
    var sentBytes: Double
  }

  /// Gathers `bytes` from all ranks, or scatters them: over NVLink within a machine, and over all
  /// network adapters of a machine between machines.
  static func gather(_ bytes: Double, ranks: Int) -> Double {
    guard ranks > 1 else { return 0 }
    let machines = max(1, ranks / Rates.gpus)
    let within = part(ranks) * bytes / Rates.link
    let between = part(machines) * bytes / (Double(Rates.gpus) * Rates.network)
    return max(within, between) + Rates.latency * log2(Double(ranks))
  }

  static func allReduce(_ bytes: Double, ranks: Int) -> Double { 2 * gather(bytes, ranks: ranks) }

  private static func part(_ ranks: Int) -> Double { Double(ranks - 1) / Double(ranks) }

  func step(ranks: Int) -> Step {
    let (count, local) = (Double(blocks), min(ranks, Rates.gpus))
    let machines = max(1, ranks / Rates.gpus)
    let all = gradientBytes * count + endBytes
    let ends = Self.allReduce(endBytes, ranks: ranks)
    let compute = count * (forward + backward)
    var seconds: Double
    var sent = 2 * Self.part(ranks) * endBytes
    var updated = all
    switch plan {
    case .replicated:
      let sum = Self.allReduce(gradientBytes, ranks: ranks)
      seconds =
        count * forward + max(count * backward + sum, backward + count * sum) + ends
      sent += 2 * Self.part(ranks) * gradientBytes * count
    case .sharded, .hybrid:
      let group = plan == .sharded ? ranks : local
      let gathering = Self.gather(gatheredBytes, ranks: group)
      var scattering = Self.gather(gradientBytes, ranks: group)
      sent += Self.part(group) * (2 * gatheredBytes + gradientBytes) * count
      if plan == .hybrid, machines > 1 {
        let piece = gradientBytes / Double(local)
        scattering +=
          2 * Self.part(machines) * piece / Rates.network
          + 2 * Rates.latency * log2(Double(machines))
        sent += 2 * Self.part(machines) * piece * count
      }
      seconds =
        gathering + (count - 1) * max(forward, gathering) + forward
        + gathering + backward + (count - 1) * max(backward, gathering + scattering) + scattering
        + ends
      updated = gradientBytes * count / Double(group) + endBytes
    }
    let update = updated * Self.updateBytesPerGradientByte / Rates.memory
    return Step(
      seconds: seconds + update, compute: compute, exposed: max(0, seconds - compute),
      sentBytes: sent)
  }
}
