import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

/// Settings in peft's adapter configuration are applied, or rejected by name.
@Suite struct PEFTConfigurationTests {
  let fixture: LoRAFixture
  private let module = "transformer_blocks.1.attn1.to_q"

  init() throws { fixture = try LoRAFixture() }

  /// The scale of the adapter beside a peft configuration.
  private func scale(_ settings: String) throws -> Double {
    let name = "base_model.model.\(module)"
    let path = try fixture.file(
      ["\(name).lora_A.weight": [4, 8], "\(name).lora_B.weight": [8, 4]],
      name: "adapter_model.safetensors")
    try Data("{\"r\": 4, \"lora_alpha\": 8\(settings.isEmpty ? "" : ", ")\(settings)}".utf8).write(
      to: URL(fileURLWithPath: fixture.path("adapter_config.json")))
    // The folder is equivalent to the file in it.
    let scales = try [path, fixture.folder].map { try LoRAFile(path: $0).modules[0].scale }
    #expect(scales[0] == scales[1])
    return scales[0]
  }

  @Test(arguments: [
    ("", 2), (#""use_rslora": true"#, 4), (#""alpha_pattern": {"to_q": 12}"#, 3),
    (#""alpha_pattern": {"attn1.to_q": 12, "to_k": 1}"#, 3), (#""alpha_pattern": {"to_k": 1}"#, 2),
    (#""alpha_pattern": {".*\\.attn1\\.to_[qk]": 12}"#, 3),
    (#""alpha_pattern": {"transformer_blocks\\.(0|1)\\.attn1\\.to_q": 12}"#, 3),
    (#""rank_pattern": {"to_q": 4}"#, 2), (#""peft_type": "LORA", "init_lora_weights": true"#, 2),
    (#""init_lora_weights": "gaussian""#, 2), (#""init_lora_weights": "eva""#, 2),
    (#""init_lora_weights": "orthogonal""#, 2), (#""bias": "none", "modules_to_save": null"#, 2),
    (
      #""lora_dropout": 0.1, "target_modules": ["to_q"], "task_type": "X", "peft_version": "0.18""#,
      2
    ),
    (#""something_new": null, "another": [], "third": false, "fourth": {}"#, 2),
    (
      #""fan_in_fan_out": false, "use_dora": false, "target_parameters": null, "qalora_group_size": 16"#,
      2
    ),
    (#""layers_to_transform": [0, 1], "megatron_core": "megatron.core", "loftq_config": {}"#, 2),
  ])
  func knownSettingsAreApplied(_ settings: String, _ expected: Double) throws {
    #expect(try scale(settings) == expected)
  }

  @Test(arguments: [
    (#""peft_type": "LOHA""#, "peft_type", "LOHA"),
    (#""peft_type": "ADALORA""#, "peft_type", "ADALORA"),
    (#""init_lora_weights": "pissa""#, "init_lora_weights", "changed the base weights"),
    (#""init_lora_weights": "pissa_niter_16""#, "init_lora_weights", "changed the base weights"),
    (#""init_lora_weights": "olora""#, "init_lora_weights", "changed the base weights"),
    (#""init_lora_weights": "loftq""#, "init_lora_weights", "changed the base weights"),
    (#""init_lora_weights": "corda""#, "init_lora_weights", "changed the base weights"),
    (#""init_lora_weights": "lora_ga""#, "init_lora_weights", "changed the base weights"),
    (#""init_lora_weights": "magic""#, "init_lora_weights", "not known"),
    (#""init_lora_weights": 3"#, "init_lora_weights", "must be"),
    (#""bias": "all""#, "bias", "biases"),
    (#""bias": "lora_only""#, "bias", "biases"),
    (#""modules_to_save": ["proj_out"]"#, "modules_to_save", "fully trained"),
    (#""fan_in_fan_out": true"#, "fan_in_fan_out", "transposed"),
    (#""use_dora": true"#, "use_dora", "magnitudes"),
    (#""layer_replication": [[0, 4]]"#, "layer_replication", "repeats"),
    (#""target_parameters": ["x"]"#, "target_parameters", "not linear"),
    (#""trainable_token_indices": [1]"#, "trainable_token_indices", "tokens"),
    (#""use_qalora": true"#, "use_qalora", "QA-LoRA"),
    (#""alora_invocation_tokens": [1]"#, "alora_invocation_tokens", "activated"),
    (#""something_new": true"#, "something_new", "not known"),
    (#""scaling_of_rows": 2"#, "scaling_of_rows", "not known"),
    (#""rank_pattern": {"to_q": 8}"#, "r", "rank 8"),
    (#""alpha_pattern": {"to_q": 1, "attn1.to_q": 2}"#, "alpha_pattern", "two patterns"),
    (#""alpha_pattern": {"(.*)+q": 1}"#, "(.*)+q", "pattern"),
  ])
  func therestIsRefusedByName(_ settings: String, _ key: String, _ problem: String) throws {
    let error = #expect(throws: Support.Issue.self, "\(settings)") { try scale(settings) }
    #expect(error?.subject.pathDescription.hasSuffix(key) == true, "\(error.map { "\($0)" } ?? "")")
    #expect(error?.problem.contains(problem) == true, "\(error?.problem ?? "")")
    #expect(error?.file == fixture.path("adapter_config.json"))
    // diffusers writes the same settings to the metadata.
    let name = "transformer.\(module)"
    let prefixed = settings.replacing(#/"([a-z_]+)": /#, maxReplacements: 1) {
      "\"transformer.\($0.output.1)\": "
    }
    let path = try fixture.file(
      ["\(name).lora_A.weight": [4, 8], "\(name).lora_B.weight": [8, 4]],
      metadata: ["lora_adapter_metadata": "{\"transformer.r\": 4, \(prefixed)}"],
      name: "d.safetensors")
    #expect(throws: Support.Issue.self, "\(prefixed)") { try LoRAFile(path: path) }
  }

  /// A configuration beside a file that isn't peft's doesn't apply to it.
  @Test func otherFilesInTheFolderAreTheirOwn() throws {
    let path = try fixture.file(
      [
        "diffusion_model.\(module).lora_A.weight": [4, 8],
        "diffusion_model.\(module).lora_B.weight": [8, 4],
      ])
    try Data(#"{"peft_type": "LOHA"}"#.utf8).write(
      to: URL(fileURLWithPath: fixture.path("adapter_config.json")))
    #expect(try LoRAFile(path: path).modules[0].scale == 1)
  }
}
