import Foundation
import LTX
import LoRAFiles
import Media
import Support
import TensorFiles
import Testing
import Torch

@testable import Generation

/// The conditions on a result: encoded correctly, and rejected if they can't be met.
@Suite struct ConditionTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// A video of 25 frames of 96 x 64 pixels, each of one gray level that gets lighter.
  private func clip(_ name: String = "clip.mp4", frames: Int = 25, rate: Int = 25) throws -> String
  {
    let writer = try VideoWriter(
      path: scratch.path(name), width: 96, height: 64, frameRate: Rational(rate),
      quality: .init(crf: 10, preset: "superfast"))
    for index in 0..<frames {
      try writer.append(
        RGBFrame(
          bytes: [UInt8](repeating: UInt8((20 + 8 * index) % 256), count: 3 * 96 * 64), width: 96,
          height: 64)
      )
    }
    try writer.finish()
    return scratch.path(name)
  }

  private func mask(_ name: String = "mask.png") throws -> String {
    var bytes = [UInt8](repeating: 0, count: 3 * 96 * 64)
    // White touches the second column of cells in the first row, by a few pixels.
    for y in 4..<8 { for x in 40..<50 { for c in 0..<3 { bytes[3 * (96 * y + x) + c] = 255 } } }
    try RGBFrame(bytes: bytes, width: 96, height: 64).writePNG(to: scratch.path(name))
    return scratch.path(name)
  }

  private func asking(for conditions: Condition<MediaFile>...) -> GenerationRequest {
    var request = scratch.request()
    request.frames = 25
    request.conditions = conditions
    return request
  }

  private func encoded(_ condition: Condition<MediaFile>) throws -> LatentCondition? {
    try encoded(asking(for: condition))
  }

  private func encoded(
    _ request: GenerationRequest, loras: [LoRARef] = []
  ) throws -> LatentCondition? {
    let plan = try scratch.plan(request, loras: loras)
    let encodings = plan.inputs.videos
    if !encodings.isEmpty {
      #expect(encodings.count == 1)
      let encoder = VideoConditionEncoder(
        encoder: try plan.checkpoint.videoEncoder(dtype: .float32))
      if case .condition(let result) = try withInference({ try encoder(encodings[0]) }) {
        return result
      }
    }
    return nil
  }

  private func whole(_ path: String, frames: Range<Int>) throws -> Tensor {
    let reader = try VideoReader(path: path)
    var all: [Tensor] = []
    while let frame = try reader.next() { all.append(try FrameTensors.filled(frame, (96, 64))) }
    let encoder = try Checkpoint(path: TinyFiles.files.get().checkpoint).videoEncoder(
      dtype: .float32)
    return try withInference { try encoder(FrameTensors.stack(Array(all[frames]))) }
  }

  @Test func aPrefixStandsAtTheStart() throws {
    let path = try clip()
    guard
      case .replace(let latent, let first, let strength) = try encoded(
        .prefix(path: path, frames: 9))
    else {
      Testing.Issue.record("a prefix is not put in place")
      return
    }
    #expect((first, strength) == (0, 1))
    #expect(try latent.equals(whole(path, frames: 0..<9)))
  }

  @Test func aSuffixStandsAtTheEndAndIsEncodedWithWhatIsBeforeIt() throws {
    let path = try clip()
    guard
      case .replace(let latent, let first, let strength) = try encoded(
        .suffix(path: path, frames: 8))
    else {
      Testing.Issue.record("a suffix is not put in place")
      return
    }
    #expect((first, strength) == (3, 1))
    #expect(try latent.equals(whole(path, frames: 0..<25).narrow(2, 3, 1)))
  }

  @Test func aStretchOfTimeIsMadeAnewAndTheRestKept() throws {
    let path = try clip()
    // Frames 1-8, 9-16, 17-24 are 0.04-0.36, 0.36-0.68, 0.68-1 s.
    guard
      case .masked(let latent, let mask, _) = try encoded(.retake(path: path, from: 0.4, to: 0.6))
    else {
      Testing.Issue.record("a stretch is not masked")
      return
    }
    #expect(try mask.mean([2, 3]).array(of: Float.self) == [1, 1, 0, 1])
    #expect(try latent.equals(whole(path, frames: 0..<25)))
  }

  @Test func maskedCellsAreGenerated() throws {
    guard case .masked(_, let mask, _) = try encoded(.inpaint(path: clip(), mask: mask())) else {
      Testing.Issue.record("a mask does nothing")
      return
    }
    #expect(mask.shape == [1, 4, 2, 3])
    #expect(try mask.array(of: Float.self) == (0..<4).flatMap { _ in [Float(1), 0, 1, 1, 1, 1] })
  }

  @Test func aReferenceIsAsCoarseAsTheLoRAWasTrained() throws {
    let lora = try scratch.lora()
    let file = try SafetensorsFile(path: lora)
    let tensors = try file.entries.keys.sorted().map { (key: $0, tensor: try file.tensor($0)) }
    func withMetadata(_ name: String, _ metadata: [String: String]) throws -> LoRARef {
      try writeSafetensors(tensors, metadata: metadata, to: scratch.path(name))
      return .init(path: scratch.path(name), strength: 0)
    }
    var request = asking(for: .reference(path: try clip(), strength: 0.75))
    (request.width, request.height, request.referenceAttention) = (128, 128, 0.5)
    let halved = try withMetadata(
      "half.safetensors",
      ["reference_downscale_factor": "2", "reference_temporal_scale_factor": "3"])
    let plan = try scratch.plan(request, loras: [halved])
    let encodings = plan.inputs.videos
    try #require(!encodings.isEmpty)
    let encoder = VideoConditionEncoder(encoder: try plan.checkpoint.videoEncoder(dtype: .float32))
    guard
      case .condition(.reference(let latent, let scale, let strength, let attention)) =
        try withInference({ try encoder(encodings[0]) })
    else {
      Testing.Issue.record("not a reference")
      return
    }
    #expect(scale == ReferenceScale(space: 2, time: 3) && strength == 0.75)
    // Frame 0 and every third after it: 9 of 25 frames, 2 latent ones.
    #expect(latent.shape == [1, latent.size(1), 2, 2, 2])
    #expect(try attention?.array(of: Float.self) == [Float](repeating: 0.5, count: 8))

    // Frames are dropped first: of 32 frames 0, 1, 5, ..., 29 make two latent frames, where 25
    // would make one.
    let quartered = try withMetadata(
      "quarter.safetensors", ["reference_temporal_scale_factor": "4"])
    request.frames = 33
    request.conditions = [.reference(path: try clip("long.mp4", frames: 32))]
    guard case .reference(let long, _, _, _) = try encoded(request, loras: [quartered]) else {
      Testing.Issue.record("not a reference")
      return
    }
    #expect(long.size(2) == 2)
    request.conditions = [.reference(path: try clip())]

    let other = try withMetadata("other.safetensors", ["reference_downscale_factor": "4"])
    let conflict = #expect(throws: Support.Issue.self) {
      try scratch.plan(request, loras: [halved, other])
    }
    #expect(conflict?.place == ["loras", "reference_downscale_factor"])
    let broken = try withMetadata("broken.safetensors", ["reference_downscale_factor": "two"])
    #expect(throws: Support.Issue.self) { try scratch.plan(request, loras: [broken]) }
    // 96 pixels are 3 cells, which can't be halved.
    (request.width, request.height) = (96, 64)
    #expect(
      #expect(throws: Support.Issue.self) { try scratch.plan(request, loras: [halved]) }?.place
        == ["conditions", 0, "scale"])
  }

  /// Tiles of 80 frames would differ at their seams.
  @Test func aReferenceIsEncodedAsAWhole() throws {
    let path = try clip(frames: 89)
    var request = asking(for: .reference(path: path))
    request.frames = 89
    guard case .reference(let latent, _, _, _) = try encoded(request) else {
      Testing.Issue.record("not a reference")
      return
    }
    #expect(try latent.equals(whole(path, frames: 0..<89)))
  }

  @Test func aKeyframeGoesTogetherWithAnEdit() throws {
    let path = try clip()
    let plain = try scratch.generate(asking(for: .retake(path: path, from: 0.4, to: 1)))
    let keyframe = Condition<MediaFile>.image(path: try scratch.image(), frame: 20)
    #expect(
      try scratch.generate(asking(for: keyframe, .retake(path: path, from: 0.4, to: 1))) != plain)
  }

  @Test func anEditedVideoDecidesSizeLengthAndRate() throws {
    let path = try clip(frames: 28, rate: 10)
    var request = asking(for: .retake(path: path, from: 0, to: 1))
    (request.width, request.height, request.frames, request.frameRate) = (nil, nil, nil, nil)
    let plan = try scratch.plan(request)
    #expect(plan.size == .init(width: 96, height: 64, frames: 25, frameRate: Rational(10)))
    #expect(plan.notes.contains { $0.contains("28 frames") })
    request.frames = 33
    #expect(
      #expect(throws: Support.Issue.self) { try scratch.plan(request) }?.subject == ["frames"])
    // Too small for a cell, and too fast: the error names the video.
    request.frames = nil
    for (name, side, rate, wanted) in [
      ("small.mp4", 16, 24, "width"), ("fast.mp4", 64, 5000, "frameRate"),
    ] {
      let writer = try VideoWriter(
        path: scratch.path(name), width: side, height: side, frameRate: Rational(rate))
      let gray = RGBFrame(
        bytes: [UInt8](repeating: 99, count: 3 * side * side), width: side, height: side)
      for _ in 0..<9 { try writer.append(gray) }
      try writer.finish()
      request.conditions = [.retake(path: scratch.path(name), from: 0, to: 1)]
      let error = #expect(throws: Support.Issue.self) { try scratch.plan(request) }
      #expect(error?.place == [.name(wanted)])
      #expect(error?.description.contains("of the result") == true)
    }
  }

  @Test func everyConditionChangesTheResult() throws {
    let path = try clip()
    let plain = try scratch.generate(asking())
    for condition in [
      Condition<MediaFile>.prefix(path: path, frames: 1), .suffix(path: path, frames: 8),
      .retake(path: path, from: 0.5, to: 1), .inpaint(path: path, mask: try mask()),
      .reference(path: path),
    ] {
      #expect(try scratch.generate(asking(for: condition)) != plain, "\(condition)")
    }
  }

  @Test func imageIsSeenAsAFrameOfACompressedVideo() throws {
    var bytes: [UInt8] = []
    for index in 0..<(160 * 96) {
      bytes += [UInt8](repeating: UInt8(index * index / 7 % 256), count: 3)
    }
    let image = RGBFrame(bytes: bytes, width: 160, height: 96)
    func distance(_ crf: Int) throws -> Double {
      let seen = try image.compressed(crf: crf)
      #expect((seen.width, seen.height) == (160, 96))
      return zip(seen.bytes, bytes).reduce(0) { $0 + abs(Double($1.0) - Double($1.1)) }
        / Double(bytes.count)
    }
    let (fine, coarse) = (try distance(5), try distance(45))
    #expect(fine > 0)
    #expect(coarse > 1.2 * fine, "\(fine) and \(coarse)")
    // Odd sizes lose their last row and column; images that are too small stay unchanged.
    let odd = try RGBFrame(bytes: Array(bytes[..<(3 * 33 * 17)]), width: 33, height: 17).compressed(
      crf: 30)
    #expect((odd.width, odd.height) == (32, 16))
    let line = RGBFrame(bytes: Array(bytes[..<12]), width: 4, height: 1)
    #expect(try line.compressed(crf: 30) == line)
  }

  @Test func impossibleConditionsAreRefused() throws {
    let path = try clip()
    func option(_ condition: Condition<MediaFile>) throws -> [Support.Issue.PathComponent]? {
      #expect(throws: Support.Issue.self) { try scratch.plan(asking(for: condition)) }?.place
    }
    // The prefix is as long as the video.
    #expect(try option(.prefix(path: path)) == ["conditions", 0])
    #expect(try option(.prefix(path: path, frames: 10)) == ["conditions", 0, "length"])
    #expect(try option(.prefix(path: scratch.path("none.mp4"), frames: 9)) == ["conditions", 0])
    #expect(try option(.suffix(path: path, frames: 9)) == ["conditions", 0, "length"])
    #expect(try option(.suffix(path: path, frames: 24 + 8)) == ["conditions", 0, "length"])
    #expect(try option(.retake(path: path, from: 0.6, to: 0.4)) == ["conditions", 0, "start"])
    #expect(try option(.retake(path: path, from: 2, to: 3)) == ["conditions", 0, "start"])
    let noMask = Condition<MediaFile>.inpaint(path: path, mask: scratch.path("none.png"))
    #expect(try option(noMask) == ["conditions", 0, "mask"])
    #expect(
      try option(.reference(path: path, strength: .nan)) == ["conditions", 0, "strength"])
    #expect(try option(.image(path: scratch.image(), crf: 99)) == ["conditions", 0, "crf"])
    let two = #expect(throws: Support.Issue.self) {
      try scratch.plan(
        asking(for: .retake(path: path, from: 0, to: 1), .inpaint(path: path, mask: mask())))
    }
    #expect(two?.place == ["conditions", 0])
    // Conditions that would have no effect.
    func useless(_ output: String, _ conditions: Condition<MediaFile>...) throws -> [Support.Issue
      .PathComponent]?
    {
      var request = scratch.request()
      request.conditions = conditions
      return #expect(throws: Support.Issue.self) { try scratch.plan(request, output: output) }?
        .place
    }
    let image = Condition<MediaFile>.image(path: try scratch.image())
    #expect(try useless("out.wav", image) == ["conditions", 0])
    #expect(try useless("out.mp4", image, .video(path: path)) == ["conditions", 0])
    #expect(try useless("out.wav", .audio(path: path)) == ["conditions", 0])
    #expect(try useless("out.mp4", .audio(path: path), .video(path: path)) == ["conditions", 0])
    var request = asking(for: .reference(path: path))
    request.referenceAttention = 1.5
    #expect(
      #expect(throws: Support.Issue.self) { try scratch.plan(request) }?.place == [
        "referenceAttention"
      ])
  }
}

extension Tensor {
  fileprivate func equals(_ other: Tensor) throws -> Bool {
    try shape == other.shape && (self - other).abs().amax().item() == 0
  }
}
