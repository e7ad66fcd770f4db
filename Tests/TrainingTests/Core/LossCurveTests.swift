import Foundation
import TestSupport
import Testing
import Torch

@testable import Training

/// A recorded loss curve. A change that must not affect results keeps it unchanged, to the bit on
/// the kind of machine that it was recorded on.
///
/// To record it again after a change that affects results: `LTX_RECORD_LOSS_CURVE=1 ./test --filter
/// LossCurveTests`.
@Suite struct LossCurveTests {
  /// The parts of the machine that the bits depend on: the processor, libraries and threads.
  private struct Machine: Codable, Equatable {
    var processor: [String: String]
    var libtorch: String
    var threads: Int

    static func here() -> Machine {
      var processor: [String: String] = [:]
      let text = FileManager.default.contents(atPath: "/proc/cpuinfo") ?? Data()
      for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
        let parts = line.split(separator: ":", maxSplits: 1).map {
          $0.trimmingCharacters(in: .whitespaces)
        }
        guard parts.count == 2 else { continue }
        switch parts[0] {
        case "vendor_id", "cpu family", "model", "model name": processor[parts[0]] = parts[1]
        case "flags":
          let flags = Set(parts[1].split(separator: " ").map(String.init))
          processor["vector instructions"] =
            ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile"].filter(flags.contains).joined(
              separator: " ")
        default: break
        }
      }
      return Machine(processor: processor, libtorch: LibTorch.version, threads: Threads.count)
    }
  }

  private struct Curve: Codable {
    var machine: Machine
    var losses: [Double]
    var gradientNorms: [Double]
    var learningRates: [Double]
    /// FNV-1a over the bits of all adapters after the last step.
    var checksum: String
    /// The 2-norm of all adapters after the last step.
    var norm: Double
  }

  private static let path = Fixtures.root + "/loss-curve/tiny.json"

  private static func train() throws -> Curve {
    let synthetic = try SyntheticRun((0..<5).map { $0 < 3 ? .init() : .other }, seed: 7)
    var c = synthetic.configuration(Strategies.everything, batch: 2, steps: 20)
    c.optimization.maxGradNorm = 1
    c.optimization.schedulerType = .cosine
    let trainer = try Trainer(c)
    var curve = Curve(
      machine: .here(), losses: [], gradientNorms: [], learningRates: [], checksum: "", norm: 0)
    var events = TrainingEvents()
    events.stepped = {
      curve.losses.append($0.loss)
      curve.gradientNorms.append($0.gradientNorm)
      curve.learningRates.append($0.learningRate)
    }
    _ = try trainer.run(events)
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    var squares = 0.0
    for parameter in trainer.parameters {
      for number in try parameter.tensor.array(of: Float.self) {
        hash = (hash ^ UInt64(number.bitPattern)) &* 0x100_0000_01b3
        squares += Double(number) * Double(number)
      }
    }
    curve.checksum = String(hash, radix: 16)
    curve.norm = squares.squareRoot()
    return curve
  }

  @Test func isAsRecorded() throws {
    let curve = try Self.train()
    if ProcessInfo.processInfo.environment["LTX_RECORD_LOSS_CURVE"] != nil {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      try FileManager.default.createDirectory(
        atPath: (Self.path as NSString).deletingLastPathComponent, withIntermediateDirectories: true
      )
      try (encoder.encode(curve) + Data("\n".utf8)).write(to: URL(fileURLWithPath: Self.path))
    }
    let recorded = try JSONDecoder().decode(
      Curve.self, from: Data(contentsOf: URL(fileURLWithPath: Self.path)))
    #expect(recorded.losses.count == 20)
    #expect(curve.losses.count == 20)
    if curve.machine == recorded.machine {
      #expect(curve.losses == recorded.losses)
      #expect(curve.gradientNorms == recorded.gradientNorms)
      #expect(curve.learningRates == recorded.learningRates)
      #expect(curve.checksum == recorded.checksum)
    } else {
      func expectNear(_ got: [Double], _ want: [Double], _ tolerance: Double, _ name: String) {
        for (step, (a, b)) in zip(got, want).enumerated() {
          #expect(abs(a / b - 1) <= tolerance, "\(name) of step \(step + 1): \(a), recorded \(b)")
        }
      }
      expectNear(curve.losses, recorded.losses, 1e-5, "loss")
      expectNear(curve.gradientNorms, recorded.gradientNorms, 1e-4, "gradient norm")
      expectNear([curve.norm], [recorded.norm], 1e-5, "norm of the adapters")
      #expect(curve.learningRates.elementsEqual(recorded.learningRates) { abs($0 - $1) <= 1e-15 })
    }
  }
}
