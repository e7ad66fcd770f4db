import Foundation
import LanguageModels
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

/// The tiny model, split into files in every supported layout.
@Suite struct CheckpointLayoutTests {
  private let scratch: Scratch
  private let files: TinyModel.Files
  private let unified: Checkpoint

  init() throws {
    scratch = try Scratch()
    files = try TinyModel.write(to: scratch.folder)
    unified = try Checkpoint(path: files.checkpoint)
  }

  private func path(_ name: String) -> String { "\(scratch.folder)/\(name)" }

  /// Writes the tensors of the unified file whose keys have a prefix, under other names.
  private func write(
    _ name: String, _ prefixes: [String], config keys: [String], version: String? = nil,
    rename: (String) -> String = { $0 }
  ) throws -> String {
    let source = unified.source
    let tensors = try source.keys.filter { key in prefixes.contains { key.hasPrefix($0) } }
      .map { (key: rename($0), tensor: try source.tensor($0)) }
    let json = try #require(source.metadata["config"])
    let all = try #require(
      try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
    let config = try JSONSerialization.data(withJSONObject: all.filter { keys.contains($0.key) })
    var metadata = ["config": String(decoding: config, as: UTF8.self)]
    metadata["model_version"] = version
    try writeSafetensors(tensors, metadata: metadata, to: path(name))
    return path(name)
  }

  private func dropping(_ prefix: String) -> (String) -> String {
    { $0.hasPrefix(prefix) ? String($0.dropFirst(prefix.count)) : $0 }
  }

