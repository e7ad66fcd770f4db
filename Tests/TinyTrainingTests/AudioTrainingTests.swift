import DemoData
import Foundation
import LTX
import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import TinyTraining

@Suite struct AudioTrainingTests {
  private let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("audio-training-\(UUID().uuidString)").path

  private func removeFolder() throws { try FileManager.default.removeItem(atPath: folder) }

  private func options(_ steps: Int) -> StageOptions {
    var options = StageOptions(steps: steps, seed: 1, learningRate: 1e-3)
    (options.warmupSteps, options.stepsPerRecord, options.averageDecay) = (1, 1, 0)
    return options
  }

  /// Trains a model in one go and in two, and compares the loss before and after.
  private func check<Model: StageModel>(steps: Int, _ model: () throws -> Model) throws {
    let whole = try Stage(model(), options(steps), folder: "\(folder)/whole")
    func loss() throws -> Double {
      try withoutGrad { try whole.model.loss(step: 0, seed: 7).total.item() }
    }
    let before = try loss()
    #expect(try whole.run())
    let after = try loss()
    #expect(after < before)

    let first = try Stage(model(), options(steps), folder: "\(folder)/parts")
    #expect(try !first.run(minutes: 0))
    #expect(first.step == 1)
    let second = try Stage(model(), options(steps), folder: "\(folder)/parts")
    #expect(second.step == 1)
    #expect(try second.run())
    for (one, other) in zip(whole.averaged, second.averaged) {
      #expect(one.key == other.key)
      #expect(try Tensor.isEqual(one.tensor, other.tensor), "\(one.key)")
    }
    try removeFolder()
  }

  @Test func theAudioVAELearnsAndResumes() throws {
    try check(steps: 6) { try AudioVAEModel(seed: 1, batch: 1, heldOut: 1) }
  }

  @Test func theAnalysisLearnsAndResumes() throws {
    try check(steps: 6) {
      try ToneAnalysisModel(
        OscillatorVocoder.initial(seed: 1), codec: nil, seed: 1, batch: 2, heldOut: 1)
    }
  }

  @Test func theExtensionResumes() throws {
    let initial = try OscillatorVocoder.initial(seed: 1).map { key, tensor in
      // Something to unlearn.
      key == "vocoder.bwe_generator.conv_post.weight"
        ? (key, try Generator(seed: 1).normal(tensor.shape).to(tensor.dtype) * 0.003)
        : (key, tensor)
    }
    try check(steps: 8) { try BandwidthModel(initial, seed: 1, batch: 1, heldOut: 1) }
  }

  @Test func theFilesOpenAndEveryTensorIsUsed() throws {
    try makeFolder(folder)
    let (vae, vocoder) = ("\(folder)/vae.safetensors", "\(folder)/vocoder.safetensors")
    let model = try AudioVAEModel(seed: 1, batch: 1, heldOut: 1)
    try withoutGrad { try model.write(model.parameters, clips: 16, to: vae) }
    var training = VocoderTraining(seed: 1)
    (training.drawnSteps, training.decodedSteps, training.extensionSteps) = (1, 1, 1)
    training.batch = 2
    #expect(try training.run(in: folder, audioVAE: vae, writingTo: vocoder))

    // A model that leaves tensors of its file unused throws.
    let checkpoint = try Checkpoint(path: vae)
    let encoder = try checkpoint.audioEncoder(dtype: .float32)
    let decoder = try checkpoint.audioDecoder(dtype: .float32)
    let waveform = try ToneBatch.waveforms(
      ToneScenes(seed: 3).scenes(1, draw: 3), sampleRate: DemoScene.sampleRate)
    let latent = try encoder(waveform, sampleRate: DemoScene.sampleRate)
    #expect(latent.shape == [1, 2, 27, 16])
    let audio = try Checkpoint(path: vocoder).vocoder()(decoder(latent))
    #expect(audio.shape == [1, 2, 3 * 105 * ToneBatch.hop])
    #expect(encoder.configuration.tokens.compression == 4)
    #expect(fileSize(vae) + fileSize(vocoder) < 4_000_000)
    try removeFolder()
  }

