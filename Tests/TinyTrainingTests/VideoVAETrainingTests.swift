import DemoData
import Foundation
import LTX
import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import TinyTraining

@Suite struct VideoVAETrainingTests {
  private let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("video-vae-\(UUID().uuidString)").path

  private static var sizes: TinyVideoVAE {
    var sizes = TinyVideoVAE(generation: .ltx23)
    (sizes.latentChannels, sizes.decoderChannels) = (8, 8)
    sizes.encoderChanges = [.all(multiplier: 2), .all(multiplier: 1), .all(multiplier: 1)]
    sizes.encoderLayers = [0, 0, 0, 1]
    sizes.decoderChanges = [.all(multiplier: 2), .all(multiplier: 1), .all(multiplier: 1)]
    sizes.decoderLayers = [0, 0, 0, 1]
    return sizes
  }

  private static let steps = 4

  private func model() throws -> VideoVAEModel {
    try VideoVAEModel(
      Self.sizes, steps: Self.steps,
      phases: [
        .init(
          share: 0.5,
          batches: [
            .init(window: .init(side: 32, frames: 9), count: 2),
            .init(window: .init(side: 64, frames: 9), count: 1),
          ]), .init(share: 0.5, batches: [.init(window: .init(side: 64, frames: 17), count: 1)]),
      ], measuredClips: 1, statisticsClips: 2, seed: 1)
  }

  private var options: StageOptions {
    var options = VideoVAEModel.options(steps: Self.steps, seed: 1)
    (options.warmupSteps, options.stepsPerRecord) = (1, 1)
    return options
  }

  private func removeFolder() throws { try FileManager.default.removeItem(atPath: folder) }

  @Test func aFewStepsLowerTheLoss() throws {
    let model = try model()
    func loss() throws -> Double {
      try withoutGrad { try model.loss(step: 0, seed: 7).total.item() }
    }
    let before = try loss()
    let stage = try Stage(model, options, folder: folder)
    #expect(try stage.run())
    #expect(try loss() < before)
    try removeFolder()
  }

  @Test func aStageThatIsStoppedGivesTheSameWeights() throws {
    let whole = try Stage(model(), options, folder: "\(folder)/whole")
    #expect(try whole.run())
    var finished = false
    var runs = 0
    while !finished, runs < 10 {
      let part = try Stage(model(), options, folder: "\(folder)/parts")
      #expect(part.step == runs)
      finished = try part.run(minutes: 0)
      runs += 1
    }
    #expect(runs == Self.steps)
    let parts = try Stage(model(), options, folder: "\(folder)/parts")
    for (one, other) in zip(
      whole.model.parameters + whole.averaged, parts.model.parameters + parts.averaged)
    {
      #expect(one.key == other.key)
      #expect(try Tensor.isEqual(one.tensor, other.tensor), "\(one.key)")
    }
    func steps(_ name: String) throws -> [Int?] {
      try String(contentsOfFile: "\(folder)/\(name)/metrics.jsonl", encoding: .utf8)
        .split(separator: "\n").map { try JSON(parsing: String($0)).object?["step"]?.int }
    }
    #expect(try steps("whole") == [1, 2, 3, 4])
    #expect(try steps("parts") == steps("whole"))
    try removeFolder()
  }

  @Test func aStateOfAnotherStageIsRejected() throws {
    _ = try Stage(model(), options, folder: folder).run(minutes: 0)
    var other = options
    other.learningRate = 1e-4
    #expect(throws: Issue.self) { try Stage(model(), other, folder: folder) }
    try removeFolder()
  }

  @Test func theWrittenFileIsACheckpoint() throws {
    let stage = try Stage(model(), options, folder: folder)
    _ = try stage.run()
    let path = "\(folder)/vae.safetensors"
    try stage.model.write(stage, to: path)
    let checkpoint = try Checkpoint(path: path)
    #expect(checkpoint.version?.isAtLeast(2, 3) == true)
    #expect(try checkpoint.source.tensor("vae.decoder.conv_in.conv.weight").dtype == .bfloat16)
    // The coders throw for tensors that they don't use.
    let encoder = try checkpoint.videoEncoder(dtype: .float32)
    _ = try checkpoint.videoDecoder(dtype: .float32)
    #expect(encoder.compression == CompressionFactors(time: 8, height: 32, width: 32))

    let quality = try VideoVAEQuality(checkpoint: path)
    let metrics = try quality.measure(1)
    #expect(metrics.count == DemoScene.Style.allCases.count + 2)
    #expect(metrics.allSatisfy { $0.value.isFinite })
    try quality.writeSheet(1, to: "\(folder)/sheet.png")
    #expect(FileManager.default.fileExists(atPath: "\(folder)/sheet.png"))
    try removeFolder()
  }

  @Test func allTensorsButTheStatisticsAreTrained() throws {
    let model = try model()
    let drawn = RandomWeights.Drawn(try Generator(seed: 1))
    try Self.sizes.draw(RandomWeights(into: drawn) / "vae")
    let keys = drawn.tensors.map(\.key).filter { !$0.contains("per_channel_statistics") }
    #expect(Set(model.parameters.map(\.key)) == Set(keys))
    let loss = try model.loss(step: 0, seed: 1).total
    let gradients = try grad(of: [loss], wrt: model.parameters.map(\.tensor))
    for (parameter, gradient) in zip(model.parameters, gradients) {
      #expect(gradient != nil, "\(parameter.key)")
    }
  }

  @Test func batchesDependOnTheSeedAlone() throws {
    let clips = VideoClips(seed: 3)
    let window = VideoClips.Window(side: 32, frames: 9)
    let batch = try clips.batch(2, window, seed: 5)
    #expect(batch.shape == [2, 3, 9, 32, 32])
    #expect(try Tensor.isEqual(batch, clips.batch(2, window, seed: 5)))
    #expect(try !Tensor.isEqual(batch, clips.batch(2, window, seed: 6)))
    #expect(try batch.amin().item() >= -1)
    #expect(try batch.amax().item() <= 1)
  }
}
