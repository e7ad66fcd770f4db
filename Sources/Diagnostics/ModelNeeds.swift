import Support
import Torch

/// The memory that LTX-2.3 needs, for the first question of a new user.
///
/// The numbers are the predicted peaks of docs/benchmarks.md at 960x544x49, plus 1 GB for CUDA
/// itself and its libraries. A dry run of training predicts those of a given run.
enum ModelNeeds {
  private static let needs: [(name: String, gigabytes: Double)] = [
    ("text features with an 8-bit text encoder", 15.2),
    ("text features", 25.9),
    ("a LoRA with int8-quanto and 8-bit AdamW", 28.3),
    ("generation of video", 29.1),
    ("a LoRA in bfloat16", 49.3),
  ]

  static func check(_ device: Device, _ gpu: GPU) -> Check {
    let available = Double(gpu.totalBytes) / 1e9 - 1
    func list(_ fits: Bool) -> String {
      needs.filter { ($0.gigabytes <= available) == fits }
        .map { "\($0.name) (\(rounded($0.gigabytes)) GB)" }.joined(separator: ", ")
    }
    let (fitting, others) = (list(true), list(false))
    var text = "LTX-2.3 at 960x544x49 with all weights on the GPU, predicted: "
    text += fitting.isEmpty ? "nothing fits" : "fits \(fitting)"
    if !others.isEmpty { text += "; does not fit \(others)" }
    return Check(
      "\(device) models", others.isEmpty ? .ok : .note, text,
      remedy: others.isEmpty
        ? nil
        : "Weights can be streamed from host memory, and smaller clips need less; a dry run "
          + "predicts yours",
      values: ["fits": .array(needs.filter { $0.gigabytes <= available }.map { .string($0.name) })])
  }
}