  @Test func latentsOfTheWrittenVAEAreNormalized() throws {
    try makeFolder(folder)
    let path = "\(folder)/vae.safetensors"
    let model = try AudioVAEModel(seed: 1, batch: 1, heldOut: 1)
    try withoutGrad { try model.write(model.parameters, clips: 32, to: path) }
    let encoder = try Checkpoint(path: path).audioEncoder(dtype: .float32)
    let tones = try ToneBatch(ToneScenes(seed: 1).scenes(32, draw: 5))
    let latent = try encoder(
      tones.noisyWaveforms(Generator(seed: 5)), sampleRate: ToneBatch.sampleRate)
    let deviations: [Float] = try latent.std([0, 2], correction: 0).flatten().array()
    // An element that hardly varies is not scaled up to 1.
    #expect(deviations.allSatisfy { $0 < 1.5 })
    #expect(try abs(latent.mean().item()) < 0.2)
    try removeFolder()
  }

  /// The fixed stages, given the pitch and the amplitudes that the analysis should find, make the
  /// drawn audio's spectrogram.
  @Test func theSynthesizerMakesTonesOfGivenPitch() throws {
    let tones = try ToneBatch(ToneScenes(seed: 2).scenes(3, draw: 9))
    let output = OscillatorVocoder.Output.self
    let pitch = try tones.frequencies() * (Double.pi / 100 / output.pitchUnit)
    let theta = try TonePartials.amplitudes(tones).flatten(from: 1, through: 2)
    // arcsin(a) / 2 for small a
    let angles = try (theta + theta.pow(3) / 6) * (0.5 / output.amplitudeUnit)
    let (clips, frames) = (tones.scenes.count, tones.frameCount)
    let features = try Tensor.cat(
      [
        pitch.unsqueeze(1), .zeros([clips, output.amplitudes - 1, frames]), angles,
        .zeros([clips, 32 - output.amplitudes - Synthesizer.thetas, frames]),
      ], 1)
    let audio = try synthesize(features).narrow(2, 0, tones.sampleCount)
    let logMel = try LogMelSpectrogram(
      AudioVAEConfiguration(Configuration(json: AudioVAEModel.config, file: "test")))
    let drawn = try logMel(tones.waveforms, sampleRate: ToneBatch.sampleRate)
    let made = try logMel(audio, sampleRate: ToneBatch.sampleRate)
    let isLoud = try drawn.greater(than: -5)
    let difference = try (made - drawn).abs().maskedSelect(isLoud).mean().item()
    #expect(difference < 0.25)
  }

  /// Runs the stages after the analysis: its weights pass the spectrogram's first 32 rows, which
  /// are then the output of the analysis.
  private func synthesize(_ features: Tensor) throws -> Tensor {
    let width = 32
    func identity(_ inputs: Int, _ outputs: Int) throws -> Tensor {
      var values = [Float](repeating: 0, count: inputs * outputs)
      for index in 0..<width { values[index * outputs + index] = 1 }
      return try Tensor(values, shape: [inputs, outputs])
    }
    let tensors = try OscillatorVocoder.initial(seed: 1).map { key, tensor in
      let shape = tensor.shape
      switch key {
      case "vocoder.vocoder.conv_pre.weight":
        return (
          key,
          try identity(shape[0], shape[1]).unsqueeze(2).pad([3, 3])
        )
      case "vocoder.vocoder.ups.0.weight", "vocoder.vocoder.ups.1.weight":
        return (key, try identity(shape[0], shape[1]).unsqueeze(2))
      case _ where key.hasPrefix("vocoder.vocoder.resblocks.0.convs2"),
        _ where key.hasSuffix("conv_pre.bias") || key.hasSuffix("ups.1.bias"):
        return (key, try .zeros(shape))
      default: return (key, tensor)
      }
    }
    let weights = try TrainableWeights(
      tensors, config: OscillatorVocoder.config, scope: "vocoder"
    ) { _ in true }
    let vocoder = try Vocoder(
      weights.root / "vocoder", configuration: VocoderConfiguration(weights.configuration))
    let mel = try Tensor.cat([features, .zeros([features.size(0), 96, features.size(2)])], 1)
      .unflatten(1, [2, 64]).transpose(2, 3)
    let audio = try vocoder(mel)
    return try SincResampler.resample(audio, from: 48_000, to: ToneBatch.sampleRate)
  }

  private func fileSize(_ path: String) -> Int {
    (try? Data(contentsOf: URL(fileURLWithPath: path)).count) ?? 0
  }
}
