import Foundation
import LTX
import Testing

/// A tiny model, and four real clips preprocessed with it, created once for all tests.
final class PreparedTraining: Sendable {
  static let shared = Result { try PreparedTraining() }

  let path: String
  var model: String { "\(path)/model/\(TinyModel.checkpointName)" }
  var textEncoder: String { "\(path)/model/\(TinyModel.textEncoderName)" }
  private let workshop: Workshop

  private init() throws {
    workshop = try Workshop()
    path = workshop.path
    #expect(try Program.run(["tiny-model", "model", "--seed", "3"], in: path).status == 0)
    let rows = try Clips.all().enumerated().map {
      #"{"caption": "clip number \#($0)", "media_path": "\#($1)"}"#
    }
    try workshop.write("dataset.json", "[\(rows.joined(separator: ","))]")
    let result = try Program.run(
      [
        "preprocess", "dataset.json", "--resolution-buckets", "64x64x9", "--model-path", model,
        "--text-encoder-path", textEncoder, "--lora-trigger", "TINY",
      ], in: path)
    #expect(result.status == 0, "\(result.errors)")
  }

  /// Writes a configuration file for a separate run.
  func configure(
    _ name: String, steps: Int, _ more: String = "", batch: Int = 1, accumulation: Int = 1
  ) throws -> String {
    try workshop.write(
      "\(name).yaml",
      """
      model: {model_path: \(model)}
      lora: {rank: 16, alpha: 8, target_modules: [to_q, to_k, to_v, to_out.0, net.0.proj, net.2, proj_out]}
      training_strategy: {name: text_to_video, first_frame_conditioning_p: 0.0}
      optimization: {learning_rate: 1e-2, steps: \(steps), batch_size: \(batch), scheduler_type: constant,
        gradient_accumulation_steps: \(accumulation)}
      acceleration: {mixed_precision_mode: "no"}
      checkpoints: {precision: float32}
      data: {preprocessed_data_root: \(path)}
      output_dir: \(path)/\(name)
      \(more)
      """)
    return "\(path)/\(name).yaml"
  }
}
