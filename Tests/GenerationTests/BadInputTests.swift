import Foundation
import LTX
import Media
import NN
import TensorFiles
import Testing
import Torch

@testable import Generation

@Suite struct BadInputTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func error(
    output: String = "out.mp4", _ change: (inout GenerationRequest) throws -> Void
  ) throws -> GenerationError? {
    var request = scratch.request()
    try change(&request)
    return #expect(throws: GenerationError.self) { try scratch.plan(request, output: output) }
  }

  @Test func sizes() throws {
    let width = try error { $0.width = 100 }
    #expect(width?.description.hasPrefix("--width: 100 is not possible") == true)
    #expect(width?.problem.contains("multiples of 32; use 96 or 128") == true)
    #expect(try error { $0.height = -32 }?.option == .height)
    #expect(try error { $0.height = 0 }?.problem.contains("or more") == true)
    let frames = try error { $0.frames = 10 }
    #expect(frames?.description.hasPrefix("--num-frames: 10 is not possible") == true)
    #expect(frames?.problem.contains("8k + 1 frames; use 9 or 17") == true)
    #expect(try error { $0.frames = 0 }?.problem.contains("use 1 or 9") == true)
    // Too large to count with, or to hold.
    #expect(try error { $0.frames = .max }?.option == .frames)
    #expect(try error { $0.width = 1 << 62 }?.problem.contains("at most 16384") == true)
  }

  @Test func numbers() throws {
    #expect(try error { $0.steps = 0 }?.option == .steps)
    #expect(try error { $0.steps = -3 }?.option == .steps)
    #expect(try error { $0.steps = .max }?.option == .steps)
    for rate in [0, -24, .nan, .infinity, 1e9, 1e-300, 0.01] {
      #expect(try error { $0.frameRate = rate }?.option == .frameRate)
    }
    #expect(try error { $0.videoGuidance.cfg = .nan }?.option == .videoCFG)
    #expect(try error { $0.videoGuidance.stg = .infinity }?.option == .videoSTG)
    #expect(try error { $0.audioGuidance.cfg = 1e308 }?.option == .audioCFG)
    #expect(try error { $0.videoGuidance.rescale = 1.5 }?.option == .videoRescale)
    let block = try error { $0.videoGuidance.stgBlocks = [0, 400] }
    #expect(block?.option == .videoSTGBlocks)
    #expect(block?.problem.contains("there is no block 400") == true)
    #expect(try error { $0.prompts = ["a ball", "  \n"] }?.option == .prompt)
  }

  @Test func outputs() throws {
    #expect(try error(output: "out.avi") { _ in }?.problem.contains(".mp4") == true)
    #expect(try error(output: "out.png") { _ in }?.problem.contains("--num-frames 1") == true)
    // A file system that refuses new files even to root, as one that is mounted read-only does.
    let refused = #expect(throws: GenerationError.self) {
      try OutputSink.check(
        path: "/proc/out.mp4", kind: .video,
        size: .init(width: 64, height: 64, frames: 9, frameRate: Rational(24)))
    }
    #expect(refused?.problem.contains("can't be written to") == true)
    #expect(
      try error(output: "nowhere/out.mp4") { _ in }?.problem.contains("does not exist") == true)
    // Nothing that is read is written over, under whatever name.
    let picture = try scratch.image()
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path("link.png"), withDestinationPath: picture)
    let over = try error(output: "link.png") {
      ($0.frames, $0.conditions) = (1, [.image(path: picture)])
    }
    #expect(over?.description.contains("is the input \(picture)") == true)
    try FileManager.default.createDirectory(
      atPath: scratch.path("dir.mp4"), withIntermediateDirectories: false)
    #expect(try error(output: "dir.mp4") { _ in }?.problem.contains("is a folder") == true)
  }

  @Test func images() throws {
    let picture = try scratch.image()
    #expect(
      try error { $0.conditions = [.image(path: picture, frame: 9)] }?.problem.contains(
        "use 0 to 8")
        == true)
    #expect(try error { $0.conditions = [.image(path: picture, frame: -1)] }?.option == .image)
    #expect(try error { $0.conditions = [.image(path: picture, strength: 1.1)] }?.option == .image)
    let missing = scratch.path("missing.png")
    #expect(
      try error { $0.conditions = [.image(path: missing)] }?.problem.contains(missing) == true)
    let text = scratch.path("text.png")
    try Data("this is no picture".utf8).write(to: URL(fileURLWithPath: text))
    #expect(try error { $0.conditions = [.image(path: text)] }?.problem.contains(text) == true)
    let writer = try VideoWriter(
      path: scratch.path("video.mp4"), width: 16, height: 16, frameRate: Rational(8))
    let gray = RGBFrame(bytes: [UInt8](repeating: 99, count: 3 * 16 * 16), width: 16, height: 16)
    for _ in 0..<3 { try writer.append(gray) }
    try writer.finish()
    let video = try error { $0.conditions = [.image(path: scratch.path("video.mp4"))] }
    #expect(video?.problem.contains("is a video") == true)
  }

  @Test func models() throws {
    var models = try scratch.models()
    func plan() throws {
      _ = try GenerationPlan(scratch.request(), models: models, output: scratch.path("out.mp4"))
    }
    models.files.unified = scratch.path("missing.safetensors")
    #expect(#expect(throws: GenerationError.self) { try plan() }?.option == .checkpoint)
    // A LoRA is safetensors, but no checkpoint.
    models.files.unified = try scratch.lora()
    #expect(#expect(throws: GenerationError.self) { try plan() }?.option == .checkpoint)
    models = try scratch.models()
    models.files[.textEncoder] = scratch.path("nowhere")
    #expect(#expect(throws: GenerationError.self) { try plan() }?.option == .textEncoder)
    models.files[.textEncoder] = scratch.folder
    #expect(throws: (any Error).self) { try plan() }
    models = try scratch.models()
    models.device = .cuda(77)
    #expect(throws: TorchError.self) { try plan() }
  }

  @Test func aCheckpointThatLacksAWeightIsRefusedBeforeWork() throws {
    let whole = try SafetensorsFile(path: TinyFiles.files.get().checkpoint)
    let lost = "model.diffusion_model.transformer_blocks.1.attn2.to_k.weight"
    let rest = try whole.entries.keys.sorted().filter { $0 != lost }.map {
      (key: $0, tensor: try whole.tensor($0))
    }
    try writeSafetensors(rest, metadata: whole.metadata, to: scratch.path("broken.safetensors"))
    var models = try scratch.models()
    models.files.unified = scratch.path("broken.safetensors")
    let error = #expect(throws: WeightError.self) {
      try GenerationPlan(scratch.request(), models: models, output: scratch.path("out.mp4"))
    }
    #expect(error?.key == lost)
  }
}
