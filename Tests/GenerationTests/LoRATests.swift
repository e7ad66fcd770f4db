import Foundation
import Support
import Testing

@testable import Generation

@Suite struct LoRATests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test func strengthChangesTheVideoAndZeroDoesNot() throws {
    let lora = try scratch.lora()
    let plain = try scratch.generate()
    let full = try scratch.generate(loras: [.init(path: lora)])
    let half = try scratch.generate(loras: [.init(path: lora, strength: 0.5)])
    #expect(full != plain)
    #expect(half != plain)
    #expect(half != full)
    #expect(try scratch.generate(loras: [.init(path: lora, strength: 0)]) == plain)
  }

  @Test func lorasStack() throws {
    let (a, b) = (try scratch.lora(), try scratch.lora("b.safetensors", seed: 2))
    let onlyA = try scratch.generate(loras: [.init(path: a)])
    let onlyB = try scratch.generate(loras: [.init(path: b)])
    let both = try scratch.generate(loras: [.init(path: a), .init(path: b)])
    #expect(both != onlyA)
    #expect(both != onlyB)
    // One with the other taken back is as good as none.
    #expect(try scratch.generate(loras: [.init(path: a), .init(path: b, strength: 0)]) == onlyA)
  }

  @Test func adaptersOfTheAudioStreamAreLeftOutWithANote() throws {
    let video = try scratch.lora()
    let both = try scratch.lora(
      "both.safetensors", modules: Scratch.defaultModules + Scratch.audioModules)
    let plan = try scratch.plan(loras: [.init(path: both)])
    #expect(plan.notes.count == 1)
    #expect(plan.notes.first?.contains("4 audio adapters are left out") == true)
    #expect(try scratch.plan(loras: [.init(path: video)]).notes.isEmpty)
    // The random numbers of a LoRA file are drawn in order: the video adapters of both files are
    // the same.
    #expect(
      try scratch.generate(loras: [.init(path: both)])
        == scratch.generate(loras: [.init(path: video)]))
  }

  @Test func aLoRAOfAnotherWidthNamesTheKeyAndBothShapes() throws {
    let lora = try scratch.lora(widen: 8)
    let error = #expect(throws: Support.Issue.self) {
      try scratch.plan(loras: [.init(path: lora)])
    }
    #expect(error?.place == ["loras"])
    let problem = error?.description ?? ""
    #expect(problem.contains(lora))
    #expect(problem.contains("diffusion_model.transformer_blocks.0.attn1.to_out.0 has A of [2, "))
    #expect(problem.contains("made for another model"))
  }

  @Test func aTargetThatDoesNotExistIsNamed() throws {
    for module in ["transformer_blocks.99.attn1.to_q", "transformer_blocks.0.audio_attn9.to_q"] {
      let lora = try scratch.lora(modules: Scratch.defaultModules + [module])
      let error = #expect(throws: Support.Issue.self) {
        try scratch.plan(loras: [.init(path: lora)])
      }
      #expect(error?.description.contains("diffusion_model.\(module) is not a layer of") == true)
    }
  }

  @Test func filesThatAreNoLoRA() throws {
    let text = scratch.path("text.safetensors")
    try Data("hello".utf8).write(to: URL(fileURLWithPath: text))
    let files = try TinyFiles.files.get()
    for path in [scratch.path("missing.safetensors"), text, files.checkpoint, scratch.folder] {
      let error = #expect(throws: Support.Issue.self) {
        try scratch.plan(loras: [.init(path: path)])
      }
      #expect(error?.place == ["loras"])
      #expect(error?.description.contains(path) == true)
    }
    let error = #expect(throws: Support.Issue.self) {
      try scratch.plan(loras: [.init(path: scratch.lora() + ":strong")])
    }
    #expect(error?.description.contains("a number after the colon") == true)
  }

  @Test(arguments: [Double.nan, .infinity]) func aStrengthMustBeFinite(_ strength: Double) throws {
    let error = #expect(throws: Support.Issue.self) {
      try scratch.plan(loras: [.init(path: scratch.lora(), strength: strength)])
    }
    #expect(error?.place == ["loras"])
  }
}
