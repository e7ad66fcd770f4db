import Foundation
import TensorFiles
import Torch

/// The tiny diffusion decoder, written out without tiles, blocks of queries or parts: attention has
/// one matrix of the whole volume.
struct PlainDiffusionDecoder {
  /// Static gates are part of the weights that they multiply, rounded to bfloat16.
  private var tensors: [String: Tensor] = [:]
  private let head = 16
  private let strides = [[1, 2, 2], [2, 1, 1], [2, 2, 2], [2, 2, 2]]
  private let kernel = [3, 3, 3]
  private let lastKernel = [3, 5, 5]

  /// - Parameter path: A file of `TinyDiffusionVideoVAE`.
  init(path: String) throws {
    let source = try SafetensorsFile(path: path)
    for key in source.entries.keys where !key.hasPrefix("vae.encoder.") {
      let name = key.replacingOccurrences(of: "vae.", with: "")
        .replacingOccurrences(of: "decoder.", with: "")
      tensors[name] = try source.tensor(key).to(.float32)
    }
    let targets = ["gate_msa": "attn.proj", "gate_mlp": "mlp.w_down", "gate_ctx": "context_proj"]
    for block in 0..<2 {
      for (name, target) in targets {
        guard let gate = tensors["diff_blocks.\(block).\(name)"] else { continue }
        let layer = "diff_blocks.\(block).\(target)"
        tensors["\(layer).weight"] = try (tensor("\(layer).weight") * gate.unsqueeze(-1))
          .to(.bfloat16).to(.float32)
        guard let bias = tensors["\(layer).bias"] else { continue }
        tensors["\(layer).bias"] = try (bias * gate).to(.bfloat16).to(.float32)
      }
    }
  }

  private func tensor(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else {
      throw TensorFileError(.missingTensor, path: "tiny", key: name, "is not there")
    }
    return tensor
  }

  private func linear(_ x: Tensor, _ name: String) throws -> Tensor {
    try x.linear(tensor("\(name).weight"), tensors["\(name).bias"])
  }

  private func norm(_ x: Tensor, _ name: String) throws -> Tensor {
    try x / (x.square().mean([-1], keepdim: true) + 1e-6).sqrt() * tensor("\(name).weight")
  }

  /// Neighboring channels are pairs that turn by an angle.
  private func rotated(_ x: Tensor, _ positions: [(t: Int, h: Int, w: Int)]) throws -> Tensor {
    var angles: [Float] = []
    for (t, h, w) in positions {
      for (position, width) in [(t, 4), (h, 6), (w, 6)] {
        for i in stride(from: 0, to: width, by: 2) {
          angles.append(Float(Double(position) * pow(10_000, -Double(i) / Double(width))))
        }
      }
    }
    let angle = try Tensor(angles, shape: [positions.count, 1, head / 2])
    let pairs = try x.unflatten(-1, [head / 2, 2]).unbind(-1)
    let (cos, sin) = (try angle.cos(), try angle.sin())
    return try Tensor.stack(
      [pairs[0] * cos - pairs[1] * sin, pairs[0] * sin + pairs[1] * cos], -1
    ).flatten(from: -2)
  }

  /// - Parameters:
  ///   - x: [T, H, W, C], normalized; if `halo` isn't 0 with as many more columns on either side.
  ///   - kernel: In frames, rows and columns.
  private func attention(_ x: Tensor, _ name: String, _ kernel: [Int], halo: Int = 0) throws
    -> Tensor
  {
    let shape = x.shape
    let channels = shape[3]
    var positions: [(t: Int, h: Int, w: Int)] = []
    for t in 0..<shape[0] {
      for h in 0..<shape[1] { for w in 0..<shape[2] { positions.append((t, h, w - halo)) } }
    }
    let parts = try linear(x, "\(name).qkv").reshape([-1, 3, channels / head, head]).unbind(1)
    let queries = try rotated(norm(parts[0], "\(name).q_norm"), positions)
    let keys = try rotated(norm(parts[1], "\(name).k_norm"), positions)
    func sees(_ axis: Int) throws -> Tensor {
      let (count, size) = (shape[axis], kernel[axis])
      var flags: [Bool] = []
      for query in 0..<count {
        let start = min(max(query - size / 2, 0), count - size)
        flags += (0..<count).map { start <= $0 && $0 < start + size }
      }
      var sizes = [1, 1, 1, 1, 1, 1]
      (sizes[axis], sizes[axis + 3]) = (count, count)
      return try Tensor(flags, shape: sizes)
    }
    let mask = try sees(0).logicalAnd(sees(1)).logicalAnd(sees(2))
      .reshape([positions.count, positions.count])
    let scores =
      try queries.transpose(0, 1).matmul(keys.permute([1, 2, 0]))
      / Double(head).squareRoot()
    let mixed = try scores.maskedFill(mask.logicalNot(), -1e30).softmax(-1)
      .matmul(parts[2].transpose(0, 1))
    let result = try mixed.transpose(0, 1).reshape(shape)
    return try linear(result.narrow(2, halo, shape[2] - 2 * halo), "\(name).proj")
  }

  private func feedForward(_ x: Tensor, _ name: String) throws -> Tensor {
    try linear(linear(x, "\(name).w_gate").silu() * linear(x, "\(name).w_up"), "\(name).w_down")
  }

