import Foundation
import Generation
import LTX
import Media
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

/// Audio and masks against upstream's dataset scripts.
@Suite struct ReferenceAudioTests {
  private struct AudioCase: Decodable, CustomStringConvertible, Sendable {
    let name: String
    let channels, sampleRate, samples: Int
    let seconds: Double?
    let duration: Double
    let madeSamples: Int?
    var description: String { name }
  }

  private static func audio() throws -> [AudioCase] { try ReferenceFixtures.cases("sound") }

  private func audio(_ one: AudioCase, in scratch: ScratchFolder) throws -> AudioReaderResult {
    var path = ReferenceFixtures.clip("\(one.name).mp4")
    if let count = one.madeSamples {
      path = scratch.file("\(one.name).wav")
      try ReferenceFixtures.wav(
        ReferenceFixtures.wave(channels: one.channels, samples: count), sampleRate: one.sampleRate
      ).write(to: URL(fileURLWithPath: path))
    }
    let reader = SampleAudioReader(isCompatible: true)
    guard let seconds = one.seconds else {
      return try reader.read(path, maxSeconds: nil, durations: []).audio
    }
    return try reader.read(path, seconds: seconds, start: nil)
  }

  private typealias AudioReaderResult = PreparedAudio

  @Test func everyAudioFormatBecomesStereoCutAndPaddedAsUpstream()
    throws
  {
    let scratch = try ScratchFolder()
    let wanted = try ReferenceFixtures.tensors("sound")
    for one in try Self.audio() {
      let audio = try audio(one, in: scratch).audio
      #expect(audio.sampleCount == one.samples && audio.duration == one.duration, "\(one)")
      let waveform = try AudioTensors.waveform(audio).squeeze(0)
      for (part, start) in [("head", 0), ("tail", one.samples - 1000)] {
        let difference = try
          (waveform.narrow(1, start, 1000) - wanted.tensor("\(one.name).\(part)")).abs()
          .amax().item()
        #expect(difference < 2e-7, "\(one), \(part): \(difference)")
      }
    }
  }

  @Test(arguments: ["ltx2_audio", "ltx23_audio"])
  func audioLatentsEqualUpstreams(_ model: String) throws {
    let scratch = try ScratchFolder()
    let encoder = try Checkpoint(path: Fixtures.model(model)).audioEncoder(
      dtype: .float32)
    let fixture = try ReferenceFixtures.tensors("sound")
    for one in try Self.audio() {
      let audio = try audio(one, in: scratch).audio
      let latent = try withoutGrad {
        try encoder(AudioTensors.waveform(audio), sampleRate: audio.sampleRate).squeeze(0)
      }
      let wanted = try fixture.tensor("\(one.name).\(model).latent")
      #expect(latent.shape == wanted.shape)
      let difference = try (latent - wanted).abs().amax().item() / wanted.abs().amax().item()
      #expect(difference < 2e-5, "\(one): \(difference)")
    }
  }

  private struct MaskCase: Decodable {
    let channels, samples, sampleRate, length: Int
    let mask: [Float]
  }

  @Test func audioMasksAreStretchedAsUpstream() throws {
    let scratch = try ScratchFolder()
    let configuration = try AudioVAEConfiguration(
      Checkpoint(path: Fixtures.model("ltx2_audio")).config)
    for one in try ReferenceFixtures.cases("audio-masks", of: MaskCase.self) {
      let path = scratch.file("mask.wav")
      try ReferenceFixtures.wav(
        ReferenceFixtures.steps(channels: one.channels, samples: one.samples, length: one.length),
        sampleRate: one.sampleRate
      ).write(to: URL(fileURLWithPath: path))
      let mask = try SampleAudioReader(isCompatible: true).mask(
        path, steps: one.mask.count, configuration: configuration)
      #expect(try mask.array(of: Float.self) == one.mask)
    }
  }

