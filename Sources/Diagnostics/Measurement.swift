// B batch, H heads, Q and K tokens, D head width.

import LTX
import LanguageModels
import NN
import Support
import Torch

/// Measures a device on the work of LTX-2.3: copies, kernel launches, matrix products, attention,
/// and the models of preprocessing.
///
/// With the files of models, only those models are measured. Results are JSON objects with the `measurement`'s name. Sizes are in bytes, times in seconds.
public struct Measurement {
  public let device: Device
  /// The size of the clip, in pixels and frames.
  public let width, height, frames: Int
  /// The file of a checkpoint with a video VAE; nil to measure none.
  public let checkpoint: String?
  /// The text encoder's folder or file; nil to measure none.
  public let textEncoder: String?
  /// The folder of a file for measuring uploads from a memory map.
  public let folder: String

  /// - Throws: `Issue` for a clip that LTX-2 can't have.
  public init(
    device: Device, width: Int = 960, height: Int = 544, frames: Int = 49,
    checkpoint: String? = nil, textEncoder: String? = nil, folder: String = "."
  ) throws {
    guard width % 32 == 0, height % 32 == 0, frames % 8 == 1 else {
      throw Issue(
        ["size"],
        "must have a width and height divisible by 32 and 8k + 1 frames "
          + "(got \(width)x\(height)x\(frames))")
    }
    (self.device, self.folder) = (device, folder)
    (self.width, self.height, self.frames) = (width, height, frames)
    (self.checkpoint, self.textEncoder) = (checkpoint, textEncoder)
  }

  /// Runs all measurements. One that fails is reported with its `error`, and the others still run.
  ///
  /// - Returns: Whether all succeeded.
  public func run(report: (JSONObject) -> Void) throws -> Bool {
    try device.prepare()
    var succeeded = true
    func measure(_ name: String, _ facts: JSONObject = [:], _ body: () throws -> JSONObject) {
      var result: JSONObject = ["measurement": .string(name)]
      for member in facts { result[member.key] = member.value }
      do {
        for member in try body() { result[member.key] = member.value }
      } catch {
        succeeded = false
        result["error"] = .string(describe(error))
      }
      report(result)
    }
    measure("device") { try deviceFacts() }
    if checkpoint == nil, textEncoder == nil { measureOperations(measure) }
    if let checkpoint { measureVAE(checkpoint, measure) }
    if let textEncoder { measureTextEncoder(textEncoder, measure) }
    return succeeded
  }

  private typealias Measure = (String, JSONObject, () throws -> JSONObject) -> Void

  // MARK: The device

  private func deviceFacts() throws -> JSONObject {
    let driver = CUDADriver()
    let gpu = try device.gpu()
    return [
      "device": .string(device.description), "name": JSON(gpu?.name),
      "capability": JSON(gpu?.capability?.description),
      "multiprocessors": gpu.map { JSON($0.multiprocessors) } ?? .null,
      "free_bytes": gpu.map { JSON($0.freeBytes) } ?? .null,
      "total_bytes": gpu.map { JSON($0.totalBytes) } ?? .null,
      "libtorch": .string(LibTorch.version), "driver": JSON(driver.version),
      "driver_cuda": JSON(driver.supportedCUDA), "libtorch_cuda": JSON(driver.neededCUDA),
    ]
  }

  /// The seconds from the first of many small kernels to the end of queueing, and to the end of the
  /// last one.
  private func launch() throws -> JSONObject {
    let count = 1000
    let x = try Tensor.zeros([16], device: device)
    try x.add_(x)
    try device.synchronize()
    let clock = ContinuousClock()
    let start = clock.now
    for _ in 0..<count { try x.add_(x) }
    let queued = (clock.now - start) / .seconds(1)
    try device.synchronize()
    let finished = (clock.now - start) / .seconds(1)
    return [
      "launches": JSON(count), "queued_seconds": JSON(queued / Double(count)),
      "seconds": JSON(finished / Double(count)),
    ]
  }

  // MARK: Operations of the transformer

  private func measureOperations(_ measure: Measure) {
    for source in UploadSource.allCases where device != .cpu || source == .pageable {
      measure("upload", ["source": .string(source.rawValue)]) { try upload(from: source) }
    }
    measure("launch", [:]) { try launch() }
    for (name, inputs, outputs) in [("attention.to_q", 4096, 4096), ("feed forward", 4096, 16384)] {
      measure("product", ["layer": .string(name)]) { try product(inputs: inputs, outputs: outputs) }
    }
    measure("rms_norm", [:]) { try rmsNorm() }
    for shape in attentionShapes {
      measure("attention", shape.facts) { try attention(shape) }
    }
  }

  /// The video's latent frames, rows and columns.
  private var grid: [Int] { [(frames - 1) / 8 + 1, height / 32, width / 32] }
  private var videoTokens: Int { grid.reduce(1, *) }
  /// 25 audio latents per second, at 24 frames per second.
  private var audioTokens: Int { max(1, frames * 25 / 24) }

  private func random(_ shape: [Int], dtype: DType = .bfloat16) throws -> Tensor {
    try Generator(seed: 1, device: device).normal(shape, dtype: dtype)
  }

  private func product(inputs: Int, outputs: Int) throws -> JSONObject {
    let x = try random([videoTokens, inputs])
    let weight = try random([outputs, inputs])
    let seconds = try withInference {
      try Timing.seconds(on: device, repetitions: 10) { _ = try x.linear(weight) }
    }
    let operations = 2 * Double(videoTokens) * Double(inputs) * Double(outputs)
    return [
      "shape": [JSON(videoTokens), JSON(inputs), JSON(outputs)], "dtype": "bfloat16",
      "seconds": JSON(seconds), "operations_per_second": JSON(operations / seconds),
    ]
  }

