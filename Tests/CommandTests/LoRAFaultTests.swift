import Foundation
import LTX
import LoRAFiles
import TensorFiles
import TestSupport
import Testing
import Torch

/// The messages of `ltx lora`, `inspect` and `generate` about faulty LoRAs and checkpoints.
@Suite struct LoRAFaultTests {
  private let module = "diffusion_model.transformer_blocks.0.attn1.to_q"
  private let workshop: Workshop

  init() throws { workshop = try Workshop() }

  private func model(_ name: String) -> String { Fixtures.model(name) }

  /// A copy of a fixture with its tensors changed or renamed.
  private func copy(
    _ name: String, to output: String, metadata: [String: String]? = nil,
    _ change: (String, Tensor) throws -> (key: String, tensor: Tensor)?
  ) throws -> String {
    let file = try SafetensorsFile(path: model(name))
    let tensors = try file.keys.compactMap { try change($0, file.tensor($0)) }
    let path = "\(workshop.path)/\(output)"
    try writeSafetensors(tensors, metadata: metadata ?? file.metadata, to: path)
    return path
  }

  private func nan(in tensor: Tensor) throws -> Tensor {
    let flat = try tensor.clone().reshape([-1])
    try flat.narrow(0, 3, 1).copy_(.full([1], Scalar(Double.nan), dtype: tensor.dtype))
    return try flat.reshape(tensor.shape)
  }