  /// Loud in the first half second, soft in the second, whatever follows: time steps are 0.04 s.
  @Test func audioMasksKeepTheirTimes() throws {
    let scratch = try ScratchFolder()
    let configuration = try AudioVAEConfiguration(
      Checkpoint(path: Fixtures.model("ltx2_audio")).config)
    let path = scratch.file("mask.wav")
    try ReferenceFixtures.wav(
      ReferenceFixtures.steps(channels: 1, samples: 80_000, length: 8000), sampleRate: 16000
    ).write(to: URL(fileURLWithPath: path))
    let step =
      Double(configuration.hopLength * configuration.compression) / Double(configuration.sampleRate)
    let marks = try SampleAudioReader().mask(path, steps: 26, configuration: configuration).array(
      of: Float.self)
    let wanted = (0..<26).map {
      (Double($0) * step).truncatingRemainder(dividingBy: 1) < 0.5 ? Float(1) : 0
    }
    let differing = zip(marks, wanted).enumerated().filter { $1.0 != $1.1 }.map(\.offset)
    #expect(differing.count <= 2, "steps \(differing) differ")  // those in which the level changes
    // A tensor has no times, and is stretched.
    let tensor = scratch.file("mask.safetensors")
    try writeSafetensors([("mask", Tensor([1, 0, 0, 1] as [Float]))], to: tensor)
    #expect(
      try SampleAudioReader().mask(tensor, steps: 8, configuration: configuration).array(
        of: Float.self)
        == [1, 1, 0, 0, 0, 0, 1, 1])
  }
}

@Suite struct ReferenceMaskTests {
  private static let names = ["mask.mp4", "mask.png", "mask_short.mp4"]
  private static let buckets = ["128x64x17", "64x96x25", "96x96x25"]

  private func masks(isCompatible: Bool) throws -> MaskReader {
    MaskReader(clips: ClipReader(buckets: [], isCompatible: isCompatible), factors: .usual)
  }

  @Test(arguments: names, buckets)
  func masksAreStretchedOverTheBucketInTheReferencesWay(
    _ name: String, _ size: String
  ) throws {
    let bucket = try #require(ResolutionBucket(text: size))
    let mask = try masks(isCompatible: true).compatibleCells(
      ReferenceFixtures.path(name), bucket: bucket)
    let wanted = try ReferenceFixtures.tensors("masks").tensor("\(name).\(size).reference")
    #expect(mask.shape == wanted.shape)
    #expect(try (mask - wanted).abs().amax().item() == 0)
  }

  /// A mask covers the clip and is cropped with it. `cells` are the white shares of cells; shares
  /// near one half may be rounded either way, because filters differ.
  @Test(arguments: names, buckets) func masksAreCutAsTheirClips(
    _ name: String, _ size: String
  ) throws {
    let bucket = try #require(ResolutionBucket(text: size))
    let path = ReferenceFixtures.path(name)
    let shape = try ClipReader(buckets: [bucket]).shape(of: VideoReader(path: path))
    let (mask, note) = try masks(isCompatible: false).cells(path, bucket: bucket, shape: shape)
    let cells = try ReferenceFixtures.tensors("masks").tensor("\(name).\(size).cells")
    let count = cells.size(0)
    let isShort =
      count < CompressionFactors.usual.latentFrames(bucket.frames) || name == "mask_short.mp4"
    #expect((note != nil) == isShort)
    #expect(mask.shape[1...] == cells.shape[1...])
    let found = try mask.narrow(0, 0, count).array(of: Float.self)
    for (value, white) in zip(found, try cells.array(of: Float.self)) where abs(white - 0.5) > 0.02
    {
      #expect(value == (white > 0.5 ? 1 : 0), "a cell that is \(white) white")
    }
    // After the mask's end, its last frame is repeated.
    for frame in count..<mask.size(0) {
      #expect(try (mask.select(0, frame) - mask.select(0, count - 1)).abs().amax().item() == 0)
    }
  }

  @Test func aMaskOfAnotherSizeIsLaidOverTheClip() throws {
    // The left half is white. For a clip twice as wide as its bucket, half of each side is cropped.
    let scratch = try ScratchFolder()
    let bytes = (0..<(10 * 10)).flatMap { [UInt8](repeating: $0 % 10 < 5 ? 255 : 0, count: 3) }
    try RGBFrame(bytes: bytes, width: 10, height: 10).writePNG(to: scratch.file("mask.png"))
    let bucket = ResolutionBucket(width: 64, height: 64, frames: 9)
    let mask = try masks(isCompatible: false).cells(
      scratch.file("mask.png"), bucket: bucket, shape: Clip.Shape(width: 256, height: 128)
    ).mask
    #expect(try mask.array(of: Float.self) == [1, 0, 1, 0, 1, 0, 1, 0])
  }
}
