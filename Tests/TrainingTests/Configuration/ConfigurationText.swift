import Testing

@testable import Training

/// Configuration texts for the tests of this folder.
enum ConfigurationText {
  static let minimal = """
    model: {model_path: m.safetensors}
    lora: {}
    data: {preprocessed_data_root: d}

    """

  /// Every key of the flexible strategy and of all sections, none at its default.
  static let everything = """
    model:
      model_path: m.safetensors
      text_encoder_path: gemma
      video_vae_path: video.safetensors
      audio_vae_path: audio.safetensors
      training_mode: lora
      load_checkpoint: earlier
    lora: {rank: 8, alpha: 4, dropout: 0.25, target_modules: [to_q, ff.net.2], use_rslora: yes, use_dora: on}
    training_strategy:
      name: flexible
      video:
        is_generated: true
        latents_dir: clips
        conditions:
          - {type: first_frame, probability: 0.5}
          - {type: prefix, temporal_boundary: 2, probability: 0.25}
          - {type: suffix, temporal_boundary: 3}
          - {type: spatial_crop, spatial_region: [0, 32, 64, 96], probability: 0}
          - {type: mask, mask_dir: video_masks, probability: 1}
          - {type: reference, latents_dir: reference_latents}
      audio:
        is_generated: false
        latents_dir: sounds
        conditions:
          - {type: mask, mask_dir: audio_masks}
          - {type: reference, latents_dir: reference_audio_latents, probability: 0.75}
    optimization:
      learning_rate: 1e-4
      steps: 70
      batch_size: 3
      gradient_accumulation_steps: 2
      max_grad_norm: 0.5
      optimizer_type: adamw8bit
      optimizer_params: {weight_decay: 1e-2}
      scheduler_type: cosine_with_restarts
      scheduler_params: {T_0: 7, T_mult: 2, eta_min: 1e-6}
      warmup_steps: 5
      learning_rates: {to_q: 1e-3, ff.net.2: 2}
      ema_decay: 0.99
      max_skipped_steps: 4
      enable_gradient_checkpointing: true
    acceleration:
      mixed_precision_mode: fp16
      quantization: fp8-quanto
      load_text_encoder_in_8bit: true
      offload_optimizer_during_validation: true
    data: {preprocessed_data_root: /data/set, num_dataloader_workers: 0}
    validation:
      samples:
        - prompt: "first: a prompt"
          conditions:
            - {type: first_frame, image_or_video: i.png}
            - {type: prefix, video: v.mp4, num_frames: 9}
            - {type: prefix, audio: a.wav, duration: 0.5}
            - {type: suffix, video: v.mp4, num_frames: 8}
            - {type: spatial_crop, video: v.mp4, spatial_region: [0, 0, 32, 64]}
            - {type: mask, video: v.mp4, mask: m.mp4}
            - {type: mask, audio: a.wav, mask: m.pt}
            - {type: reference, video: r.mp4, downscale_factor: 2, temporal_scale_factor: 3, include_in_output: true}
            - {type: reference, audio: r.wav}
          video_dims: [64, 96, 17]
          seed: 5
        - {prompt: second, conditions: [{type: video_to_audio, video: v.mp4}, {type: reference, audio: r.wav}]}
        - {prompt: third, conditions: [{type: audio_to_video, audio: a.wav}, {type: suffix, video: v.mp4}]}
      negative_prompt: bad
      video_dims: [128, 64, 9]
      frame_rate: 25
      seed: 3
      inference_steps: 4
      interval: 20
      video_cfg_scale: 2
      audio_cfg_scale: 3.5
      video_stg_scale: 0.5
      audio_stg_scale: 0
      stg_blocks: [1, 2]
      guidance_rescale: 0.2
      video_modality_guidance_scale: 1.5
      audio_modality_guidance_scale: 2.5
      generate_audio: false
      generate_video: true
      skip_initial_validation: true
      held_out: {preprocessed_data_root: /data/held, count: 4, interval: 10, seed: 6}
    checkpoints:
      interval: 5
      keep_last_n: -1
      precision: float32
      no_resume: true
      save_training_state: full
      on_save_error: continue
      keep_best: true
    hub: {push_to_hub: true, hub_model_id: me/mine}
    flow_matching: {timestep_sampling_mode: uniform, timestep_sampling_params: {min_value: 0.125}}
    wandb: {enabled: true, project: p, entity: e, tags: [a, b], log_validation_videos: false, mode: offline}
    tensorboard: {enabled: false}
    report: {enabled: false}
    seed: 9
    output_dir: /out

    """

  static func read(_ yaml: String, overrides: [String] = []) throws -> TrainingConfiguration {
    try TrainingConfiguration(yaml: yaml, file: "c.yaml", overrides: overrides, checksPaths: false)
  }

  /// Lines that are too long, or end with a space.
  static func awkwardLines(_ text: String) -> [Substring] {
    text.split(separator: "\n").filter { $0.count > 120 || $0.hasSuffix(" ") }
  }

  /// The problems of a text.
  static func problems(
    _ yaml: String, overrides: [String] = [], checksPaths: Bool = false,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> [ConfigurationProblems.Problem] {
    try #require(throws: ConfigurationProblems.self, sourceLocation: sourceLocation) {
      try TrainingConfiguration(
        yaml: yaml, file: "c.yaml", overrides: overrides, checksPaths: checksPaths)
    }.problems
  }
}