  private func stage(_ input: Tensor, _ index: Int) throws -> Tensor {
    let name = "det_stages.\(index).0"
    var x = input
    x = try x + attention(norm(x, "\(name).norm1"), "\(name).attn", kernel)
    x = try x + feedForward(norm(x, "\(name).norm2"), "\(name).mlp")
    let p = strides[index]
    let shape = x.shape
    let y = try linear(x, "upsamples.\(index).proj").unflatten(-1, [-1, p[0], p[1], p[2]])
      .permute([0, 4, 1, 5, 2, 6, 3])
      .reshape([shape[0] * p[0], shape[1] * p[1], shape[2] * p[2], -1])
    return p[0] == 2 ? try y.narrow(0, 1, y.size(0) - 1) : y
  }

  /// A block of the last stage.
  ///
  /// - Parameter rows: Scale, shift and gate of attention and feed-forward; gates are ignored.
  private func block(_ input: Tensor, _ context: Tensor, _ rows: [Tensor], _ index: Int) throws
    -> Tensor
  {
    let name = "diff_blocks.\(index)"
    let halo = lastKernel[2] / 2
    var x = try input + linear(context, "\(name).context_proj")
    let edges = (
      try x.narrow(2, 0, 1), try x.narrow(2, x.size(2) - 1, 1)
    )
    let wide = try Tensor.cat(
      [Tensor](repeating: edges.0, count: halo) + [x] + [Tensor](repeating: edges.1, count: halo),
      2)
    let normed = try norm(wide, "\(name).norm1") * (rows[0] + 1) + rows[1]
    x = try x + attention(normed, "\(name).attn", lastKernel, halo: halo)
    return try x
      + feedForward(norm(x, "\(name).norm2") * (rows[3] + 1) + rows[4], "\(name).mlp")
  }

  /// The model's prediction for noisy pixels [1, 3, frames, H, W] at a timestep.
  private func predict(_ pixels: Tensor, _ context: Tensor, _ timestep: Double) throws -> Tensor {
    let frequencies = (0..<128).map { Float(pow(10_000, -Double($0) / 128)) }
    let phases = try Tensor(frequencies) * timestep
    let embedding = try linear(
      linear(Tensor.cat([phases.cos(), phases.sin()]), "t_embedder.mlp.0").silu(),
      "t_embedder.mlp.2")
    let modulation = try linear(embedding.silu(), "shared_adaln.proj").reshape([7, -1])
    // Channels in the order color, column, row.
    let patches = try pixels.squeeze(0).unflatten(3, [-1, 4]).unflatten(2, [-1, 4])
      .permute([1, 2, 4, 0, 5, 3]).flatten(from: 3)
    var x = try linear(patches, "conv_in_x_t")
    for index in 0..<2 {
      let rows = try (modulation + tensor("diff_blocks.\(index).scale_shift_table")).unbind(0)
      x = try block(x, context, rows, index)
    }
    return try linear(norm(x, "norm_out"), "conv_out").unflatten(-1, [3, 4, 4])
      .permute([3, 0, 1, 5, 2, 4]).flatten(from: 4).flatten(from: 2, through: 3).unsqueeze(0)
  }

  /// - Parameters:
  ///   - latent: [1, C, F, H, W]
  ///   - noise: Called once, with the size of the padded video, or of the last stage's only tile.
  func decode(
    _ latent: Tensor, steps: Int, predictsPixels: Bool, noise: ([Int]) throws -> Tensor
  ) throws -> Tensor {
    let shape = latent.shape
    // Windows of three latent cells need as many.
    let floor = 3
    var padded = latent
    var before = [0, 0, 0]
    for axis in 2...4 {
      let need = max(0, floor - shape[axis])
      before[axis - 2] = axis == 2 ? 0 : need / 2
      padded = try Tensor.cat(
        [Tensor](repeating: padded.narrow(axis, 0, 1), count: before[axis - 2]) + [padded]
          + [Tensor](
            repeating: padded.narrow(axis, shape[axis] - 1, 1), count: need - before[axis - 2]),
        axis)
    }
    let frames = (padded.size(2) - 1) * 8 + 1
    var pixels = try noise([1, 3, frames, padded.size(3) * 32, padded.size(4) * 32])
    // Two copies of the last latent frame, whose pixels are cut off from the context.
    let last = try padded.narrow(2, padded.size(2) - 1, 1)
    var x = try Tensor.cat([padded, last, last], 2).squeeze(0).permute([1, 2, 3, 0])
    x =
      try x * tensor("per_channel_statistics.std-of-means")
      + tensor("per_channel_statistics.mean-of-means")
    x = try linear(x, "conv_in")
    for index in 0..<4 { x = try stage(x, index) }
    let context = try x.narrow(0, 0, frames)
    for step in 0..<steps {
      let timestep = 1 - Double(step) / Double(steps)
      let predicted = try predict(pixels, context, timestep)
      let velocity = try predictsPixels ? (pixels - predicted) / timestep : predicted
      pixels =
        try predictsPixels && step == steps - 1
        ? predicted : pixels - velocity / Double(steps)
    }
    return try pixels.narrow(2, 0, (shape[2] - 1) * 8 + 1)
      .narrow(3, before[1] * 32, shape[3] * 32).narrow(4, before[2] * 32, shape[4] * 32)
  }
}
