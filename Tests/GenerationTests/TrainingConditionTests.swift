import Foundation
import LTX
import Media
import Support
import TensorFiles
import Testing
import Torch

@testable import Generation

/// The conditions that a model is trained with, in validation videos: kept parts, audio, references
/// beside the result.
@Suite struct TrainingConditionTests {
  let scratch: Scratch
  private let grid = VideoGrid(
    batch: 1, channels: 4, frames: 3, rows: 2, columns: 3, fps: 25, factors: .usual)

  init() throws { scratch = try Scratch() }

  private func clip(frames: Int = 17) throws -> String {
    let writer = try VideoWriter(
      path: scratch.path("clip.mp4"), width: 96, height: 64, frameRate: Rational(25),
      quality: .init(crf: 10, preset: "superfast"))
    for index in 0..<frames {
      let bytes = [UInt8](repeating: UInt8(20 + 8 * index), count: 3 * 96 * 64)
      try writer.append(RGBFrame(bytes: bytes, width: 96, height: 64))
    }
    try writer.finish()
    return scratch.path("clip.mp4")
  }

  /// A mask that is white where `isWhite` returns true.
  private func image(_ name: String, isWhite: (_ x: Int, _ y: Int) -> Bool) throws -> String {
    var bytes: [UInt8] = []
    for y in 0..<64 {
      for x in 0..<96 { bytes += [UInt8](repeating: isWhite(x, y) ? 255 : 0, count: 3) }
    }
    try RGBFrame(bytes: bytes, width: 96, height: 64).writePNG(to: scratch.path(name))
    return scratch.path(name)
  }

  private func encoded(_ condition: Condition<MediaFile>) throws -> LatentCondition {
    var request = scratch.request()
    (request.frames, request.conditions) = (17, [condition])
    let plan = try scratch.plan(request)
    var inputs = [EncodedInputs()]
    try withInference {
      try InputEncoder(plan.checkpoint, plan.models).encodeMedia(of: [plan], into: &inputs)
    }
    return try #require(inputs[0].videoConditions[0]?.first)
  }

  @Test func aRectangleIsRoundedTowardsTheStart() throws {
    func cells(_ top: Int, _ left: Int, _ bottom: Int, _ right: Int) -> LatentRegion {
      grid.cells(of: PixelRegion(top: top, left: left, bottom: bottom, right: right))
    }
    #expect(cells(0, 0, 64, 96) == .init(rows: 0..<2, columns: 0..<3))
    #expect(cells(33, 32, 63, 95) == .init(rows: 1..<1, columns: 1..<2))
    #expect(cells(-5, 40, 1000, 1000) == .init(rows: 0..<2, columns: 1..<3))
    #expect(cells(64, 96, 0, 0).isEmpty)
    let mask = try grid.mask(keeping: cells(32, 0, 64, 64))
    #expect(mask.shape == [1, 3, 2, 3])
    #expect(try mask.array(of: Float.self) == (0..<3).flatMap { _ in [Float(0), 0, 0, 1, 1, 0] })
  }

  @Test func aKeptRectangleHasTheVideosLatents() throws {
    let region = PixelRegion(top: 0, left: 32, bottom: 32, right: 96)
    guard
      case .masked(let latent, let mask, let strength) = try encoded(
        .crop(path: clip(), region: region))
    else {
      Testing.Issue.record("a rectangle is not masked")
      return
    }
    #expect(latent.shape == [1, latent.size(1), 3, 2, 3])
    #expect(strength == 1)
    #expect(try mask.array(of: Float.self) == (0..<3).flatMap { _ in [Float(0), 1, 1, 0, 0, 0] })
  }

  /// Unlike that of `inpaint`, the mask marks the kept part, and a cell must be half white.
  @Test func aCellIsKeptWhereHalfOfItIsWhite() throws {
    let mask = try image("mask.png") { x, y in
      y < 32 ? x < 17 : x < 48  // 17 of 32 columns, and 16 of the second cell's below
    }
    guard case .masked(_, let kept, _) = try encoded(.keep(path: clip(), mask: mask)) else {
      Testing.Issue.record("a mask does nothing")
      return
    }
    #expect(try kept.array(of: Float.self) == (0..<3).flatMap { _ in [Float(1), 0, 0, 1, 0, 0] })
  }

  // MARK: Audio

