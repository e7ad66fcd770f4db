/// The purpose of a training run. Each mode has a commented configuration to start from.
public enum ConfigurationMode: String, CaseIterable, Sendable {
  case t2v
  case t2vLowVRAM = "t2v-low-vram"
  case t2av
  case t2avLowVRAM = "t2av-low-vram"
  case i2v
  case videoExtend = "video-extend"
  case videoSuffix = "video-suffix"
  case videoInpainting = "video-inpainting"
  case videoOutpainting = "video-outpainting"
  case a2v, v2a, t2a
  case audioExtend = "audio-extend"
  case audioSuffix = "audio-suffix"
  case audioInpainting = "audio-inpainting"
  case v2vIC = "v2v-ic"
  case a2aIC = "a2a-ic"
  case av2avIC = "av2av-ic"
  case full

  /// The file in `Configs` that holds the same text.
  public var fileName: String {
    switch self {
    case .t2v: "ltx2_video_lora.yaml"
    case .t2vLowVRAM: "ltx2_video_lora_low_vram.yaml"
    case .t2av: "ltx2_av_lora.yaml"
    case .t2avLowVRAM: "ltx2_av_lora_low_vram.yaml"
    case .i2v: "ltx2_i2v_lora.yaml"
    case .videoExtend: "ltx2_video_extend_lora.yaml"
    case .videoSuffix: "ltx2_video_suffix_lora.yaml"
    case .videoInpainting: "ltx2_video_inpainting_lora.yaml"
    case .videoOutpainting: "ltx2_video_outpainting_lora.yaml"
    case .a2v: "ltx2_a2v_lora.yaml"
    case .v2a: "ltx2_v2a_lora.yaml"
    case .t2a: "ltx2_t2a_lora.yaml"
    case .audioExtend: "ltx2_audio_extend_lora.yaml"
    case .audioSuffix: "ltx2_audio_suffix_lora.yaml"
    case .audioInpainting: "ltx2_audio_inpainting_lora.yaml"
    case .v2vIC: "ltx2_v2v_ic_lora.yaml"
    case .a2aIC: "ltx2_a2a_ic_lora.yaml"
    case .av2avIC: "ltx2_av2av_ic_lora.yaml"
    case .full: "ltx2_full.yaml"
    }
  }

  /// A description in one line.
  public var title: String {
    switch self {
    case .t2v: "video from text, without audio"
    case .t2vLowVRAM: "video from text, without audio, on little GPU memory"
    case .t2av: "video and audio from text"
    case .t2avLowVRAM: "video and audio from text, on little GPU memory"
    case .i2v: "video and audio from text and a first frame"
    case .videoExtend: "continuing a clip from its beginning"
    case .videoSuffix: "generating the part before a clip's end"
    case .videoInpainting: "replacing the masked parts of a video"
    case .videoOutpainting: "extending a video beyond its frame"
    case .a2v: "video from audio"
    case .v2a: "audio from video"
    case .t2a: "audio from text"
    case .audioExtend: "continuing audio from its beginning"
    case .audioSuffix: "generating the part before the audio's end"
    case .audioInpainting: "replacing the masked parts of audio"
    case .v2vIC: "video from a reference video (IC-LoRA)"
    case .a2aIC: "audio from reference audio (IC-LoRA)"
    case .av2avIC: "video and audio from references (IC-LoRA)"
    case .full: "all weights, for video and audio from text"
    }
  }

  var isLowVRAM: Bool { self == .t2vLowVRAM || self == .t2avLowVRAM }
}