  private func rmsNorm() throws -> JSONObject {
    let x = try random([1, videoTokens, 4096])
    let seconds = try withInference {
      try Timing.seconds(on: device, repetitions: 10) {
        _ = try x.rmsNorm(eps: 1e-6)
      }
    }
    let bytes = 2 * x.byteCount
    return [
      "shape": [1, JSON(videoTokens), 4096], "seconds": JSON(seconds),
      "bytes_per_second": JSON(Double(bytes) / seconds),
    ]
  }

  private struct AttentionShape {
    let name: String
    let heads, queries, keys, headWidth: Int
    let hasMask: Bool
    /// Whether training runs it backward.
    let isTrained: Bool

    var facts: JSONObject {
      [
        "layer": .string(name), "heads": JSON(heads), "queries": JSON(queries), "keys": JSON(keys),
        "head_width": JSON(headWidth), "mask": .bool(hasMask),
      ]
    }
  }

  /// The attention layers of LTX-2.3 and Gemma 3, one sample each.
  private var attentionShapes: [AttentionShape] {
    let (video, audio, text) = (videoTokens, audioTokens, 1024)
    func shape(
      _ name: String, _ queries: Int, _ keys: Int, _ headWidth: Int, heads: Int = 32,
      mask: Bool = false, trained: Bool = true
    ) -> AttentionShape {
      AttentionShape(
        name: name, heads: heads, queries: queries, keys: keys, headWidth: headWidth,
        hasMask: mask, isTrained: trained)
    }
    return [
      shape("video", video, video, 128), shape("video to text", video, text, 128),
      shape("video to text", video, text, 128, mask: true),
      shape("audio", audio, audio, 64), shape("audio to text", audio, text, 64),
      shape("video to audio", video, audio, 64), shape("audio to video", audio, video, 64),
      shape("text connector", text, text, 128, mask: true, trained: false),
      shape("Gemma 3", text, text, 256, heads: 16, mask: true, trained: false),
    ]
  }

  private func attention(_ shape: AttentionShape) throws -> JSONObject {
    func input(_ tokens: Int) throws -> Tensor {
      try random([1, shape.heads, tokens, shape.headWidth])
    }
    let (query, key, value) = (
      try input(shape.queries), try input(shape.keys), try input(shape.keys)
    )
    let mask =
      shape.hasMask
      ? try Tensor.zeros([1, 1, shape.queries, shape.keys], dtype: .bfloat16, device: device) : nil
    var result: JSONObject = [
      "kernel": .string(try AttentionKernel.choice(query, key, value, mask: mask).rawValue)
    ]
    func attend(_ query: Tensor, _ key: Tensor, _ value: Tensor) throws -> Tensor {
      try Tensor.scaledDotProductAttention(query, key, value, mask: mask)
    }
    let forward = try withInference {
      try Timing.seconds(on: device, repetitions: 10) { _ = try attend(query, key, value) }
    }
    result["seconds"] = JSON(forward)
    guard shape.isTrained else { return result }
    let leaves = try [query, key, value].map { try $0.asLeaf() }
    let both = try Timing.seconds(on: device, repetitions: 5) {
      let output = try attend(leaves[0], leaves[1], leaves[2])
      _ = try grad(of: [output], wrt: leaves, gradOutputs: [output.detach()])
    }
    result["forward_and_backward_seconds"] = JSON(both)
    return result
  }

  // MARK: The models of preprocessing

  /// Measures one call of a model, with the peak of memory that tensors reach.
  private func call(_ body: () throws -> Void) throws -> JSONObject {
    try device.resetPeakMemory()
    let seconds = try withInference {
      try Timing.seconds(on: device, repetitions: 2, body)
    }
    return ["seconds": JSON(seconds), "peak_bytes": JSON(try device.memory().peakBytes)]
  }

  private func measureVAE(_ path: String, _ measure: Measure) {
    let size: JSON = [JSON(width), JSON(height), JSON(frames)]
    measure("video_vae_encode", ["size": size]) {
      let encoder = try Checkpoint(path: path).videoEncoder(dtype: .bfloat16, device: device)
      let pixels = try random([1, 3, frames, height, width])
      return try call { _ = try encoder.encode(pixels, tiling: nil) }
    }
    for isTiled in [false, true] {
      measure("video_vae_decode", ["size": size, "tiled": .bool(isTiled)]) {
        let decoder = try Checkpoint(path: path).videoDecoder(dtype: .bfloat16, device: device)
        let tiling =
          try isTiled
          ? decoder.configuration.recommendedTiling(
            for: VideoSize(width: width, height: height, frames: frames),
            limitBytes: MemoryBudget.automatic.tensorBytes(on: device), dtype: .bfloat16) : nil
        let latent = try random([1, decoder.configuration.latentChannels] + grid)
        let noise = try Generator(seed: 2, device: device)
        return try call {
          _ = try decoder.decode(latent, tiling: tiling) { shape in
            try noise.normal(shape, dtype: .bfloat16)
          }
        }
      }
    }
  }

  private func measureTextEncoder(_ path: String, _ measure: Measure) {
    for captions in [1, 8] {
      measure("text_encoder", ["captions": JSON(captions), "tokens": 1024]) {
        let encoder = try openTextEncoder(at: path, dtype: .bfloat16, device: device)
        let ids = try Tensor.full([captions, 1024], 7, dtype: .int64, device: device)
        let mask = try Tensor.ones([captions, 1024], dtype: .int64, device: device)
        return try call {
          try encoder.forEachHiddenState(ids: ids, mask: mask) { _, _ in }
        }
      }
    }
  }
}
