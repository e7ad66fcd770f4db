import Foundation
import LTX
import TensorFiles
import Testing
import Torch

@testable import Generation

/// The distilled recipe of LTX-2.5, whose first stage replaces its noise in each step.
@Suite struct AncestralRecipeTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// The tiny model as a checkpoint of a version; its layers stay unchanged.
  private func models(version: String, isTwoStage: Bool = false) throws -> GenerationModels {
    let files = try TinyFiles.files.get()
    let source = try SafetensorsFile(path: files.checkpoint)
    let path = scratch.path("version-\(version).safetensors")
    try writeSafetensors(
      source.keys.map { (key: $0, tensor: try source.tensor($0)) },
      metadata: source.metadata.merging(["model_version": version]) { $1 }, to: path)
    var models = GenerationModels(ModelFiles(unified: path, textEncoder: files.textEncoder))
    if isTwoStage { models.upsampler = files.spatialUpsampler }
    return models
  }

  private var request: GenerationRequest {
    var request = scratch.request()
    (request.isDistilled, request.steps, request.seed) = (true, nil, .max)
    return request
  }

  private func plan(
    _ request: GenerationRequest, _ models: GenerationModels, _ output: String = "out.mp4"
  ) throws -> GenerationPlan {
    try GenerationPlan(request, models: models, output: scratch.path(output))
  }

  private func bytes(_ plan: GenerationPlan) throws -> [Data] {
    try GenerationPipeline(plan).run()
    return try plan.outputs.map { try Data(contentsOf: URL(fileURLWithPath: $0)) }
  }

  @Test func theVersionChoosesTheFirstStage() throws {
    func stages(
      _ version: String, _ change: (inout GenerationRequest) -> Void = { _ in }
    ) throws -> [Bool] {
      var request = request
      (request.width, request.height) = (128, 128)
      change(&request)
      return try plan(request, models(version: version, isTwoStage: request.isDistilled))
        .samplings.map(\.isAncestral)
    }
    #expect(try stages("2.5.0") == [true, false])
    #expect(try stages("2.6-rc1") == [true, false])
    #expect(try stages("2.4.9") == [false, false])
    #expect(try stages("2.5.0") { $0.method = .res2s } == [false, false])
    #expect(try stages("2.5.0") { ($0.isDistilled, $0.steps) = (false, 2) } == [false])
  }

  /// A result doesn't depend on the other prompts, and the fresh noise changes it.
  @Test func everyPromptHasItsOwnNoise() throws {
    let (new, old) = (try models(version: "2.5.0"), try models(version: "2.4.0"))
    let alone = try bytes(plan(request, new))
    #expect(try bytes(plan(request, old, "old.mp4")) != alone)
    var several = request
    several.prompts = ["a submarine"] + request.prompts
    #expect(try bytes(plan(several, new, "several.mp4"))[1] == alone[0])
  }
}
