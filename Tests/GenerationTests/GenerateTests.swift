import Foundation
import LTX
import LoRAFiles
import Media
import Support
import Testing

@testable import Generation

@Suite struct GenerateTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test func writesAVideoOfTheWantedSizeLengthAndRate() throws {
    var stages: [String] = []
    try GenerationPipeline(scratch.plan()).run { progress in
      #expect(progress.done <= progress.total)
      if progress.done == progress.total {
        stages.append("\(progress.stage.title) \(progress.total)")
      }
    }
    #expect(stages == ["Encoding the prompts 2", "Sampling 2", "Decoding frames 9"])
    #expect(try scratch.contents() == ["out.mp4"])
    let (reader, frames) = try scratch.frames()
    #expect((reader.width, reader.height) == (96, 64))
    #expect(reader.frameRate == Rational(25))
    #expect(frames.count == 9)
    #expect(!reader.hasAudio)
    // A model with random weights doesn't make a flat image.
    #expect(Set(frames[4].bytes).count > 20)
  }

  @Test func aSeedReproducesEveryByteAndAnotherDoesNot() throws {
    let first = try scratch.generate()
    #expect(try scratch.generate() == first)
    var other = scratch.request()
    other.seed += 1
    #expect(try scratch.generate(other) != first)
  }

  @Test func promptNegativePromptAndEachKindOfGuidanceCount() throws {
    let first = try scratch.generate()
    let changes: [(String, (inout GenerationRequest) -> Void)] = [
      ("prompt", { $0.prompts = ["a submarine"] }),
      ("negative prompt", { $0.negativePrompt = "grass" }),
      ("cfg", { $0.guidance.video.cfg = 5 }), ("stg", { $0.guidance.video.stg = 3 }),
      ("rescale", { $0.guidance.video.rescale = 0 }),
      ("stg blocks", { $0.guidance.video.stgBlocks = [0] }),
      ("frame rate", { $0.frameRate = 12.5 }),
      ("steps", { $0.steps = 3 }),
    ]
    for (name, change) in changes {
      var request = scratch.request()
      change(&request)
      #expect(try scratch.generate(request) != first, "\(name) has no effect")
    }
  }

  @Test func withoutGuidanceTheNegativePromptIsNotRead() throws {
    var request = scratch.request()
    (request.guidance.video.cfg, request.guidance.video.stg) = (1, 0)
    #expect(try scratch.plan(request).inputs.prompts == request.prompts)
    let first = try scratch.generate(request)
    request.negativePrompt = "something else"
    #expect(try scratch.generate(request) == first)
  }

  @Test func oneImageIsAPNG() throws {
    var request = scratch.request()
    request.frames = 1
    _ = try scratch.generate(request, output: "out.png")
    let (reader, frames) = try scratch.frames("out.png")
    #expect(reader.isImage)
    #expect((frames[0].width, frames[0].height, frames.count) == (96, 64, 1))
  }

  @Test func anImageGuidesTheFrameThatItIsGivenFor() throws {
    let plain = try scratch.generate()
    var request = scratch.request()
    request.conditions = [.image(path: try scratch.image())]
    let atStart = try scratch.generate(request)
    #expect(atStart != plain)
    request.conditions = [.image(path: try scratch.image(), frame: 8)]
    let atEnd = try scratch.generate(request)
    #expect(atEnd != plain)
    #expect(atEnd != atStart)
    request.conditions = [.image(path: try scratch.image(), frame: 8, strength: 0.5)]
    #expect(try scratch.generate(request) != atEnd)
  }

  @Test func latentsOfAnImageAtTheStartAreKept() throws {
    // Sampled with strength 1, the first latent frame is the image's own: the seed can't change the
    // first frame much.
    var request = scratch.request()
    request.conditions = [.image(path: try scratch.image())]
    request.frames = 1
    let first = try scratch.generate(request, output: "out.png")
    request.seed += 1
    #expect(try scratch.generate(request, output: "out.png") == first)
  }

  @Test(arguments: [Stop.whileSampling, .whileWriting])
  func aCancelledGenerationLeavesNothing(_ stop: Stop) throws {
    let old = Data("an older file".utf8)
    try old.write(to: URL(fileURLWithPath: scratch.path("out.mp4")))
    #expect(throws: CancellationError.self) {
      try GenerationPipeline(scratch.plan()).run { progress in
        switch (progress.stage, stop) {
        case (.sample, .whileSampling) where progress.done == 1: throw CancellationError()
        case (.decodeVideo, .whileWriting) where progress.done == 5: throw CancellationError()
        default: break
        }
      }
    }
    #expect(try scratch.contents() == ["out.mp4"])
    #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.path("out.mp4"))) == old)
  }

  enum Stop: Sendable { case whileSampling, whileWriting }

  /// NaNs would be decoded to a black video without a warning.
  @Test func nonFiniteValuesAreReported() throws {
    let lora = LoRARef(path: try scratch.lora(), strength: 1e38)
    #expect(throws: Support.Issue.self) { try scratch.generate(loras: [lora]) }
    #expect(!FileManager.default.fileExists(atPath: scratch.path("out.mp4")))
  }

  @Test func tilesFollowTheCompression() throws {
    #expect(Tiling.usual(for: .usual) == .usual)
    let tiling = Tiling.usual(for: CompressionFactors(time: 16, height: 50, width: 1024))
    #expect(tiling.frames == Tiling.Axis(size: 80, overlap: 32))
    #expect(tiling.height == Tiling.Axis(size: 800, overlap: 100))
    #expect(tiling.width == Tiling.Axis(size: 2048, overlap: 1024))
  }
}
