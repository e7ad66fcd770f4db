import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

/// Tensors that no model reads.
@Suite struct UnexpectedWeightsTests {
  private let scratch: Scratch
  private let files: TinyModel.Files

  init() throws {
    scratch = try Scratch()
    files = try TinyModel.write(to: scratch.folder)
  }

  /// The tiny checkpoint with one more tensor.
  private func checkpoint(with key: String) throws -> Checkpoint {
    let source = try SafetensorsFile(path: files.checkpoint)
    let path = "\(scratch.folder)/more.safetensors"
    let tensors = try source.keys.map { (key: $0, tensor: try source.tensor($0)) }
    try writeSafetensors(tensors + [(key, Tensor.zeros([2]))], metadata: source.metadata, to: path)
    return try Checkpoint(path: path)
  }

  @Test func oneInAModelsScopeIsRefusedByName() throws {
    for key in [
      "model.diffusion_model.transformer_blocks.1.attn1.to_gate.weight",
      "model.diffusion_model.transformer_blocks.4.attn1.to_q.weight",
      "model.diffusion_model.video_embeddings_connector.proj.weight",
      "text_embedding_projection.video_aggregate_embed.weight", "vae.encoder.extra",
      "vae.decoder.extra",
      "audio_vae.encoder.extra", "audio_vae.decoder.extra", "vocoder.extra",
    ] {
      let checkpoint = try checkpoint(with: key)
      let error = #expect(throws: WeightError.self) {
        _ = try checkpoint.transformer(modalities: .video)
        _ = try checkpoint.textConnectors(modalities: .video)
        _ = try checkpoint.promptEncoder(textEncoder: files.textEncoder)
        _ = try checkpoint.videoEncoder()
        _ = try checkpoint.videoDecoder()
        _ = try checkpoint.audioEncoder()
        _ = try checkpoint.audioDecoder()
        _ = try checkpoint.vocoder()
      }
      #expect(error?.key == key)
      #expect(error?.description.contains("more.safetensors") == true)
      #expect(CheckpointInspection(checkpoint).unknownKeys == [key])
    }
  }

  @Test func weightsOfTheOtherModalityAreSkipped() throws {
    let checkpoint = try checkpoint(with: "model.diffusion_model.audio_extra.weight")
    _ = try checkpoint.transformer(modalities: .video)
    #expect(throws: WeightError.self) { try checkpoint.transformer(modalities: .audio) }
  }

  @Test func theTextEncodersVisionTowerIsLeftAnythingInALayerIsNot() throws {
    _ = try checkpoint(with: "other").promptEncoder(textEncoder: files.textEncoder)
    let shard = "\(files.textEncoder)/model-00001-of-00002.safetensors"
    let source = try SafetensorsFile(path: shard)
    let more = "language_model.model.layers.0.mlp.extra.weight"
    let tensors = try source.keys.map { (key: $0, tensor: try source.tensor($0).clone()) }
    try writeSafetensors(tensors + [(more, Tensor.zeros([2]))], to: shard)
    let index = "\(files.textEncoder)/model.safetensors.index.json"
    let text = try String(contentsOfFile: index, encoding: .utf8)
    try Data(
      text.replacing(
        "\"weight_map\": {",
        with: "\"weight_map\": {\"\(more)\": \"model-00001-of-00002.safetensors\","
      )
      .utf8
    ).write(to: URL(filePath: index))
    let error = #expect(throws: WeightError.self) {
      try Checkpoint(path: files.checkpoint).promptEncoder(textEncoder: files.textEncoder)
    }
    #expect(error?.key == more)
  }

  @Test(arguments: TinyModel.Generation.allCases)
  func everyTensorOfAWholeCheckpointIsReadOrKnownToBeOfNoUse(
    _ generation: TinyModel.Generation
  )
    throws
  {
    let files = try TinyModel.write(to: "\(scratch.folder)/\(generation)", generation: generation)
    let inspection = CheckpointInspection(try Checkpoint(path: files.checkpoint))
    #expect(inspection.components.map(\.name).contains("vocoder"))
    #expect(inspection.unknownKeys.isEmpty && inspection.problems.isEmpty)
  }

  @Test func anInspectionCountsWhatThereIs() throws {
    let inspection = CheckpointInspection(try checkpoint(with: "extra"))
    let source = try SafetensorsFile(path: files.checkpoint)
    #expect(inspection.components.map(\.name).contains("video VAE"))
    #expect(inspection.components.reduce(0) { $0 + $1.tensors } == source.entries.count + 1)
    let bytes = source.entries.values.reduce(0) { $0 + $1.byteCount }
    #expect(inspection.components.reduce(0) { $0 + $1.bytes } == bytes + 8)
    #expect(inspection.unknownKeys == ["extra"] && inspection.problems.isEmpty)
    #expect(inspection.components.first?.types == [.bfloat16: inspection.components[0].parameters])
  }

  @Test func aComponentThatLacksATensorIsAProblemOfTheFile() throws {
    let source = try SafetensorsFile(path: files.checkpoint)
    let path = "\(scratch.folder)/less.safetensors"
    let missing = "vae.decoder.conv_out.conv.bias"
    try #require(source.contains(missing))
    try writeSafetensors(
      source.keys.filter { $0 != missing }.map { (key: $0, tensor: try source.tensor($0)) },
      metadata: source.metadata, to: path)
    let inspection = CheckpointInspection(try Checkpoint(path: path))
    #expect(inspection.problems.count == 1 && inspection.problems[0].contains(missing))
    #expect(inspection.unknownKeys.isEmpty)
  }
}
