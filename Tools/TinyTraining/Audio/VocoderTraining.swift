import LTX
import Torch

/// The training of the vocoder: its analysis on the spectrograms of drawn audio, then also on those
/// that the audio VAE decodes, and the extension to 48 kHz.
public struct VocoderTraining {
  public var seed: UInt64
  /// The steps of the three parts.
  public var drawnSteps = 3500
  public var decodedSteps = 1500
  public var extensionSteps = 300
  var batch = 16

  /// - Parameter seed: The seed of the weights and of the clips.
  public init(seed: UInt64) { self.seed = seed }

  /// Trains, or continues.
  ///
  /// - Parameters:
  ///   - folder: The folder of the parts' states.
  ///   - audioVAE: The file of the audio VAE.
  ///   - minutes: The time after which training stops, to be resumed.
  ///   - path: The file that is written at the end.
  ///   - report: Called with each line of the log.
  /// - Returns: Whether training is finished.
  public func run(
    in folder: String, audioVAE: String, minutes: Double? = nil, writingTo path: String,
    report: (String) -> Void = { _ in }
  ) throws -> Bool {
    let start = ContinuousClock.now
    func run<Model: StageModel>(_ stage: Stage<Model>) throws -> Bool {
      let used = (ContinuousClock.now - start) / .seconds(60)
      return try stage.run(minutes: minutes.map { max(0, $0 - used) }, report: report)
    }
    let drawn = try ToneAnalysisModel(
      OscillatorVocoder.initial(seed: seed), codec: nil, seed: seed, batch: batch)
    let first = try Stage(
      drawn, options(drawnSteps, rate: 1e-3, "drawn"), folder: "\(folder)/drawn")
    guard try run(first) else { return false }

    let decoded = try ToneAnalysisModel(
      drawn.weights.tensors(first.averaged), codec: AudioCodec(path: audioVAE), seed: seed,
      batch: batch)
    let second = try Stage(
      decoded, options(decodedSteps, rate: 5e-4, "decoded"), folder: "\(folder)/decoded")
    guard try run(second) else { return false }

    let bandwidth = try BandwidthModel(decoded.weights.tensors(second.averaged), seed: seed)
    let third = try Stage(
      bandwidth, options(extensionSteps, rate: 2e-4, "extension"), folder: "\(folder)/extension")
    guard try run(third) else { return false }
    try bandwidth.weights.write(third.averaged, to: path)
    return true
  }

  private func options(_ steps: Int, rate: Double, _ part: String) -> StageOptions {
    var options = StageOptions(
      steps: steps, seed: RandomSeed.mix(seed, part), learningRate: rate)
    options.warmupSteps = min(100, steps / 10)
    options.averageDecay = 0.995
    options.stepsPerEvaluation = 250
    return options
  }
}
