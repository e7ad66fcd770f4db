import Foundation
import TestSupport
import Testing

@testable import Training

/// Files and folders that a configuration names.
@Suite struct ConfigurationPathTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func text(_ more: String = "", model: String = "m.safetensors", data: String = "set")
    -> String
  {
    """
    model: {model_path: \(scratch.file(model))}
    lora: {}
    training_strategy: {name: flexible, video: {is_generated: true, latents_dir: latents}}
    data: {preprocessed_data_root: \(scratch.file(data))}
    \(more)
    """
  }

  @Test func everythingIsThere() throws {
    for file in ["m.safetensors", "set/latents/a", "set/conditions/a"] {
      try scratch.write("", to: file)
    }
    _ = try TrainingConfiguration(yaml: text(), file: "c.yaml")
    // The folder of the dataset or its .precomputed.
    for file in ["other/.precomputed/latents/a", "other/.precomputed/conditions/a"] {
      try scratch.write("", to: file)
    }
    _ = try TrainingConfiguration(yaml: text(data: "other"), file: "c.yaml")
  }

  @Test func everythingIsMissing() throws {
    let yaml = text(
      """
      validation:
        samples:
          - {prompt: p, conditions: [{type: first_frame, image_or_video: /no/i.png}]}
          - prompt: q
            conditions:
              - {type: mask, video: /no/v.mp4, mask: /no/m.mp4}
        held_out: {preprocessed_data_root: /no/set}
      """)
    let found = try ConfigurationText.problems(yaml, checksPaths: true)
    #expect(
      found.map(\.key) == [
        "model.model_path", "data.preprocessed_data_root",
        "validation.samples[0].conditions[0].image_or_video",
        "validation.samples[1].conditions[0].video",
        "validation.samples[1].conditions[0].mask", "validation.held_out.preprocessed_data_root",
      ])
    #expect(found.allSatisfy { $0.message.contains("does not exist") })
    #expect(found[1].message == "\(scratch.file("set")) does not exist; run `ltx preprocess` first")
    #expect(found[1].line == 4 && found[1].column == 8)
    _ = try ConfigurationText.read(yaml)
  }

  @Test func wrongKinds() throws {
    for file in ["m.safetensors", "set/conditions/a"] { try scratch.write("", to: file) }
    #expect(
      try ConfigurationText.problems(text(), checksPaths: true).map(\.description)
        == [
          "data preprocessed_data_root has no folder latents, which the strategy flexible reads: "
            + scratch.file("set/latents")
        ])
    #expect(
      try ConfigurationText.problems(text(data: "m.safetensors"), checksPaths: true).map(\.message)
        == ["\(scratch.file("m.safetensors")) is not a folder"])
    let url = text().replacingOccurrences(of: scratch.file("m.safetensors"), with: "https://a/b")
    #expect(try ConfigurationText.problems(url).map(\.key) == ["model.model_path"])
    let folder = text().replacingOccurrences(
      of: "m.safetensors}", with: "m.safetensors, video_vae_path: \(scratch.file("set"))}")
    #expect(
      try ConfigurationText.problems(folder, checksPaths: true).map(\.key).contains(
        "model.video_vae_path"))
  }
}

extension ConfigurationProblems.Problem {
  fileprivate var description: String { "\(key) \(message)" }
}