  private func expectSame(_ checkpoint: Checkpoint) throws {
    #expect(Set(checkpoint.source.keys) == Set(unified.source.keys))
    for key in unified.source.keys {
      #expect(
        try Tensor.isEqual(checkpoint.source.tensor(key), unified.source.tensor(key)), "\(key)")
    }
    try checkpoint.require("transformer", "vae", "audio_vae", "vocoder")
    _ = try checkpoint.transformer()
    _ = try checkpoint.textConnectors()
    _ = try checkpoint.videoDecoder()
    _ = try checkpoint.promptEncoder(textEncoder: files.textEncoder)
  }

  @Test(arguments: ["", "model.", "model.diffusion_model."])
  func aFileForEachComponentHasTheTensorsOfTheUnifiedOne(dropped: String) throws {
    let isBare = dropped == "model.diffusion_model."
    let models = ModelFiles(
      transformer: try write(
        "t.safetensors", ["model.", "text_embedding_projection."],
        config: ["transformer", "scheduler"],
        version: "2.3.0", rename: dropping(dropped)),
      textEncoder: files.textEncoder,
      videoVAE: try write(
        "v.safetensors", ["vae."], config: ["vae"], rename: dropping(isBare ? "vae." : "")),
      audioVAE: try write(
        "a.safetensors", ["audio_vae.", "vocoder."], config: ["audio_vae", "vocoder"]))
    let checkpoint = try Checkpoint(models)
    try expectSame(checkpoint)
    #expect(checkpoint.version?.isAtLeast(2, 3) == true)
    #expect(checkpoint.config.has("scheduler"))
  }

  @Test func aComponentsFileConfiguresOnlyThatComponent() throws {
    let vae = try write("v.safetensors", ["vae."], config: ["vae", "transformer"])
    let checkpoint = try Checkpoint(ModelFiles(videoVAE: vae))
    #expect(!checkpoint.config.has("transformer"))
    _ = try checkpoint.videoEncoder()
  }

  @Test func aMissingComponentIsNamed() throws {
    let transformer = try write("t.safetensors", ["model."], config: ["transformer"])
    let vae = try write("v.safetensors", ["vae."], config: ["vae"])
    let checkpoint = try Checkpoint(ModelFiles(transformer: transformer, videoVAE: vae))
    #expect(message { try checkpoint.require("audio_vae") }.contains("audio VAE"))
    #expect(message { _ = try checkpoint.promptEncoder() }.contains("textEncoder: is missing"))
    let text = message { _ = try checkpoint.promptEncoder(textEncoder: files.textEncoder) }
    #expect(text.contains("text_embedding_projection") && text.contains("t.safetensors"), "\(text)")
    let noVideo = try Checkpoint(ModelFiles(transformer: transformer))
    #expect(message { _ = try noVideo.videoDecoder() }.contains("video VAE"))
    #expect(message { _ = try Checkpoint(ModelFiles()) }.contains("checkpoint: is missing"))
    let swapped = message { _ = try Checkpoint(ModelFiles(transformer: vae)) }
    #expect(
      swapped.contains("v.safetensors: config.transformer: is missing, but this file is given"),
      "\(swapped)"
    )
    let partial = try Checkpoint(path: transformer)
    #expect(message { _ = try partial.videoDecoder() }.contains("video VAE"))
  }

  @Test func aFileThatOnlyDescribesAComponentIsNotItsFile() throws {
    let path = try write("empty.safetensors", ["vocoder."], config: ["vae", "transformer"])
    for models in [
      ModelFiles(videoVAE: path), ModelFiles(unified: files.checkpoint, videoVAE: path),
    ] {
      let text = message { _ = try Checkpoint(models) }
      #expect(
        text.contains("empty.safetensors: has no tensors of the video VAE, but this file is given"))
    }
    #expect(
      message { _ = try Checkpoint(ModelFiles(durationHead: path)) }.contains(
        "config.duration_head: is missing, but this file is given"))
    // Of a transformer without tensors, nothing can be built.
    let described = try Checkpoint(path: path)
    #expect(message { try described.require("transformer") }.contains("config.transformer"))
  }

  @Test func eachComponentHasTheVersionAndTheMetadataOfItsFile() throws {
    let transformer = try write(
      "t.safetensors", ["model."], config: ["transformer"], version: "2.5-rc3")
    let vae = try write("v.safetensors", ["vae."], config: ["vae"], version: "2.3.0")
    let split = try Checkpoint(ModelFiles(transformer: transformer, videoVAE: vae))
    #expect(split.version(of: .transformer)?.parts == [2, 5] && split.version?.parts == [2, 5])
    #expect(split.version(of: .videoVAE)?.parts == [2, 3, 0])
    #expect(split.version(of: .audioVAE) == nil)
    #expect(split.metadata(of: .videoVAE)["model_version"] == "2.3.0")
    // The transformer may be given as the checkpoint, and a unified one is every component's file.
    let same = try Checkpoint(ModelFiles(unified: transformer, videoVAE: vae))
    #expect(same.version?.parts == [2, 5] && same.version(of: .videoVAE)?.parts == [2, 3, 0])
    let mixed = try Checkpoint(ModelFiles(unified: files.checkpoint, videoVAE: vae))
    #expect(mixed.version == nil && mixed.version(of: .audioVAE) == nil)
    #expect(mixed.version(of: .videoVAE)?.parts == [2, 3, 0])
    let alone = try Checkpoint(path: vae)
    #expect(alone.version?.parts == [2, 3, 0] && alone.isTransformerAlone == false)
    #expect(try Checkpoint(path: transformer).isTransformerAlone)
  }

  @Test func errorsNameTheFileThatIsAtFault() throws {
    let transformer = try write("t.safetensors", ["model."], config: ["transformer"])
    let vae = path("v.safetensors")
    let channels = "vae.per_channel_statistics.mean-of-means"
    try writeSafetensors(
      [(channels, Tensor.zeros([3]))], metadata: ["config": #"{"vae": {"dims": "x"}}"#], to: vae)
    let checkpoint = try Checkpoint(ModelFiles(transformer: transformer, videoVAE: vae))
    #expect(
      message { _ = try checkpoint.config.object("vae").int("dims", in: 0...8) }.hasPrefix(
        "\(vae): config.vae.dims"))
    #expect(
      message { _ = try checkpoint.weights().tensor(channels, shape: [4]) }.hasPrefix(
        "\(vae): \(channels) has"))
  }

  @Test func aTensorThatLacksIsLookedForInTheComponentsFile() throws {
    let transformer = try write("t.safetensors", ["model."], config: ["transformer"])
    let vae = try write("v.safetensors", ["vae.per", "vae.encoder"], config: ["vae"])
    let checkpoint = try Checkpoint(ModelFiles(transformer: transformer, videoVAE: vae))
    let text = message { _ = try checkpoint.videoDecoder() }
    #expect(text.hasPrefix("\(vae): vae.decoder.") && text.contains("is missing"), "\(text)")
  }

  @Test func anotherVideoVAETakesThePlaceOfTheUnifiedOnes() throws {
    let other = try TinyModel.write(to: scratch.folder + "/other", seed: 7).checkpoint
    let checkpoint = try Checkpoint(ModelFiles(unified: files.checkpoint, videoVAE: other))
    let theirs = try Checkpoint(path: other).source
    #expect(checkpoint.source.keys == unified.source.keys)
    for key in unified.source.keys {
      let wanted = key.hasPrefix("vae.") ? theirs : unified.source
      #expect(try Tensor.isEqual(checkpoint.source.tensor(key), wanted.tensor(key)), "\(key)")
    }
  }

  @Test func shardsWithAnIndexAreACheckpointTooIfOneCarriesTheConfiguration() throws {
    let folder = path("sharded")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    _ = try write(
      "sharded/model-1.safetensors", ["model."],
      config: ["transformer", "vae", "audio_vae", "vocoder"])
    let rest = unified.source.keys.filter { !$0.hasPrefix("model.") }
    try writeSafetensors(
      rest.map { (key: $0, tensor: try unified.source.tensor($0)) },
      to: folder + "/model-2.safetensors")
    let map = unified.source.keys.map {
      "\"\($0)\": \"model-\($0.hasPrefix("model.") ? 1 : 2).safetensors\""
    }
    let index = Data("{\"weight_map\": {\(map.joined(separator: ","))}}".utf8)
    try index.write(to: URL(filePath: folder + "/model.safetensors.index.json"))
    try expectSame(try Checkpoint(path: folder))
    try index.write(to: URL(filePath: folder + "/ltx.safetensors.index.json"))
    try expectSame(try Checkpoint(path: folder + "/ltx.safetensors.index.json"))
    #expect(
      message { _ = try Checkpoint(path: files.textEncoder) }.contains(
        "__metadata__.config: is missing"))
  }

  @Test func aTextEncoderInOneFileWithItsTokenizerAndTheProjection() throws {
    let folder = try ShardedSafetensors(folder: files.textEncoder)
    let json = try Data(contentsOf: URL(filePath: files.textEncoder + "/tokenizer.json"))
    var tensors: [(key: String, tensor: Tensor)] = try folder.keys.filter {
      $0.hasPrefix("language_model.")
    }
    .map { ($0.replacing("language_model.model.", with: "model."), try folder.tensor($0)) }
    let projection = "text_embedding_projection.aggregate_embed.weight"
    tensors.append((projection, try unified.source.tensor(projection)))
    let weights = tensors
    tensors.append(("tokenizer_json", try Tensor(Array(json))))
    let config = try String(contentsOfFile: files.textEncoder + "/config.json", encoding: .utf8)
    let packed = path("te.safetensors")
    try writeSafetensors(tensors, metadata: ["gemma_config": config], to: packed)

    let transformer = try write("t.safetensors", ["model."], config: ["transformer"])
    let checkpoint = try Checkpoint(ModelFiles(transformer: transformer, textEncoder: packed))
    let prompts = ["waves of blue light"]
    let features = try checkpoint.promptEncoder()(prompts)
    let wanted = try unified.promptEncoder(textEncoder: files.textEncoder)(prompts)
    #expect(try Tensor.isEqual(features.byModality.video, wanted.byModality.video))
    #expect(try Tensor.isEqual(features.mask, wanted.mask))

    try writeSafetensors(weights, metadata: ["gemma_config": config], to: packed)
    #expect(message { _ = try checkpoint.promptEncoder() }.contains("tokenizer_json"))
    try writeSafetensors(tensors, to: packed)
    #expect(
      message { try TextEncoderFiles(path: packed).requireAll() }.contains(
        "gemma_config: is missing"))
    try FileManager.default.removeItem(atPath: files.textEncoder + "/tokenizer.json")
    let missing = message { _ = try unified.promptEncoder(textEncoder: files.textEncoder) }
    #expect(missing.contains("has no tokenizer.json"), "\(missing)")
  }
}

@Suite struct ModelVersionTests {
  @Test(arguments: [
    ("2.3.0", [2, 3, 0]), ("2.3.rc1", [2, 3]), ("2.3-rc1", [2, 3]), ("2.0", [2, 0]), ("3", [3]),
    ("", nil), ("beta", nil), ("99999999999999999999", nil), ("2..5", [2]), (".5", nil),
    ("2.5-", [2, 5]),
  ])
  func versions(text: String, parts: [Int]?) { #expect(ModelVersion(text)?.parts == parts) }

  @Test func versionsAreOrderedByTheirNumbers() throws {
    let candidate = try #require(ModelVersion("2.3.rc1"))
    #expect(candidate.isAtLeast(2, 3) && !candidate.isAtLeast(2, 4))
    #expect(try candidate < #require(ModelVersion("2.10.0")))
  }
}
