import TensorFiles
import Torch

/// A random video VAE with a diffusion decoder: the encoder and the decoder in the layout of the
/// published files, with few channels and blocks, 8 x 32 x 32.
public struct TinyDiffusionVideoVAE: Sendable {
  public var latentChannels = 16
  /// The prediction of the last stage: `x0` or `v`.
  public var output: VideoVAEConfiguration.DiffusionDecoder.Output
  public var steps: Int
  /// Whether the blocks of the last stage have static gates.
  public var hasGates: Bool
  /// Whether the file has the head for previews, which nothing reads.
  public var hasPreviewHead: Bool
  public var headSize = 16
  /// The channels of the four stages that expand the latent, and of the context. They are halved
  /// behind the first and the fourth one.
  public var stageChannels = [64, 32, 32, 32, 16]
  /// The blocks of the five stages.
  public var stageDepths = [1, 1, 1, 1, 2]
  public var stageKernels = [[Int]](repeating: [3, 3, 3], count: 5)
  public var lastKernel = [3, 5, 5]
  public var lastChannels = 32
  public var timeChannels = 32
  /// The strides of the four stages, and the factors by which they reduce the channels.
  public var upsamplings: [(strides: [Int], reduction: Int)] = [
    ([1, 2, 2], 2), ([2, 1, 1], 1), ([2, 2, 2], 1), ([2, 2, 2], 2),
  ]
  private let patch = 4

  public init(
    output: VideoVAEConfiguration.DiffusionDecoder.Output, steps: Int, hasGates: Bool,
    hasPreviewHead: Bool
  ) {
    self.output = output
    self.steps = steps
    self.hasGates = hasGates
    self.hasPreviewHead = hasPreviewHead
  }

  /// The VAE of a unified file: one step, which predicts pixels.
  public static let unified = TinyDiffusionVideoVAE(
    output: .pixels, steps: 1, hasGates: false, hasPreviewHead: true)
  /// The VAE in a file of its own: two steps, which predict velocities, and static gates.
  public static let split = TinyDiffusionVideoVAE(
    output: .velocity, steps: 2, hasGates: true, hasPreviewHead: false)

  private let encoderChanges = [
    "compress_space_res", "compress_time_res", "compress_all_res", "compress_all_res",
  ]

  /// Writes a file that contains only this VAE, in bfloat16.
  ///
  /// - Parameter prefix: The first part of the tensors' names; nil for bare names.
  public func write(to path: String, prefix: String? = "vae", seed: UInt64) throws {
    let drawn = RandomWeights.Drawn(try Generator(seed: seed))
    let root = RandomWeights(into: drawn)
    try draw(prefix.map { root / $0 } ?? root)
    try writeSafetensors(drawn.tensors, metadata: ["config": "{\"vae\": \(config)}"], to: path)
  }

  /// Draws all tensors of the VAE.
  func draw(_ w: RandomWeights) throws {
    try drawEncoder(w / "encoder")
    try drawDecoder(w / "decoder")
    let statistics = (w / "per_channel_statistics").stored(as: .float32)
    try statistics.normal("mean-of-means", [latentChannels], deviation: 0.3)
    try statistics.uniform("std-of-means", [latentChannels], from: 0.5, to: 1)
  }

  private func drawEncoder(_ w: RandomWeights) throws {
    func convolution(_ w: RandomWeights, _ inputs: Int, _ outputs: Int) throws {
      try (w / "conv").convolution(inputs, outputs, kernel: [3, 3, 3])
    }
    let channels = latentChannels
    try convolution(w / "conv_in", 3 * patch * patch, channels)
    for index in 0...encoderChanges.count {
      let block = w / "down_blocks" / (2 * index) / "res_blocks" / 0
      try convolution(block / "conv1", channels, channels)
      try convolution(block / "conv2", channels, channels)
    }
    for (index, name) in encoderChanges.enumerated() {
      let cells = name == "compress_all_res" ? 8 : name == "compress_space_res" ? 4 : 2
      try convolution(w / "down_blocks" / (2 * index + 1) / "conv", channels, channels / cells)
    }
    // One channel more than the latent: the log-variance, which all channels share.
    try convolution(w / "conv_out", channels, channels + 1)
  }

