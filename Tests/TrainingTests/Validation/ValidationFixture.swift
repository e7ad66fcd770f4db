import Foundation
import Generation
import LTX
import LoRAFiles
import Media
import NN
import TestSupport
import Torch

@testable import Training

/// A configuration with the tiny model, and media for its samples: 64 x 64 pixels, 17 frames, 25
/// frames per second.
struct ValidationFixture {
  let scratch: ScratchFolder
  let model: TinyModelFiles
  var configuration = TrainingConfiguration()

  init() throws {
    scratch = try ScratchFolder()
    model = try TinyModelFiles.ltx2()
    configuration.model.modelPath = model.checkpoint
    configuration.model.textEncoderPath = model.textEncoder
    configuration.outputDir = scratch.file("run")
    configuration.validation.videoDims = VideoDimensions(width: 64, height: 64, frames: 17)
    configuration.validation.frameRate = 25
    configuration.validation.inferenceSteps = 2
    configuration.validation.samples = [ValidationSample(prompt: "a red ball")]
  }

  /// A configuration with one sample of these conditions.
  func with(_ conditions: Condition<MediaFile>...) -> TrainingConfiguration {
    var copy = configuration
    copy.validation.samples = [ValidationSample(prompt: "a red ball", conditions: conditions)]
    return copy
  }

  func sampler(
    _ configuration: TrainingConfiguration? = nil, dtype: DType = .float32,
    warnings: Warnings = Warnings(),
    report: (GenerationProgress) throws -> Void = { _ in }
  ) throws -> ValidationSampler {
    try ValidationSampler(
      configuration ?? self.configuration, dtype: dtype, warn: { warnings.add($0) }, report: report)
  }

  /// Frozen weights with trainable adapters; `up` has random values, so that they have an effect.
  func transformer(
    _ modalities: Set<Modality> = .both, dtype: DType = .float32, continuing lora: LoRAFile? = nil
  ) throws -> Transformer {
    let checkpoint = try Checkpoint(path: model.checkpoint)
    var adapters = FreshAdapters(
      targets: ["to_q", "to_v"], rank: 2, alpha: 2, generator: try Generator(seed: 5))
    if let lora { adapters = try adapters.continuing(lora.initialAdapters(scale: adapters.scale)) }
    return try checkpoint.transformer(
      LoadPolicy(dtype: dtype, freshAdapters: adapters), modalities: modalities)
  }

  /// Each frame is a uniform gray, lighter in each frame, with a white square that distinguishes
  /// left from right.
  func clip(_ name: String = "clip.mp4", frames: Int = 17, size: (Int, Int) = (64, 64)) throws
    -> String
  {
    let writer = try VideoWriter(
      path: scratch.file(name), width: size.0, height: size.1, frameRate: Rational(25),
      quality: .init(crf: 10, preset: "superfast"))
    for index in 0..<frames { try writer.append(Self.frame(index, size)) }
    try writer.finish()
    return scratch.file(name)
  }

  static func frame(_ index: Int, _ size: (Int, Int) = (64, 64)) -> RGBFrame {
    var bytes = [UInt8](repeating: UInt8(20 + 8 * index % 200), count: 3 * size.0 * size.1)
    for y in 0..<size.1 / 4 { for x in 0..<3 * (size.0 / 4) { bytes[3 * size.0 * y + x] = 255 } }
    return RGBFrame(bytes: bytes, width: size.0, height: size.1)
  }

  func image(_ name: String = "picture.png") throws -> String {
    try Self.frame(9, (96, 80)).writePNG(to: scratch.file(name))
    return scratch.file(name)
  }

  /// An image that is white on the left.
  func mask(_ name: String = "mask.png") throws -> String {
    var bytes = [UInt8](repeating: 0, count: 3 * 64 * 64)
    for y in 0..<64 { for x in 0..<96 { bytes[192 * y + x] = 255 } }
    try RGBFrame(bytes: bytes, width: 64, height: 64).writePNG(to: scratch.file(name))
    return scratch.file(name)
  }

  /// Audio that is loud in its first half.
  func audio(_ name: String = "sound.wav", seconds: Double = 0.68, level: Float = 0.9) throws
    -> String
  {
    let count = Int(seconds * 16000)
    let samples = (0..<count).map { index -> Float in
      index < count / 2 ? level * (index % 64 < 32 ? 1 : -1) : 0.1 * sin(Float(index) * 0.05)
    }
    try WAVWriter.write([samples, samples], sampleRate: 16000, to: scratch.file(name))
    return scratch.file(name)
  }

  func frames(_ path: String) throws -> (reader: VideoReader, frames: [RGBFrame]) {
    let reader = try VideoReader(path: path)
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return (reader, frames)
  }
}

/// The warnings.
final class Warnings: @unchecked Sendable {
  private let lock = NSLock()
  private var lines: [String] = []

  func add(_ line: String) { lock.withLock { lines.append(line) } }
  var all: [String] { lock.withLock { lines } }
}
