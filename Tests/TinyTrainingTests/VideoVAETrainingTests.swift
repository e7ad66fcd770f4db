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
    (sizes.latentChannels, sizes.decoderChannels) = (SceneLatents.channels, 8)
    sizes.encoderChanges = [.all(multiplier: 2), .all(multiplier: 1), .all(multiplier: 1)]
    sizes.encoderLayers = [0, 0, 0, 1]
    sizes.decoderChanges = [.all(multiplier: 2), .all(multiplier: 1), .all(multiplier: 1)]
    sizes.decoderLayers = [0, 0, 0, 1]
    return sizes
  }

  private static let steps = 4

  private func model(_ part: VideoVAEModel.Part = .decoder) throws -> VideoVAEModel {
    try VideoVAEModel(
      part, sizes: Self.sizes, initial: VideoVAEModel.initialTensors(Self.sizes, seed: 1),
      measuredClips: 1, seed: 1)
  }

  private func options(_ part: VideoVAEModel.Part = .decoder) -> StageOptions {
    var options = part.options(steps: Self.steps, seed: 1)
    (options.warmupSteps, options.stepsPerRecord) = (1, 1)
    return options
  }

  private func removeFolder() throws { try FileManager.default.removeItem(atPath: folder) }

  @Test(arguments: VideoVAEModel.Part.allCases)
  func aFewStepsLowerTheLoss(part: VideoVAEModel.Part) throws {
    let model = try model(part)
    func loss() throws -> Double {
      try withoutGrad { try model.loss(step: 0, seed: 7).total.item() }
    }
    let before = try loss()
    let stage = try Stage(model, options(part), folder: folder)
    #expect(try stage.run())
    #expect(try loss() < before)
    try removeFolder()
  }

  @Test func aStageThatIsStoppedGivesTheSameWeights() throws {
    let whole = try Stage(model(), options(), folder: "\(folder)/whole")
    #expect(try whole.run())
    var finished = false
    var runs = 0
    while !finished, runs < 10 {
      let part = try Stage(model(), options(), folder: "\(folder)/parts")
      #expect(part.step == runs)
      finished = try part.run(minutes: 0)
      runs += 1
    }
    #expect(runs == Self.steps)
    let parts = try Stage(model(), options(), folder: "\(folder)/parts")
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
    _ = try Stage(model(), options(), folder: folder).run(minutes: 0)
    var other = options()
    other.learningRate = 1e-4
    #expect(throws: Issue.self) { try Stage(model(), other, folder: folder) }
    try removeFolder()
  }

  @Test func theWrittenFileIsACheckpoint() throws {
    let stage = try Stage(model(.both), options(.both), folder: folder)
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

  @Test(arguments: VideoVAEModel.Part.allCases)
  func allTensorsOfAPartAreTrained(part: VideoVAEModel.Part) throws {
    let model = try model(part)
    let drawn = RandomWeights.Drawn(try Generator(seed: 1))
    try Self.sizes.draw(RandomWeights(into: drawn) / "vae")
    let keys = drawn.tensors.map(\.key).filter {
      !$0.contains("per_channel_statistics")
        && (part == .both || part == .finish || $0.hasPrefix("vae.\(part.rawValue.prefix(7))."))
    }
    #expect(Set(model.parameters.map(\.key)) == Set(keys))
    let loss = try model.loss(step: 0, seed: 1).total
    let gradients = try grad(of: [loss], wrt: model.parameters.map(\.tensor))
    for (parameter, gradient) in zip(model.parameters, gradients) {
      #expect(gradient != nil, "\(parameter.key)")
    }
  }

  @Test func scenesDependOnTheSeedAlone() {
    let clips = VideoClips(seed: 3)
    let scenes = clips.scenes(40, seed: 5)
    #expect(scenes == clips.scenes(40, seed: 5))
    #expect(scenes != clips.scenes(40, seed: 6))
    #expect(Set(scenes.map(\.style)).count == 3)
    #expect(!scenes.contains { $0.isHeldOut })
  }

  @Test func windowsCutLatentsAndPixelsAlike() throws {
    let scene = DemoWorld(seed: 3).scene(0)
    let clip = try VideoClips.clip(scene)
    #expect(clip.shape == [1, 3, 25, 128, 128])
    #expect(try clip.amin().item() >= -1 && clip.amax().item() <= 1)
    let latent = try SceneLatents.latent(scene)
    #expect(latent.shape == [32, 4, 4, 4])
    for seed in 0..<20 {
      let window = VideoClips.window(scene, seed: UInt64(seed))
      let cut = try SceneLatents.latent(scene, window)
      #expect(cut.shape == [32, 2, 2, 2])
      // The first frame of a window is a single image; the others see the same frames as in a clip.
      let place = try latent.narrow(2, window.row, 2).narrow(3, window.column, 2)
      #expect(
        try Tensor.isEqual(cut.narrow(1, 1, 1), place.narrow(1, window.firstFrame / 8 + 1, 1)))
      let pixels = try VideoClips.pixels([scene], [window])
      #expect(pixels.shape == [1, 3, 9, 64, 64])
      let frames = try clip.narrow(2, window.firstFrame, 9).narrow(3, 32 * window.row, 64)
        .narrow(4, 32 * window.column, 64)
      #expect(try Tensor.isEqual(pixels, frames))
      // The shape differs from the background, which hardly varies.
      #expect(try (pixels.amax([2, 3, 4]) - pixels.amin([2, 3, 4])).amax().item() > 0.3)
    }
  }

  @Test func latentsTellScenesApart() throws {
    var scene = DemoWorld(seed: 3).scene(0)
    let latent = try SceneLatents.latent(scene)
    #expect(try latent.abs().amax().item() < 4)
    #expect(try Tensor.isEqual(latent, SceneLatents.latent(scene)))
    // The first latent frame is a single image, in which nothing moves.
    #expect(try latent.narrow(1, 0, 1).narrow(0, 9, 4).abs().amax().item() == 0)
    #expect(try latent.narrow(1, 1, 3).narrow(0, 9, 2).abs().amax().item() > 0)
    for style in [DemoScene.Style.sketch, .snow] {
      scene.style = style
      #expect(try !Tensor.isEqual(latent, SceneLatents.latent(scene)))
    }
  }
}
