import Foundation
import LTX
import LoRAFiles
import TensorFiles
import Testing

/// The metadata of saved LoRAs, and a run's messages about the LoRA that it starts from.
@Suite(.serialized) struct TrainingMetadataTests {
  @Test func savedLoRAsSayWhatTheyAre() throws {
    let prepared = try PreparedTraining.shared.get()
    let configuration = try prepared.configure(
      "metadata", steps: 2, "validation: {interval: null, held_out: {count: 1}}")
    #expect(try Program.run(["train", configuration], in: prepared.path).status == 0)
    let path = "\(prepared.path)/metadata/checkpoints/lora_weights_step_00002.safetensors"
    let metadata = try SafetensorsFile(path: path).metadata
    for (key, value) in [
      "software": SwiftLTX.software, "base_model": "LTX-2",
      "base_model_file": TinyModel.checkpointName,
      "lora_rank": "16", "lora_alpha": "8", "lora_type": "lora", "training_steps": "2",
      "trigger_word": "TINY",
      "lora_targets": "to_q, to_k, to_v, to_out.0, net.0.proj, net.2, proj_out",
      "ss_base_model_version": "ltx-2", "ss_network_module": "networks.lora",
      "ss_network_dim": "16",
      "ss_network_alpha": "8", "ss_steps": "2", "ss_output_name": "lora_weights_step_00002",
      "ss_seed": "42",
      "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": "ltx-2/lora",
      "modelspec.title": "lora_weights_step_00002", "modelspec.trigger_phrase": "TINY",
    ] {
      #expect(metadata[key] == value, "\(key)")
    }
    #expect(metadata["base_model_identity"]?.isEmpty == false)
    #expect(
      !metadata.values.contains { $0.contains(prepared.path) },
      "a path of this machine is in the file")
    #expect(metadata["modelspec.date"] == nil)

    let shown = try Program.run(["lora", "inspect", path], in: prepared.path)
    #expect(shown.output.contains("trigger  TINY"))
    #expect(shown.output.contains("base     LTX-2: "))

    // The losses equal those in the run's metrics.
    let records = try String(
      contentsOfFile: "\(prepared.path)/metadata/metrics.jsonl", encoding: .utf8
    )
    .split(separator: "\n").compactMap {
      try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }.compactMap { $0["validation_video_loss"] as? Double }
    #expect(records.count == 2 && records[0] != records[1])
    for (key, loss) in zip(["validation_video_loss_before", "validation_video_loss"], records) {
      #expect(metadata[key] == String(format: "%.6g", loss))
    }
    #expect(metadata["validation_audio_loss"] == nil)
    let line = try #require(shown.output.split(separator: "\n").first { $0.hasPrefix("loss     ") })
    #expect(
      line.hasPrefix("loss     video validation loss: ") && line.contains(" before training, "))
    // The losses don't apply to scaled factors.
    let scaled = "\(prepared.path)/scaled.safetensors"
    #expect(
      try Program.run(["lora", "scale", path, scaled, "--by", "0.5"], in: prepared.path).status == 0
    )
    #expect(try SafetensorsFile(path: scaled).metadata["validation_video_loss"] == nil)

    // A LoRA that was trained on the other generation causes a warning.
    let file = try SafetensorsFile(path: path)
    let other = "\(prepared.path)/other.safetensors"
    try writeSafetensors(
      file.keys.map { ($0, try file.tensor($0)) }, metadata: ["base_model": "LTX-2.3"], to: other)
    let next = try prepared.configure("goes-on", steps: 1)
    let result = try Program.run(
      ["train", next, "--set", "model.load_checkpoint=\(other)", "--dry-run"], in: prepared.path)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("was trained on LTX-2.3"), "\(result.errors)")
  }
}
