import Support
import Torch

/// The memory that LTX-2.3 needs, for the first question of a new user.
///
/// The numbers are the peaks of docs/benchmarks.md at 960x544x49, counted on the pretend GPU, plus
/// 1 GB for CUDA itself and its libraries. A dry run of training predicts those of a given run.
enum ModelNeeds {
  private struct Need {
    let name: String
    /// Gigabytes with all weights on the GPU.
    let resident: Double
    /// Gigabytes with streamed weights; nil if they were not counted.
    var streamed: Double?
  }

  private static let needs = [
    Need(name: "text features", resident: 23.9, streamed: 3.5),
    Need(name: "a LoRA with nf4 and 8-bit AdamW", resident: 19.7),
    Need(name: "a LoRA with int8-quanto and 8-bit AdamW", resident: 24.0),
    Need(name: "a LoRA in bfloat16", resident: 44.8, streamed: 9.2),
    Need(name: "generation of video", resident: 27.4, streamed: 11.3),
    Need(name: "generation with audio", resident: 39.6),
  ]

  static func check(_ device: Device, _ gpu: GPU) -> Check {
    let available = Double(gpu.totalBytes) / 1e9 - 1
    func list(_ needs: [(name: String, gigabytes: Double)]) -> String {
      needs.map { "\($0.name) (\(rounded($0.gigabytes)) GB)" }.joined(separator: ", ")
    }
    let resident = needs.filter { $0.resident <= available }
    let others = needs.filter { $0.resident > available }
    let streamed = others.filter { ($0.streamed ?? .infinity) <= available }
    let rest = others.filter { ($0.streamed ?? .infinity) > available }
    let parts = [
      resident.isEmpty ? "" : "fits \(list(resident.map { ($0.name, $0.resident) }))",
      streamed.isEmpty
        ? "" : "fits with streamed weights: \(list(streamed.map { ($0.name, $0.streamed ?? 0) }))",
      rest.isEmpty ? "" : "does not fit \(list(rest.map { ($0.name, $0.resident) }))",
    ]
    return Check(
      "\(device) models", rest.isEmpty ? .ok : .note,
      "LTX-2.3 at 960x544x49, predicted: \(parts.filter { !$0.isEmpty }.joined(separator: "; "))",
      remedy: rest.isEmpty
        ? nil : "Smaller clips need less; a dry run of training predicts yours",
      values: [
        "fits": .array(resident.map { .string($0.name) }),
        "fits_streamed": .array(streamed.map { .string($0.name) }),
      ])
  }
}
