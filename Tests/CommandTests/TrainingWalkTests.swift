import Foundation
import LTX
import TensorFiles
import Testing
import Torch
import Tracking
import Training

/// Training on real clips with the program: the results, and recovery after a kill.
@Suite(.serialized) struct TrainingWalkTests {
  private func metrics(_ folder: String) throws -> [StepRecord] {
    try RecordedMetrics(path: "\(folder)/metrics.jsonl").steps
  }

  /// Trains on the four clips until the loss at fixed noise and sigma has at least halved, saves,
  /// and gets the same loss from the saved file in a new process. Alpha is half the rank here, so
  /// the scale must have been folded in.
  @Test func itLearns() throws {
    let prepared = try PreparedTraining.shared.get()
    let trainer = try Trainer(
      TrainingConfiguration(path: prepared.configure("learns", steps: 40, batch: 4)))
    let example = try trainer.example(samples: [0, 1, 2, 3], noiseSeed: 17)
    let before = try trainer.loss(example).mean().item()
    let file = try #require(try trainer.run().weights)
    let after = try trainer.loss(example)
    let last = try after.mean().item()
    #expect(last <= before / 2, "the loss went from \(before) to \(last)")

    let video = try #require(example.video)
    let m = video.input
    let tokens = m.latent.size(1)
    let tensors: [(key: String, tensor: Tensor)] = [
      ("video.latent", m.latent),
      ("video.timesteps", try m.timesteps.expand([4, tokens]).contiguous()),
      ("video.sigma", m.sigma), ("video.positions", m.positions), ("video.context", m.context),
      ("video.target", try #require(video.target)),
      ("video.loss_mask", try #require(video.lossMask).to(.int64)),
    ]
    try writeSafetensors(tensors, to: "\(prepared.path)/example.safetensors")
    let probe = try Program.run(
      [
        "probe", "lora-gradients", "--model", prepared.model, "--lora", file, "--inputs",
        "example.safetensors",
        "--output", "loss.safetensors",
      ], in: prepared.path)
    #expect(probe.status == 0, "\(probe.errors)")
    let reloaded = try SafetensorsFile(path: "\(prepared.path)/loss.safetensors").tensor("loss")
    let difference = try (reloaded - after).abs().max().item()
    #expect(difference <= 1e-6, "the loss of the saved file differs by \(difference)")
  }

  /// A run that is killed and started again ends with the same bytes as an uninterrupted one.
  @Test func killedTrainingResumes() throws {
    let prepared = try PreparedTraining.shared.get()
    let whole = try prepared.configure("whole", steps: 12, accumulation: 2)
    #expect(try Program.run(["train", whole], in: prepared.path).status == 0)

    let broken = try prepared.configure("broken", steps: 12, accumulation: 2)
    let folder = "\(prepared.path)/broken"
    let process = try Program.start(["train", broken], in: prepared.path)
    while process.isRunning {
      let done =
        FileManager.default.contents(atPath: "\(folder)/metrics.jsonl")?.filter { $0 == 10 }.count
        ?? 0
      if done >= 5 { break }
      usleep(20_000)
    }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    let before = try metrics(folder).count
    #expect((5..<12).contains(before))
    let resumed = try Program.run(["train", broken], in: prepared.path)
    #expect(resumed.status == 0, "\(resumed.errors)")
    let goneOn = try #require(
      resumed.output.split(separator: "\n").first { $0.hasPrefix("resuming after step ") }?.split(
        separator: " "
      )[3].dropLast())
    // At most the current step and the steps written meanwhile are lost.
    #expect(try #require(Int(goneOn)) >= 1)

    let steps = try metrics(folder)
    #expect(steps.map(\.step) == Array(1...12))
    let wholeSteps = try metrics("\(prepared.path)/whole")
    #expect(steps.map(\.loss) == wholeSteps.map(\.loss))
    let name = "checkpoints/lora_weights_step_00012.safetensors"
    let a = try #require(FileManager.default.contents(atPath: "\(folder)/\(name)"))
    #expect(a == FileManager.default.contents(atPath: "\(prepared.path)/whole/\(name)"))
  }

  /// The file has ComfyUI's keys, a pair for each target, and no audio layers.
  @Test func savedKeys() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure(
      "keys", steps: 4, "checkpoints: {interval: 1, keep_last_n: 2}")
    // The configuration may have the section once.
    let text = try String(contentsOfFile: config, encoding: .utf8)
      .replacingOccurrences(of: "checkpoints: {precision: float32}\n", with: "")
    try text.write(toFile: config, atomically: true, encoding: .utf8)
    #expect(try Program.run(["train", config], in: prepared.path).status == 0)
    let folder = "\(prepared.path)/keys/checkpoints"
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        == [
          "lora_weights_step_00003.safetensors", "lora_weights_step_00004.safetensors",
          "training_state_step_00003.safetensors", "training_state_step_00004.safetensors",
        ])
    let file = try SafetensorsFile(path: "\(folder)/lora_weights_step_00004.safetensors")
    #expect(
      file.entries["diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight"]?.dtype
        == .bfloat16)
    #expect(
      file.entries.keys.allSatisfy { $0.hasPrefix("diffusion_model.") && !$0.contains("audio") })
    let pairs = file.entries.keys.filter { $0.hasSuffix("lora_A.weight") }
    #expect(pairs.count * 2 == file.entries.count)
    // 4 blocks with 2 attentions of 4 layers each and 2 feed-forward layers, plus the output layer.
    #expect(pairs.count == 4 * (2 * 4 + 2) + 1)
    for key in pairs {
      #expect(
        try file.tensor(key.replacingOccurrences(of: "lora_A", with: "lora_B")).abs().max().item()
          > 0,
        "\(key)")
    }
  }

  /// The end of a run reports how far the adapters moved and how the validation loss changed; a run
  /// that learned nothing is reported as such.
  @Test func theEndSaysWhetherItLearned() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure(
      "learned", steps: 6, "validation: {interval: null, held_out: {count: 1}}")
    let good = try Program.run(
      ["train", config, "--set", "checkpoints.keep_best=true"], in: prepared.path)
    #expect(good.status == 0, "\(good.errors)")
    let line = try #require(good.output.split(separator: "\n").first { $0.hasPrefix("learned: ") })
    #expect(
      line.hasPrefix("learned: video adapters moved: ") && line.contains("; video loss fell from "),
      "\(line)"
    )
    #expect(line.hasSuffix("; audio was not trained"), "\(line)")
    #expect(!good.errors.contains("warning: "), "\(good.errors)")
    let lines = good.output.split(separator: "\n").map(String.init)
    let weights = "\(prepared.path)/learned/checkpoints/lora_weights_step_00006.safetensors"
    #expect(
      lines.last == weights
        && lines.contains { $0.hasPrefix("best: step 6, ") && $0.hasSuffix(weights) })
    #expect(lines.contains { $0.hasPrefix("6 steps in ") })
    #expect(lines.contains("report: \(prepared.path)/learned/report.html"))
    let page = try String(contentsOfFile: "\(prepared.path)/learned/report.html", encoding: .utf8)
    #expect(page.contains("Did it learn?") && page.contains("Video adapters moved: "))

    let bad = try Program.run(
      ["train", config, "--overwrite", "--set", "optimization.learning_rate=1e-9"],
      in: prepared.path)
    #expect(bad.status == 0, "\(bad.errors)")
    #expect(bad.errors.contains("warning: video adapters barely moved: "), "\(bad.errors)")
    #expect(bad.output.contains("video loss stayed at "), "\(bad.output)")
  }

  /// Tensor memory is the same after the tenth and the last step.
  @Test func noTensorLeaks() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("leaks", steps: 50)
    // Batches that are loaded ahead and copies that are being written vary.
    let alone = ["data.num_dataloader_workers=0", "checkpoints.save_training_state=off"]
    #expect(
      try Program.run(["train", config] + alone.flatMap { ["--set", $0] }, in: prepared.path).status
        == 0)
    let steps = try metrics("\(prepared.path)/leaks")
    #expect(steps.count == 50)
    // After ten steps, the contexts of all four samples are cached.
    #expect(steps[9].tensorBytes == steps[49].tensorBytes)
    #expect(try #require(steps[9].tensorBytes) > 0)
  }

  /// Missing and unsuitable files in a configuration are reported with their position, before
  /// anything is written.
  @Test func badInputEndsWithStatus2() throws {
    let prepared = try PreparedTraining.shared.get()
    func errors(_ change: (String) -> String) throws -> String {
      let config = try prepared.configure("bad", steps: 2)
      let text = try String(contentsOfFile: config, encoding: .utf8)
      let changed = change(text)
      #expect(changed != text)
      try changed.write(toFile: config, atomically: true, encoding: .utf8)
      let result = try Program.run(["train", config], in: prepared.path)
      #expect(result.status == 2)
      #expect(result.output.isEmpty)
      let lines = result.errors.split(separator: "\n").filter { !$0.hasPrefix("note: ") }
      #expect(lines.count == 1, "\(result.errors)")
      return lines.joined(separator: "\n")
    }
    let target = try errors { $0.replacingOccurrences(of: "[to_q,", with: "[to_qq,") }
    #expect(
      target.contains("bad.yaml:2:28: lora.target_modules \"to_qq\" matches no linear layer"),
      "\(target)")
    #expect(target.contains("did you mean to_q?"))
    let output = try errors {
      $0.replacingOccurrences(of: "output_dir: ", with: "output_dir: /proc")
    }
    #expect(output.contains("bad.yaml:9:1: output_dir /proc"), "\(output)")
    let data = try errors { $0.replacingOccurrences(of: "data_root: ", with: "data_root: nowhere") }
    #expect(
      data.contains("bad.yaml:8:8: data.preprocessed_data_root \(prepared.path)/nowhere"), "\(data)"
    )
    let model = try errors {
      $0.replacingOccurrences(
        of: prepared.model, with: "\(prepared.textEncoder)/model-00001-of-00002.safetensors")
    }
    #expect(model.contains("not an LTX-2 checkpoint"))
  }

  /// Latents and text features of another model are not used silently.
  @Test func cacheOfAnotherModel() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("other", steps: 1)
    #expect(try Program.run(["train", config], in: prepared.path).status == 0)
    #expect(
      try Program.run(["tiny-model", "other-model", "--seed", "4"], in: prepared.path).status == 0)
    let text = try String(contentsOfFile: config, encoding: .utf8)
      .replacingOccurrences(of: prepared.model, with: "other-model/\(TinyModel.checkpointName)")
      .replacingOccurrences(of: "\(prepared.path)/other\n", with: "\(prepared.path)/other2\n")
    try text.write(toFile: config, atomically: true, encoding: .utf8)
    let refused = try Program.run(["train", config], in: prepared.path)
    #expect(refused.status == 2)
    #expect(
      refused.errors.contains("4 samples that were preprocessed with another model"),
      "\(refused.errors)")
    let accepted = try Program.run(
      ["train", config, "--set", "data.accept_other_model=true"], in: prepared.path)
    #expect(accepted.status == 0, "\(accepted.errors)")
  }

  /// Text features of different text encoders are not mixed silently.
  @Test func cacheOfAnotherTextEncoder() throws {
    let prepared = try PreparedTraining.shared.get()
    #expect(
      try Program.run(["tiny-model", "other-text", "--seed", "5"], in: prepared.path).status == 0)
    let other = "\(prepared.path)/other-text/\(TinyModel.textEncoderName)"
    let config = try prepared.configure("text-encoder", steps: 1)
    func train(_ textEncoder: String, _ more: [String] = []) throws -> Program.Result {
      try Program.run(
        ["train", config, "--dry-run", "--set", "model.text_encoder_path=\(textEncoder)"] + more,
        in: prepared.path)
    }
    #expect(try train(prepared.textEncoder).status == 0)
    let refused = try train(other)
    #expect(refused.status == 2)
    #expect(
      refused.errors.contains(
        "the text features of 4 of 4 samples were made with another text encoder than \(other)"),
      "\(refused.errors)")
    #expect(try train(other, ["--set", "data.accept_other_model=true"]).status == 0)
    func check(_ textEncoder: String) throws -> Program.Result {
      try Program.run(
        ["dataset", "check", ".", "--text-encoder-path", textEncoder], in: prepared.path)
    }
    #expect(try !check(prepared.textEncoder).output.contains("text encoder"))
    let checked = try check(other)
    #expect(checked.status == 1)
    #expect(
      checked.output.components(
        separatedBy: "was made with another text encoder than the given one"
      ).count
        == 5,
      "\(checked.output)")
  }

  /// Another configuration in the same folder is rejected, and the difference is named.
  @Test func anotherRunInTheFolder() throws {
    let prepared = try PreparedTraining.shared.get()
    let first = try prepared.configure("folder", steps: 2)
    #expect(try Program.run(["train", first], in: prepared.path).status == 0)
    let text = try String(contentsOfFile: first, encoding: .utf8).replacingOccurrences(
      of: "rank: 16", with: "rank: 4")
    try text.write(toFile: first, atomically: true, encoding: .utf8)
    let result = try Program.run(["train", first], in: prepared.path)
    #expect(result.status == 2)
    #expect(result.errors.contains("lora.rank was 16 and is now 4"))
  }
}
