import Foundation
import LanguageModels
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

private let gemma3 = #"{"model_type": "gemma3"}"#
private let gemma4 = #"{"model_type": "gemma4_unified"}"#
private let ours = #"{"model_type": "gemma4_unified", "gemma_version": "v1"}"#

/// Whether a text encoder belongs to a checkpoint.
@Suite struct TextEncoderPairingTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func path(_ name: String) -> String { "\(scratch.url.path)/\(name)" }

  /// - Parameters:
  ///   - source: `gemma_source_checkpoint`.
  ///   - gemma: The configuration of the text encoder.
  /// - Returns: `fits`; `unknown` with a warning; `differs`; or `undeclared`, which is a problem of
  ///   the checkpoint.
  private func outcome(source: String?, version: String?, gemma: String) throws -> String {
    var metadata: [String: String] = [:]
    metadata["gemma_source_checkpoint"] = source
    metadata["model_version"] = version
    let pairing = try TextEncoderPairing(metadata: metadata, file: "ltx.safetensors")
    let config = try Configuration(json: gemma, file: "config.json")
    if let mismatch = try pairing.mismatch(config, path: "gemma") {
      #expect(mismatch.suggestion != nil || "\(mismatch)".contains("Use the original file"))
      return "\(mismatch)".contains("__metadata__") ? "undeclared" : "differs"
    }
    return pairing.doubt(config, path: "gemma") == nil ? "fits" : "unknown"
  }

  @Test(
    arguments: [
      (#"{"gemma_version": "v1"}"#, "2.5.0", ours, "fits"),
      (#"{"gemma_version": "v1"}"#, nil, ours, "fits"),
      (#"{"gemma_version": "v2"}"#, "2.5.0", ours, "differs"),
      (#"{"gemma_version": "v1"}"#, "2.5.0", gemma4, "differs"),
      (#"{"gemma_version": "v1"}"#, "2.5.0", gemma3, "differs"),
      (#"{"gemma_version": 1}"#, "2.5.0", ours, "differs"),
      (#"{}"#, "2.5.0", ours, "differs"), (#"{"gemma_version": null}"#, "2.5.0", gemma4, "fits"),
      (#"{}"#, "2.3.0", gemma3, "fits"), ("null", "2.3.0", gemma3, "fits"),
      (nil, "2.5.0", ours, "undeclared"), (nil, "2.5.0", gemma4, "unknown"),
      (nil, "2.5.0", gemma3, "unknown"), (nil, "2.4.0", gemma3, "unknown"),
      // Parts after a dash or a name don't count here.
      (nil, "2.4", gemma3, "fits"), (nil, "2.4", gemma4, "differs"),
      (nil, "2.4.rc1", gemma4, "differs"), (nil, "2.5-rc3", gemma4, "differs"),
      (nil, "2.5-rc3", gemma3, "fits"), (nil, "2.5", gemma4, "unknown"),
      (nil, "3", ours, "undeclared"),
      (nil, "2.3.0", gemma3, "fits"), (nil, "2.3.0", gemma4, "differs"), (nil, nil, gemma3, "fits"),
      (nil, nil, ours, "differs"), (nil, "beta", gemma4, "differs"), (nil, "", gemma3, "fits"),
      (nil, nil, #"{"model_type": "gemma3_text"}"#, "fits"), (nil, nil, "{}", "differs"),
      (nil, nil, #"{"model_type": "gemma4"}"#, "differs"),
    ] as [(String?, String?, String, String)])
  func theRule(source: String?, version: String?, gemma: String, wanted: String) throws {
    #expect(try outcome(source: source, version: version, gemma: gemma) == wanted)
  }

  @Test(arguments: ["[1]", "{", "\"v1\"", "1"])
  func damagedMetadataIsNamed(source: String) {
    let text = message {
      _ = try TextEncoderPairing(metadata: ["gemma_source_checkpoint": source], file: "ltx.st")
    }
    #expect(text.hasPrefix("ltx.st: __metadata__.gemma_source_checkpoint"), "\(text)")
  }

  /// A Gemma 4 in a folder, made for the tiny model's widths.
  private func writeGemma4(_ name: String) throws -> String {
    let folder = URL(filePath: path(name))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try TinyGemma4().write(to: folder, seed: 4)
    return path(name)
  }

  /// The sentence says which file is needed, before anything is loaded.
  @Test func aTextEncoderOfAnotherGenerationIsRefused() throws {
    let files = try TinyModel.write(to: path("model"), generation: .ltx23)
    let checkpoint = try Checkpoint(path: files.checkpoint)
    #expect(try checkpoint.textEncoderMismatch(at: files.textEncoder) == nil)
    #expect(try checkpoint.requireTextEncoder(files.textEncoder) == nil)
    let other = try writeGemma4("gemma4")
    let text = message { _ = try checkpoint.promptEncoder(textEncoder: other) }
    #expect(
      text.contains("textEncoder: \(other): is not the text encoder that \(files.checkpoint)")
        && text.contains("gemma4_unified, expected gemma3 for model_version 2.3.0")
        && text.contains("Gemma 3 12B"), "\(text)")
    #expect(try checkpoint.textEncoderMismatch(at: other) != nil)

    // The same checkpoint as one that was trained with the Gemma 4: Gemma 3 is refused, and then
    // the projection, which has another number of inputs.
    var metadata = checkpoint.source.metadata
    metadata.merge(TinyGemma4.checkpointMetadata) { $1 }
    let newer = path("newer.safetensors")
    try writeSafetensors(
      checkpoint.source.keys.map { ($0, try checkpoint.source.tensor($0)) }, metadata: metadata,
      to: newer)
    let wrong = message { try Checkpoint(path: newer).requireTextEncoder(files.textEncoder) }
    #expect(
      wrong.contains("gemma3 with no gemma_version, expected gemma_version \(TinyGemma4.version)")
        && wrong.contains("published with the checkpoint"), "\(wrong)")
    let widths = message { try Checkpoint(path: newer).requireTextEncoder(other) }
    #expect(widths.contains("the checkpoint was made for another text encoder"), "\(widths)")
    #expect(message { try checkpoint.requireTextEncoder() }.contains("textEncoder: is missing"))
  }

  /// A folder and a single file with the same weights give the same features, and a pack without
  /// projections is refused.
  @Test func aSingleFileHoldsTheProjections() throws {
    let files = try TinyModel.write(to: path("model"), generation: .ltx23)
    let source = try SafetensorsFile(path: files.checkpoint)
    var metadata = source.metadata
    metadata.merge(TinyGemma4.checkpointMetadata) { $1 }
    let isProjection = { (key: String) in key.hasPrefix("text_embedding_projection.") }
    let drawn = RandomWeights.Drawn(try Generator(seed: 9))
    let root = RandomWeights(into: drawn) / "text_embedding_projection"
    let inputs = TinyGemma4().width * (TinyGemma4().layers + 1)
    let shapes = source.entries.mapValues(\.shape)
    for name in ["video", "audio"] {
      let key = "text_embedding_projection.\(name)_aggregate_embed.bias"
      try (root / "\(name)_aggregate_embed").linear(inputs, try #require(shapes[key]?.first))
    }
    let rest = try source.keys.filter { !isProjection($0) }.map {
      (key: $0, tensor: try source.tensor($0))
    }
    let (whole, bare) = (path("whole.safetensors"), path("bare.safetensors"))
    try writeSafetensors(rest + drawn.tensors, metadata: metadata, to: whole)
    try writeSafetensors(rest, metadata: metadata, to: bare)
    let folder = try writeGemma4("gemma4")
    let (packed, incomplete) = (path("te.safetensors"), path("te-bare.safetensors"))
    try TinyGemma4().writePacked(
      to: packed, projections: drawn.tensors, Generator(seed: 4))
    try TinyGemma4().writePacked(to: incomplete, projections: [], Generator(seed: 4))

    let prompts = ["slow waves", "<bos> a 猫"]
    let wanted = try Checkpoint(path: whole).promptEncoder(textEncoder: folder)(prompts)
    for checkpoint in [
      try Checkpoint(path: bare), try Checkpoint(ModelFiles(unified: bare, textEncoder: packed)),
    ] {
      let features = try checkpoint.promptEncoder(textEncoder: packed)(prompts)
      for (modality, values) in features.byModality.pairs {
        #expect(try Tensor.isEqual(values, wanted.byModality[modality]))
        #expect(try (0.1...10).contains(values.to(.float32).slice(1, from: 1022).std().item()))
      }
      #expect(try Tensor.isEqual(features.mask, wanted.mask))
    }
    for textEncoder in [folder, incomplete] {
      let text = message { _ = try Checkpoint(path: bare).promptEncoder(textEncoder: textEncoder) }
      #expect(
        text.contains("text_embedding_projection.* is missing") && text.contains(textEncoder)
          && text.contains("give one of them"), "\(text)")
    }

    let contents = try inspectTextEncoder(at: packed)
    #expect(contents.version == TinyGemma4.version && contents.unusedKeys.isEmpty)
    #expect(contents.projections.count == 4 && contents.assets.count == 5)
    #expect(try inspectTextEncoder(at: folder).unusedKeys.isEmpty)
    let tokenizer = try TextEncoderFiles(path: packed).tokenizer()
    #expect(try tokenizer.encodePrompt("<|image>").ids.suffix(2).first == 2)
    #expect(tokenizer.vocabularySize <= TinyTokenizer(.gemma4).embeddingCount)
  }
}
