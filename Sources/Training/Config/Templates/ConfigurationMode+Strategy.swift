// The differences between modes: the strategy, the modules and the samples.

extension ConfigurationMode {
  /// A modality in the file: whether it is generated, and its conditions.
  struct ModalitySection {
    var isGenerated = true
    /// Lines below `conditions`.
    var conditions: [String] = []
  }

  var video: ModalitySection? {
    switch self {
    case .t2v, .t2vLowVRAM, .t2av, .t2avLowVRAM, .a2v, .full: ModalitySection()
    case .i2v:
      ModalitySection(conditions: [
        "- type: first_frame", "  probability: 0.5       # the other half trains on text alone",
      ])
    case .videoExtend:
      ModalitySection(conditions: [
        "- type: prefix", "  temporal_boundary: 8   # latent frames: 57 frames of the clip",
      ])
    case .videoSuffix:
      ModalitySection(conditions: [
        "- type: suffix", "  temporal_boundary: 8   # latent frames: 64 frames of the clip",
      ])
    case .videoInpainting:
      ModalitySection(conditions: [
        "- type: mask", "  mask_dir: video_masks  # above 0.5: given; the rest is generated",
      ])
    case .videoOutpainting:
      ModalitySection(conditions: [
        "- type: spatial_crop",
        "  spatial_region: [0, 0, 288, 576]   # y1, x1, y2, x2 of the given part, in pixels",
      ])
    case .v2a: ModalitySection(isGenerated: false)
    case .v2vIC:
      ModalitySection(conditions: [
        "- type: reference", "  latents_dir: reference_latents", "- type: first_frame",
        "  probability: 0.2       # so that a first frame can also be given",
      ])
    case .av2avIC:
      ModalitySection(conditions: ["- type: reference", "  latents_dir: reference_latents"])
    case .t2a, .audioExtend, .audioSuffix, .audioInpainting, .a2aIC: nil
    }
  }

  var audio: ModalitySection? {
    switch self {
    case .t2av, .t2avLowVRAM, .i2v, .videoExtend, .videoSuffix, .v2a, .t2a, .full: ModalitySection()
    case .a2v: ModalitySection(isGenerated: false)
    case .audioExtend:
      ModalitySection(conditions: [
        "- type: prefix", "  temporal_boundary: 8   # latent time steps",
      ])
    case .audioSuffix:
      ModalitySection(conditions: [
        "- type: suffix", "  temporal_boundary: 8   # latent time steps",
      ])
    case .audioInpainting:
      ModalitySection(conditions: [
        "- type: mask", "  mask_dir: audio_masks  # above 0.5: given; the rest is generated",
      ])
    case .a2aIC, .av2avIC:
      ModalitySection(conditions: ["- type: reference", "  latents_dir: reference_audio_latents"])
    case .t2v, .t2vLowVRAM, .videoInpainting, .videoOutpainting, .v2vIC: nil
    }
  }

  /// The folders of the dataset that are used, and their contents.
  var folders: [(name: String, content: String)] {
    var folders: [(String, String)] = []
    if video != nil { folders.append(("latents", "the clips")) }
    if audio != nil { folders.append(("audio_latents", "their audio")) }
    folders.append(("conditions", "their captions"))
    switch self {
    case .videoInpainting:
      folders.append(("video_masks", "a mask for each clip, from the column video_mask"))
    case .audioInpainting:
      folders.append(("audio_masks", "a mask for each audio clip, from the column audio_mask"))
    case .v2vIC, .av2avIC:
      folders.append(
        ("reference_latents", "the reference of each clip, from the column reference_video"))
    default: break
    }
    if self == .a2aIC || self == .av2avIC {
      folders.append(
        (
          "reference_audio_latents",
          "the reference of each audio clip, from the column reference_audio"
        )
      )
    }
    return folders
  }

  /// The trained modules, and a description of them.
  var targets: (modules: [String], reason: String) {
    func attention(_ name: String) -> [String] {
      ["to_q", "to_k", "to_v", "to_out.0"].map { "\(name).\($0)" }
    }
    switch self {
    case .t2v, .t2vLowVRAM, .videoInpainting, .videoOutpainting:
      return (
        attention("attn1") + attention("attn2"),
        "the video's self-attention and attention to the text"
      )
    case .v2vIC:
      return (
        attention("attn1") + attention("attn2") + ["ff.net.0.proj", "ff.net.2"],
        "the video's attention and feed-forward layers"
      )
    case .t2a, .audioExtend, .audioSuffix, .audioInpainting, .a2aIC:
      return (
        attention("audio_attn1") + attention("audio_attn2") + [
          "audio_ff.net.0.proj", "audio_ff.net.2",
        ],
        "the audio's attention and feed-forward layers"
      )
    case .v2a:
      return (
        attention("audio_attn1") + attention("audio_attn2") + [
          "audio_ff.net.0.proj", "audio_ff.net.2",
        ]
          + attention("video_to_audio_attn"),
        "the audio's layers and its attention to the video"
      )
    default:
      return (
        ["to_q", "to_k", "to_v", "to_out.0"],
        "all attention layers of video, audio and between them"
      )
    }
  }

  /// The lines of a validation sample's conditions.
  var sampleConditions: [String] {
    switch self {
    case .i2v: ["- type: first_frame", "  image_or_video: <image.png>"]
    case .videoExtend:
      ["- type: prefix", "  video: <clip.mp4>", "  num_frames: 57         # 8 n + 1"]
    case .videoSuffix: ["- type: suffix", "  video: <clip.mp4>", "  num_frames: 64         # 8 n"]
    case .videoInpainting: ["- type: mask", "  video: <clip.mp4>", "  mask: <mask.mp4>"]
    case .videoOutpainting:
      ["- type: spatial_crop", "  video: <clip.mp4>", "  spatial_region: [0, 0, 288, 576]"]
    case .a2v: ["- type: audio_to_video", "  audio: <audio.wav>"]
    case .v2a: ["- type: video_to_audio", "  video: <clip.mp4>"]
    case .audioExtend:
      ["- type: prefix", "  audio: <audio.wav>", "  duration: 1.0          # seconds"]
    case .audioSuffix:
      ["- type: suffix", "  audio: <audio.wav>", "  duration: 1.0          # seconds"]
    case .audioInpainting: ["- type: mask", "  audio: <audio.wav>", "  mask: <mask.pt>"]
    case .v2vIC: Self.videoReference
    case .a2aIC: Self.audioReference
    case .av2avIC: Self.videoReference + Self.audioReference
    case .t2v, .t2vLowVRAM, .t2av, .t2avLowVRAM, .t2a, .full: []
    }
  }

  private static let audioReference = ["- type: reference", "  audio: <reference.wav>"]
  private static let videoReference = [
    "- type: reference", "  video: <reference.mp4>",
    "  downscale_factor: 1    # the --reference-downscale-factor of ltx preprocess",
    "  temporal_scale_factor: 1",
    "  include_in_output: true   # shows the reference next to the result",
  ]

  /// The lines of the prompt.
  var prompt: [String] {
    video == nil
      ? ["Rain on a tin roof, and far away a train that passes slowly and sounds its horn twice."]
      : [
        "A fishing boat leaves a small harbor at dawn. Gulls circle above it, the engine putters,",
        "and water laps at the stone quay while the boat turns toward the open sea.",
      ]
  }
}
