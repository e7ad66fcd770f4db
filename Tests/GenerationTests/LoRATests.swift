import Foundation
import LTX
import Support
import TensorFiles
import Testing
import Torch

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
    // A LoRA and the same one with the opposite strength cancel out.
    #expect(try scratch.generate(loras: [.init(path: a), .init(path: b, strength: 0)]) == onlyA)
  }

  @Test func lokrAndLoHaStackWithALoRA() throws {
    let lora = try scratch.lora()
    let module = "diffusion_model.transformer_blocks.0.attn1.to_v"
    let width = TinyTransformer().width
    let generator = try Generator(seed: 6)
    func file(_ name: String, _ shapes: [(String, [Int])]) throws -> String {
      try writeSafetensors(
        shapes.map { ("\(module).\($0)", try generator.normal($1)) }, to: scratch.path(name))
      return scratch.path(name)
    }
    let lokr = try file(
      "lokr.safetensors", [("lokr_w1", [8, 8]), ("lokr_w2", [width / 8, width / 8])])
    let loha = try file(
      "loha.safetensors",
      [
        ("hada_w1_a", [width, 2]), ("hada_w1_b", [2, width]), ("hada_w2_a", [width, 2]),
        ("hada_w2_b", [2, width]),
      ])
    let alone = try scratch.generate(loras: [.init(path: lora)])
    for other in [lokr, loha] {
      let both = try scratch.generate(loras: [.init(path: lora), .init(path: other)])
      #expect(both != alone)
      #expect(
        try scratch.generate(loras: [.init(path: lora), .init(path: other, strength: 0)]) == alone)
    }
  }

  @Test func adaptersOfTheAudioModalityAreSkippedWithANote() throws {
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
    #expect(
      problem.contains("diffusion_model.transformer_blocks.0.attn1.to_out.0 has lora_A of [2, "))
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
