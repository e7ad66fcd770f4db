import LoRAFiles

extension ConfigurationMode {
  /// A commented configuration of the mode, complete except for the user's paths, the placeholders
  /// `<…>`.
  public var template: String {
    [
      head, model, self == .full ? nil : lora, strategy, optimization, acceleration, data,
      validation,
      checkpoints,
      rest,
    ].compactMap { $0 }.joined(separator: "\n")
  }

  private var name: String { String(fileName.dropLast(".yaml".count)) }

  private var head: String {
    let width = folders.map(\.name.count).max() ?? 0
    let list = folders.map {
      "#   \($0.name)/\(String(repeating: " ", count: width - $0.name.count))  \($0.content)\n"
    }
    return """
      # \(self == .full ? "Full fine-tuning of LTX-2" : "A LoRA on LTX-2"): \(title).
      #
      # Replace the placeholders <…>, then run: ltx config check FILE, and ltx train FILE.
      # Written by: ltx config init \(rawValue)
      #
      # Dataset folders used:
      \(list.joined())#
      # The keys are the official trainer's; those that it does not know are marked "ours". Omitted keys
      # have their default values. docs/configuration.md lists them all.

      """
  }

  private var model: String {
    """
    model:
      model_path: <ltx-2-checkpoint.safetensors>   # all components, or a split model's transformer
      text_encoder_path: <gemma-folder>            # for the samples below
      # video_vae_path: <video-vae.safetensors>    # only for a split model
      # audio_vae_path: <audio-vae.safetensors>
      training_mode: \(self == .full ? "full" : "lora")
      load_checkpoint: null     # weights to start from: a file, or a folder, whose newest file is used
    \(self == .full ? "  # trainable_modules: [attn1]   # ours: patterns of the modules to train; the default is all\n" : "")
    """
  }

  private var lora: String {
    let modules = targets.modules.map { "    - \($0)\n" }.joined()
    let rank = isLowVRAM ? 16 : 32
    return """
      lora:
        rank: \(rank)                  # 8 to 128; the file and the optimizer's state grow with the rank
        alpha: \(rank)                 # the adapter is scaled by alpha / rank
        dropout: 0.0
        target_modules:           # path endings: \(targets.reason)
      \(modules)\(isExtendable ? "    # - ff.net.0.proj         # feed-forward layers: more capacity, more memory\n    # - ff.net.2\n" : "")
      """
  }

  private var isExtendable: Bool { !targets.modules.contains { $0.contains("ff.net") } }

  private var strategy: String {
    func block(_ name: String, _ section: ModalitySection?, _ folder: String) -> String {
      guard let section else { return "  \(name): null               # not used\n" }
      let conditions = section.conditions.map { "      \($0)\n" }.joined()
      return """
          \(name):
            is_generated: \(section.isGenerated ? "true      # learned" : "false     # a condition")
            latents_dir: \(folder)
        \(conditions.isEmpty ? "" : "    conditions:             # each applies with its probability, by default 1\n\(conditions)")
        """
    }
    return """
      training_strategy:
        name: flexible
      \(block("video", video, "latents"))\(block("audio", audio, "audio_latents"))
      """
  }

  private var optimization: String {
    let isQuick = ["-ic", "audio-"].contains { rawValue.contains($0) } || self == .t2a
    let rate = self == .full ? "1.0e-5" : isQuick ? "2.0e-4" : "1.0e-4"
    return """
      optimization:
        learning_rate: \(rate)
        steps: \(isQuick ? 3000 : 2000)
        batch_size: 1
        gradient_accumulation_steps: 1   # batches per step
        max_grad_norm: 1.0        # gradient clipping; 0 turns it off
        optimizer_type: \(isLowVRAM ? "adamw8bit # 8-bit moments: a quarter of the memory" : "adamw     # adamw8bit; ours: prodigy, lion, adafactor, muon")
        scheduler_type: linear    # constant, cosine, cosine_with_restarts, polynomial, step
        scheduler_params: {}
        enable_gradient_checkpointing: true   # recomputes activations: less memory, the same results

      """
  }

  private var acceleration: String {
    """
    acceleration:
      mixed_precision_mode: bf16
      quantization: \(isLowVRAM ? "int8-quanto # 8-bit frozen weights: half the memory" : "null        # int8-quanto, fp8-quanto, int4-quanto, nf4, int2-quanto")
      load_text_encoder_in_8bit: \(isLowVRAM)
      offload_optimizer_during_validation: \(isLowVRAM || self == .full)

    """
  }

  private var data: String {
    """
    data:
      preprocessed_data_root: <folder of the dataset>   # written by ltx preprocess, or its .precomputed
      num_dataloader_workers: 2

    """
  }

  private var validation: String {
    let conditions = sampleConditions.map { "        \($0)\n" }.joined()
    let sample =
      prompt.map { "        \($0)\n" }.joined()
      + (conditions.isEmpty ? "" : "      conditions:\n\(conditions)")
    let (isVideo, isAudio) = (video?.isGenerated == true, audio?.isGenerated == true)
    let size = isLowVRAM ? "[576, 576, 49]" : "[960, 544, 89]"
    let cross = isVideo && isAudio ? "3.0" : "1.0"
    return """
      validation:
        samples:
          - prompt: >-
      \(sample)  video_dims: \(size)   # width and height: multiples of 32; frames: 8 n + 1
        frame_rate: 24.0
        seed: 42
        inference_steps: 30
        interval: 250             # steps between samples; null turns them off
        video_cfg_scale: \(isVideo ? "3.0" : "1.0")
        audio_cfg_scale: \(isAudio ? "7.0" : "1.0")
        video_stg_scale: \(isVideo ? "1.0" : "0.0")
        audio_stg_scale: \(isAudio ? "1.0" : "0.0")
        video_modality_guidance_scale: \(cross)
        audio_modality_guidance_scale: \(cross)
        generate_video: \(isVideo)
        generate_audio: \(isAudio)
        skip_initial_validation: false
        # held_out:               # ours: measures the loss on samples that are held out of training
        #   count: 8              # the number of samples to hold out
        #   interval: 250

      """
  }

  private var checkpoints: String {
    """
    checkpoints:
      interval: 250
      keep_last_n: \(self == .full ? "2            # the newest two; -1 keeps all" : "-1           # -1 keeps all; 3 keeps the newest three")
      # keep_best: true         # ours: also keeps the best checkpoint by validation loss (held_out)
      precision: bfloat16
      save_training_state: \(self == .full ? "full   # with the optimizer's state, twice as large as the weights" : "full   # minimal omits the optimizer's state; off prevents resuming")

    """
  }

  private var rest: String {
    """
    flow_matching:
      timestep_sampling_mode: shifted_logit_normal

    hub:
      push_to_hub: false
      hub_model_id: null          # NAME/REPOSITORY

    wandb:
      enabled: false
      project: ltx2
      tags: [\(rawValue)]

    seed: 42
    output_dir: outputs/\(name)

    """
  }
}
