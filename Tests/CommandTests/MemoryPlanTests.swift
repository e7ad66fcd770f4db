import Foundation
import LTX
import TestSupport
import Testing

/// Planned runs with four blocks of LTX-2.3 at their real widths, on a pretend GPU that computes
/// nothing large: the peak stays in the budget and is the predicted one, or the run is refused
/// before anything is loaded.
@Suite(.serialized) struct MemoryPlanTests {
  private static let workshop = Result {
    let workshop = try Workshop()
    try FullSizeModel.writeCheckpoint(to: workshop.path, blocks: 4)
    try FullSizeCache.write(to: "\(workshop.path)/cache", size: .small, samples: 2)
    try workshop.write(
      "run.yaml",
      """
      model: {model_path: \(workshop.path)/\(FullSizeModel.checkpointName)}
      lora: {rank: 32, alpha: 32, target_modules: [to_q, to_k, to_v, to_out.0]}
      training_strategy: {name: text_to_video, with_audio: true, first_frame_conditioning_p: 0.0}
      optimization: {steps: 1, batch_size: 1}
      checkpoints: {save_training_state: "off"}
      tensorboard: {enabled: false}
      report: {enabled: false}
      data: {preprocessed_data_root: \(workshop.path)/cache}
      output_dir: \(workshop.path)/out
      """)
    return workshop
  }

  private func train(
    _ budget: Int, _ settings: [String] = []
  ) throws -> (result: Program.Result, report: PretendGPU.Report) {
    let workshop = try Self.workshop.get()
    let settings = settings + ["acceleration.memory=\(budget)MB"]
    return try PretendGPU.run(
      ["train", "run.yaml", "--device", "cuda", "--overwrite"]
        + settings.flatMap { ["--set", $0] },
      in: workshop.path, bytes: budget * 1_000_000, environment: ["PRETEND_GPU_NULL": "1"])
  }

  @Test(arguments: [9000, 6000, 4600]) func thePeakIsThePredictedOne(budget: Int) throws {
    let (result, report) = try train(budget)
    try #require(result.status == 0, "\(result.errors)")
    let peak = Double(report.devices[0].peakBytes)
    #expect(peak <= Double(budget) * 1e6)
    let match = try #require(
      result.errors.firstMatch(of: /training +([0-9.]+) GB/), "\(result.errors)")
    let predicted = try #require(Double(match.1)) * 1e9
    // The text has one decimal.
    #expect(abs(predicted - peak) <= 0.05 * peak + 5e7, "\(predicted) and \(peak)")
    #expect(report.devices[0].liveBytes == 0)
  }

  @Test func aBudgetThatIsTooSmallIsRefusedBeforeLoading() throws {
    let (result, report) = try train(2000)
    #expect(result.status == 2)
    #expect(
      result.errors.contains("acceleration.memory does not suffice: the run needs about "),
      "\(result.errors)")
    #expect(report.devices.isEmpty || report.devices[0].peakBytes == 0)
    // Settings that exclude the smaller plans are named in the plan.
    let (fixed, _) = try train(4600, ["acceleration.weight_placement=resident"])
    #expect(fixed.status == 2 && fixed.errors.contains("activations of"), "\(fixed.errors)")
  }

  @Test func aBudgetThatIsNotASizeIsRefused() throws {
    let workshop = try Self.workshop.get()
    let result = try Program.run(
      ["train", "run.yaml", "--set", "acceleration.memory=lots"], in: workshop.path)
    #expect(result.status == 2)
    #expect(result.errors.contains("auto or a size such as 24GB"), "\(result.errors)")
  }

  /// On a CPU too, where there is no limit without the option.
  @Test func aGenerationThatDoesNotFitNamesItsNeed() throws {
    let prepared = try PreparedTraining.shared.get()
    func generate(_ budget: String) throws -> Program.Result {
      try Program.run(
        [
          "generate", "--model-path", prepared.model, "--text-encoder-path", prepared.textEncoder,
          "--prompt", "a clip", "--width", "64", "--height", "64", "--num-frames", "9", "--steps",
          "1", "--output", "planned.mp4", "--memory", budget,
        ], in: prepared.path)
    }
    #expect(try generate("auto").status == 0)
    let result = try generate("1MB")
    #expect(result.status != 0)
    #expect(
      result.errors.contains("--memory: does not suffice: encoding text needs about "),
      "\(result.errors)")
  }
}