  @Test func anAudioMaskIsATensorOrALevel() throws {
    let levels = scratch.path("levels.wav")
    let wave = [Float](repeating: 0.8, count: 600) + [Float](repeating: 0.2, count: 400)
    try WAVWriter.write([wave, wave.map { -$0 }], sampleRate: 16000, to: levels)
    #expect(try AudioMask(path: levels).steps(5).array(of: Float.self) == [1, 1, 1, 0, 0])
    for (name, tensors) in [("mask", ["mask"]), ("other", ["x"])] {
      let path = scratch.path("\(name).pt")
      try writeTorchFile(
        tensors.map { ($0, .tensor(try Tensor([Float(0), 0.5, 0.6, 1], shape: [1, 4]))) }, to: path)
      let mask = try AudioMask(path: path).steps(8)
      #expect(mask.shape == [8])
      #expect(try mask.array(of: Float.self) == [0, 0, 0, 0, 1, 1, 1, 1])
    }
    #expect(throws: MediaError.self) { try AudioMask(path: scratch.path("none.wav")) }
    #expect(throws: TensorFileError.self) { try AudioMask(path: scratch.path("none.pt")) }
  }

  @Test func audioStandInTheSequenceOrBehindIt() throws {
    let grid = AudioGrid(batch: 1, channels: 2, bins: 3, frames: 4)
    let part = try Tensor.arange(to: 12, dtype: .float32).reshape([1, 2, 2, 3])
    let replaced = try grid.sequence([.replace(latent: part, latentFrame: 2)])
    #expect(try replaced.denoiseMask.array(of: Float.self) == [1, 1, 0, 0])
    #expect(
      try replaced.clean.narrow(1, 2, 2).array(of: Float.self) == [
        0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11,
      ])
    #expect(try replaced.clean.narrow(1, 0, 2).abs().amax().item() == 0)
    let referred = try grid.sequence([.reference(latent: part)])
    #expect(try referred.denoiseMask.array(of: Float.self) == [1, 1, 1, 1, 0, 0])
    #expect(referred.targetCount == 4)
    // It keeps its own time, from the start.
    #expect(
      try (referred.positions.narrow(2, 4, 2) - referred.positions.narrow(2, 0, 2)).abs().amax()
        .item() == 0)
    for frame in [3, -1] {
      #expect(throws: Support.Issue.self) {
        try grid.sequence([.replace(latent: part, latentFrame: frame)])
      }
    }
    #expect(throws: Support.Issue.self) {
      try grid.sequence([.reference(latent: .zeros([1, 3, 2, 3]))])
    }
  }

  // MARK: Beside the result

  @Test func aShownReferenceIsHeldAsItsLatentsLie() {
    func shown(_ count: Int, scale: Int, of total: Int) -> [Int] {
      let frames = (0..<count).map { RGBFrame(bytes: [0, 0, 0], width: 1, height: 1, index: $0) }
      let reference = ShownReference(frames: frames, temporalScale: scale)
      return (0..<total).map { reference.frame(beside: $0, of: total).index }
    }
    #expect(shown(5, scale: 1, of: 5) == [0, 1, 2, 3, 4])
    #expect(shown(3, scale: 2, of: 5) == [0, 1, 1, 2, 2])
    // A reference that ends early repeats its last frame.
    #expect(shown(2, scale: 2, of: 6) == [0, 1, 1, 1, 1, 1])
    #expect(shown(2, scale: 1, of: 5) == [0, 0, 0, 1, 1])
    #expect(shown(1, scale: 1, of: 2) == [0, 0])
    #expect(shown(9, scale: 1, of: 1) == [0])
  }

  @Test func referencesStandLeftOfTheResultTheLastOneOutermost() throws {
    func gray(_ level: UInt8, _ side: Int) -> RGBFrame {
      RGBFrame(bytes: [UInt8](repeating: level, count: 3 * side * side), width: side, height: side)
    }
    let sides = SideBySide(
      references: [10, 20].map { ShownReference(frames: [gray($0, 2)], temporalScale: 1) },
      size: .init(width: 4, height: 4, frames: 1, frameRate: Rational(24)))
    let joined = try sides.joined(gray(30, 4), index: 0)
    #expect((joined.width, joined.height) == (12, 4))
    let row = [20, 10, 30].flatMap { [UInt8](repeating: $0, count: 12) }
    #expect(joined.bytes == [row, row, row, row].flatMap { $0 })
  }
}
