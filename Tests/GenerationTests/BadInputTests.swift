import Foundation
import LTX
import Media
import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import Generation

@Suite struct BadInputTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func error(
    output: String = "out.mp4", _ change: (inout GenerationRequest) throws -> Void
  ) throws -> Support.Issue? {
    var request = scratch.request()
    try change(&request)
    return #expect(throws: Support.Issue.self) { try scratch.plan(request, output: output) }
  }

  @Test func sizes() throws {
    let width = try error { $0.width = 100 }
    #expect(width?.description.hasPrefix("width: must be a multiple of 32 (got 100)") == true)
    #expect(width?.description.contains("Use 96 or 128.") == true)
    #expect(try error { $0.height = -32 }?.subject == ["height"])
    #expect(try error { $0.height = 0 }?.description.contains("or more") == true)
    let frames = try error { $0.frames = 10 }
    #expect(frames?.description.hasPrefix("frames: must be of the form 8k + 1 (got 10)") == true)
    #expect(frames?.description.contains("Use 9 or 17.") == true)
    #expect(try error { $0.frames = 0 }?.description.contains("Use 1 or 9.") == true)
    // Too large to count with, or to allocate.
    #expect(try error { $0.frames = .max }?.subject == ["frames"])
    #expect(try error { $0.width = 1 << 62 }?.description.contains("at most 16384") == true)
  }

  @Test func numbers() throws {
    #expect(try error { $0.steps = 0 }?.subject == ["steps"])
    #expect(try error { $0.steps = -3 }?.subject == ["steps"])
    #expect(try error { $0.steps = .max }?.subject == ["steps"])
    for rate in [0, -24, .nan, .infinity, 1e9, 1e-300, 0.01] {
      #expect(try error { $0.frameRate = rate }?.subject == ["frameRate"])
    }
    #expect(try error { $0.guidance.video.cfg = .nan }?.subject == ["guidance", "video", "cfg"])
    #expect(
      try error { $0.guidance.video.stg = .infinity }?.subject == ["guidance", "video", "stg"])
    #expect(try error { $0.guidance.audio.cfg = 1e308 }?.subject == ["guidance", "audio", "cfg"])
    #expect(
      try error { $0.guidance.video.rescale = 1.5 }?.subject == ["guidance", "video", "rescale"])
    let block = try error { $0.guidance.video.stgBlocks = [0, 400] }
    #expect(block?.subject == ["guidance", "video", "stgBlocks"])
    #expect(block?.description.contains("block 400 does not exist") == true)
    #expect(try error { $0.prompts = ["a ball", "  \n"] }?.subject == ["prompts"])
  }

  @Test func outputs() throws {
    #expect(try error(output: "out.avi") { _ in }?.description.contains(".mp4") == true)
    #expect(
      try error(output: "out.png") { _ in }?.description.contains("generate a single frame") == true
    )
    // A file system that rejects new files even to root, such as one mounted read-only.
    let refused = #expect(throws: Support.Issue.self) {
      try OutputSink.check(
        path: "/proc/out.mp4", kind: .video,
        size: .init(width: 64, height: 64, frames: 9, frameRate: Rational(24)))
    }
    #expect(refused?.description.contains("can't be written to") == true)
    #expect(
      try error(output: "nowhere/out.mp4") { _ in }?.description.contains("does not exist") == true)
    // Inputs are never overwritten, under any name.
    let image = try scratch.image()
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path("link.png"), withDestinationPath: image)
    let over = try error(output: "link.png") {
      ($0.frames, $0.conditions) = (1, [.image(path: image)])
    }
    #expect(over?.description.contains("is the input \(image)") == true)
    try FileManager.default.createDirectory(
      atPath: scratch.path("dir.mp4"), withIntermediateDirectories: false)
    #expect(try error(output: "dir.mp4") { _ in }?.description.contains("is a folder") == true)
  }

  @Test func images() throws {
    let image = try scratch.image()
    #expect(
      try error { $0.conditions = [.image(path: image, frame: 9)] }?.description.contains(
        "between 0 and 8")
        == true)
    #expect(
      try error { $0.conditions = [.image(path: image, frame: -1)] }?.place == [
        "conditions", 0, "frame",
      ])
    #expect(
      try error { $0.conditions = [.image(path: image, strength: 1.1)] }?.place == [
        "conditions", 0, "strength",
      ])
    let missing = scratch.path("missing.png")
    #expect(
      try error { $0.conditions = [.image(path: missing)] }?.description.contains(missing) == true)
    let text = scratch.path("text.png")
    try Data("this is not an image".utf8).write(to: URL(fileURLWithPath: text))
    #expect(try error { $0.conditions = [.image(path: text)] }?.description.contains(text) == true)
    let writer = try VideoWriter(
      path: scratch.path("video.mp4"), width: 16, height: 16, frameRate: Rational(8))
    let gray = RGBFrame(bytes: [UInt8](repeating: 99, count: 3 * 16 * 16), width: 16, height: 16)
    for _ in 0..<3 { try writer.append(gray) }
    try writer.finish()
    let video = try error { $0.conditions = [.image(path: scratch.path("video.mp4"))] }
    #expect(video?.description.contains("is a video") == true)
  }

  @Test func models() throws {
    var models = try scratch.models()
    func plan() throws {
      _ = try GenerationPlan(scratch.request(), models: models, output: scratch.path("out.mp4"))
    }
    models.files.unified = scratch.path("missing.safetensors")
    #expect(#expect(throws: Support.Issue.self) { try plan() }?.place == ["checkpoint"])
    // A LoRA is safetensors, but isn't a checkpoint.
    models.files.unified = try scratch.lora()
    #expect(
      #expect(throws: Support.Issue.self) { try plan() }?.place
        == ["checkpoint", "__metadata__.config"])
    models = try scratch.models()
    models.files[.textEncoder] = scratch.path("nowhere")
    #expect(#expect(throws: Support.Issue.self) { try plan() }?.place == ["textEncoder"])
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