  @Test func everyCommandNamesTheTensorThatIsNotFinite() throws {
    let key = "\(module).lora_B.weight"
    let lora = try copy("lora_all", to: "nan.safetensors") {
      ($0, $0 == key ? try nan(in: $1) : $1)
    }
    let out = "out.safetensors"
    for (arguments, status) in [
      (["merge", lora, "--output", out], 2),
      (["merge", lora, "\(model("lora_all")):0.5", "--output", out], 2),
      (["merge", lora, "--into", model("ltx2_transformer"), "--output", out], 2),
      (["scale", lora, out, "--by", "0.5"], 2), (["convert", lora, out, "--to", "diffusers"], 2),
      (["strip", lora, out, "--stream", "audio"], 2), (["resize", lora, out, "--rank", "1"], 2),
      (["inspect", lora], 1), (["inspect", lora, "--json"], 1),
      (["inspect", lora, "--model", model("ltx2_transformer")], 1),
    ] as [([String], Int32)] {
      let result = try Program.run(["lora"] + arguments, in: workshop.path)
      #expect(result.status == status, "\(arguments): \(result.errors)")
      #expect(
        result.errors.contains("\(key) holds values that are not finite"),
        "\(arguments): \(result.errors)")
      #expect(!FileManager.default.fileExists(atPath: "\(workshop.path)/\(out)"), "\(arguments)")
    }
    let shown = try Program.run(["lora", "inspect", lora], in: workshop.path)
    #expect(
      shown.output.split(separator: "\n").dropFirst().first?.hasPrefix("DAMAGED  \(key)") == true)
  }

  @Test func generationStopsBeforeThePrompt() throws {
    let files = try TinyModelFiles.ltx2()
    let entries = try SafetensorsFile(path: files.checkpoint).entries
    let shape = try #require(entries["model.\(module).weight"]).shape
    let bad = try nan(in: .full([shape[0], 4], 0.1, dtype: .float32))
    let lora = "\(workshop.path)/nan.safetensors"
    try writeSafetensors(
      [
        ("\(module).lora_A.weight", try .full([4, shape[1]], 0.1, dtype: .float32)),
        ("\(module).lora_B.weight", bad),
      ], to: lora)
    let result = try Program.run(
      [
        "generate", "--model-path", files.checkpoint, "--text-encoder-path", files.textEncoder,
        "--prompt",
        "a cat",
        "--output", "o.mp4", "--lora", lora,
      ], in: workshop.path)
    #expect(result.status == 2, "\(result.errors)")
    #expect(result.errors.contains("\(module).lora_B.weight holds values that are not finite"))
    #expect(!FileManager.default.fileExists(atPath: "\(workshop.path)/o.mp4"))
  }

  @Test func aLoRAThatChangesNothingIsReported() throws {
    let zero = try copy("lora_all", to: "zero.safetensors") { key, tensor in
      (key, key.hasSuffix("lora_B.weight") ? try .zeros(like: tensor) : tensor)
    }
    let shown = try Program.run(
      ["lora", "inspect", zero, "--model", model("ltx2_transformer")], in: workshop.path)
    #expect(shown.status == 0)
    #expect(shown.output.contains("adapters are zero; the LoRA changes nothing"))
    let fused = try Program.run(
      ["lora", "merge", zero, "--into", model("ltx2_transformer"), "--output", "f.safetensors"],
      in: workshop.path)
    #expect(fused.status == 0)
    #expect(fused.errors.contains("adapters are zero; the LoRA changes nothing"))
    #expect(fused.errors.contains("warning: 0 of "), "\(fused.errors)")
    let merged = try Program.run(
      ["lora", "merge", zero, "--output", "m.safetensors"], in: workshop.path)
    #expect(merged.errors.contains("adapters are zero; the LoRA changes nothing"))
    let tiny = try copy("lora_all", to: "tiny.safetensors") { key, tensor in
      (key, key.hasSuffix("lora_B.weight") ? try tensor * 1e-7 : tensor)
    }
    let small = try Program.run(
      ["lora", "inspect", tiny, "--model", model("ltx2_transformer")], in: workshop.path)
    #expect(small.output.contains("video adapters barely moved: "), "\(small.output)")
    #expect(small.output.contains("audio adapters barely moved: "))
  }

  /// A transformer alone, under every prefix in use, with and without its configuration.
  @Test(
    arguments: ["", "diffusion_model.", "model.diffusion_model.", "transformer."], [true, false])
  func everyLayoutIsABase(_ prefix: String, _ isDescribed: Bool) throws {
    let scope = "model.diffusion_model."
    let whole = try SafetensorsFile(path: model("ltx2_transformer"))
    let config =
      try JSONSerialization.jsonObject(
        with: Data(try #require(whole.metadata["config"]).utf8)) as? [String: Any]
    let own = try JSONSerialization.data(withJSONObject: [
      "transformer": config?["transformer"] ?? [:]
    ])
    let base = try copy(
      "ltx2_transformer", to: "model_weights_step_00003.safetensors",
      metadata: isDescribed ? ["config": String(decoding: own, as: UTF8.self), "x": "y"] : [:]
    ) { key, tensor in
      guard key.hasPrefix(scope), !key.contains("_embeddings_connector.") else { return nil }
      return (prefix + key.dropFirst(scope.count), tensor)
    }
    let result = try Program.run(
      ["lora", "merge", model("lora_bfloat16"), "--into", base, "--output", "out.safetensors"],
      in: workshop.path)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("13 weights changed"), "\(result.errors)")
    // The output has the keys and metadata of the base, and the same weights as a merge into the
    // whole checkpoint.
    let (before, after) = (
      try SafetensorsFile(path: base), try SafetensorsFile(path: "\(workshop.path)/out.safetensors")
    )
    #expect(after.keys == before.keys && after.metadata == before.metadata)
    let reference = try Program.run(
      [
        "lora", "merge", model("lora_bfloat16"), "--into", model("ltx2_transformer"), "--output",
        "r.safetensors",
      ],
      in: workshop.path)
    #expect(reference.status == 0)
    let wanted = try SafetensorsFile(path: "\(workshop.path)/r.safetensors")
    for key in after.keys {
      let want = try wanted.tensor(scope + key.dropFirst(prefix.count))
      #expect(try Tensor.isEqual(after.tensor(key), want), "\(key)")
    }
    let shown = try Program.run(
      ["lora", "inspect", model("lora_bfloat16"), "--model", base], in: workshop.path)
    #expect(shown.status == 0, "\(shown.errors)")
    #expect(shown.output.contains("% of the base weights"))
    let inspected = try Program.run(["inspect", base], in: workshop.path)
    #expect(inspected.status == 0, "\(inspected.errors)")
    #expect(inspected.output.contains("transformer: "), "\(inspected.output)")
    #expect(!inspected.output.contains("no component reads"))
    #expect(inspected.errors.contains("sizes are inferred") == !isDescribed)
  }

  @Test func metadataStaysOffTheTerminal() throws {
    let hostile = try copy(
      "lora_all", to: "h.safetensors",
      metadata: ["a\u{1b}]0;b": String(repeating: "\u{1b}[31m", count: 1_000_000)]
    ) { ($0, $1) }
    let shown = try Program.run(["lora", "inspect", hostile], in: workshop.path)
    #expect(shown.status == 0)
    #expect(shown.output.utf8.count < 50_000 && !shown.output.contains("\u{1b}"))
    #expect(shown.output.contains("(5.0 MB in all)"))
    let json = try Program.run(["lora", "inspect", hostile, "--json"], in: workshop.path)
    let report = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
    #expect((report?["metadata"] as? [String: String])?.values.first?.utf8.count == 5_000_000)
    let bad = try copy("lora_all", to: "b.safetensors") { key, tensor in
      (key == "\(module).lora_A.weight" ? "\u{1b}[2Jno\nsuch layer.lora_A.weight" : key, tensor)
    }
    let refused = try Program.run(["lora", "inspect", bad], in: workshop.path)
    #expect(refused.status == 2)
    #expect(
      refused.errors.contains(#"\u{1b}[2Jno\nsuch layer"#) && !refused.errors.contains("\u{1b}"))
  }

  /// Tools keep a LoRA's metadata, and correct the parts that they change.
  @Test func metadataIsCarriedOver() throws {
    let lora = try copy(
      "lora_all", to: "l.safetensors",
      metadata: [
        "base_model": "LTX-2", "trigger_word": "TINY", "lora_rank": "3", "lora_alpha": "1",
        "ss_network_dim": "3", "ss_network_alpha": "1", "reference_downscale_factor": "2",
        "mine": "kept",
      ]
    ) { ($0, $1) }
    func metadata(_ arguments: [String]) throws -> [String: String] {
      let result = try Program.run(["lora"] + arguments, in: workshop.path)
      #expect(result.status == 0, "\(result.errors)")
      return try SafetensorsFile(path: "\(workshop.path)/o.safetensors").metadata
    }
    for arguments in [
      ["convert", lora, "o.safetensors", "--to", "kohya"],
      ["scale", lora, "o.safetensors", "--by", "0.5"],
      ["strip", lora, "o.safetensors", "--stream", "audio"],
      ["resize", lora, "o.safetensors", "--rank", "2"],
      ["merge", lora, "\(lora):0.5", "--output", "o.safetensors"],
    ] {
      let found = try metadata(arguments)
      for (key, value) in [
        "base_model": "LTX-2", "ss_base_model_version": "ltx-2",
        "modelspec.architecture": "ltx-2/lora",
        "trigger_word": "TINY", "reference_downscale_factor": "2", "mine": "kept",
      ] {
        #expect(found[key] == value, "\(arguments): \(key)")
      }
      #expect(found["software"]?.hasPrefix("swift-ltx ") == true)
      let rank = arguments[0] == "resize" ? "2" : arguments[0] == "merge" ? "6" : "3"
      #expect(found["ss_network_dim"] == rank && found["lora_rank"] == rank, "\(arguments)")
      #expect(found["ss_network_alpha"] == (rank == "3" ? "1" : rank), "\(arguments)")
    }
  }
}