  private func drawDecoder(_ w: RandomWeights) throws {
    let pixels = 3 * patch * patch
    try (w / "conv_in").linear(latentChannels, stageChannels[0])
    for stage in 0..<4 {
      let channels = stageChannels[stage]
      for block in 0..<stageDepths[stage] {
        try drawBlock(w / "det_stages" / stage / block, channels)
      }
      let (strides, reduction) = upsamplings[stage]
      try (w / "upsamples" / stage / "proj").linear(
        channels, strides.reduce(channels / reduction, *))
    }
    try (w / "conv_in_x_t").linear(pixels, lastChannels)
    try (w / "t_embedder" / "mlp" / 0).linear(256, timeChannels)
    try (w / "t_embedder" / "mlp" / 2).linear(timeChannels, timeChannels)
    try (w / "shared_adaln" / "proj").linear(timeChannels, 7 * lastChannels)
    for block in 0..<stageDepths[4] {
      let w = w / "diff_blocks" / block
      try drawBlock(w, lastChannels)
      try (w / "context_proj").linear(stageChannels[4], lastChannels)
      try w.modulation("scale_shift_table", rows: 7, lastChannels)
      guard hasGates else { continue }
      for name in ["gate_msa", "gate_mlp", "gate_ctx"] {
        try w.normal(name, [lastChannels], mean: 1, deviation: 0.2)
      }
    }
    try (w / "norm_out").norm(lastChannels)
    try (w / "conv_out").linear(lastChannels, pixels)
    if hasPreviewHead { try (w / "coarse_head").linear(8, 8) }
  }

  /// Attention and feed-forward of a block.
  private func drawBlock(_ w: RandomWeights, _ channels: Int) throws {
    let attention = w / "attn"
    try (attention / "qkv").linear(channels, 3 * channels)
    try (attention / "q_norm").norm(headSize)
    try (attention / "k_norm").norm(headSize)
    try (attention / "proj").linear(channels, channels)
    try (w / "norm1").norm(channels)
    try (w / "norm2").norm(channels)
    try (w / "mlp" / "w_gate").linear(channels, 4 * channels, bias: false)
    try (w / "mlp" / "w_up").linear(channels, 4 * channels, bias: false)
    try (w / "mlp" / "w_down").linear(4 * channels, channels, bias: false)
  }

  /// The JSON of `config.vae`.
  var config: String {
    let residual = #"["res_x", {"num_layers": 1}]"#
    let encoder =
      ([residual]
      + encoderChanges.flatMap {
        [#"["\#($0)", {"multiplier": 1}]"#, residual]
      }).joined(separator: ", ")
    let upsamples = upsamplings.map { "[\($0.strides), \($0.reduction)]" }
      .joined(separator: ", ")
    return """
      {
        "_class_name": "CausalDiffusionVAE",
        "latent_channels": \(latentChannels),
        "model_output_type": "\(output.rawValue)",
        "encoder": {
          "dims": 3,
          "in_channels": 3,
          "out_channels": \(latentChannels),
          "blocks": [\(encoder)],
          "patch_size": \(patch),
          "norm_layer": "pixel_norm",
          "latent_log_var": "uniform",
          "spatial_padding_mode": "zeros"
        },
        "decoder": {
          "in_channels": \(latentChannels),
          "out_channels": 3,
          "patch_size": \(patch),
          "head_dim": \(headSize),
          "stage_channels": \(stageChannels),
          "stage_depths": \(stageDepths),
          "stage_kernels": \(stageKernels),
          "upsamples": [\(upsamples)],
          "stage5_kernel": \(lastKernel),
          "stage5_channels": \(lastChannels),
          "t_emb_dim": \(timeChannels),
          "default_num_inference_steps": \(steps),
          "timestep_scale_multiplier": 1.0
        }
      }
      """
  }
}
