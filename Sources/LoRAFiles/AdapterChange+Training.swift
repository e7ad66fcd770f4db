// O outputs, I inputs of a layer, R rank.

import LTX
import NN
import Torch

/// Changes of runs that started from something else than an unchanged base model, and of runs that
/// train the weights themselves.
extension AdapterChange {
  /// The change that a run has made to adapters that it started from.
  ///
  /// - Parameters:
  ///   - parameters, initial: by the keys of `init(_:scale:checkpoint:)`, now and before the first
  ///     step.
  ///   - scale: `FreshAdapters.scale`.
  ///   - checkpoint: gives base norms.
  /// - Throws: what reading the checkpoint throws; `TorchError`.
  public init(
    _ parameters: [Parameter], since initial: [Parameter], scale: Double, checkpoint: Checkpoint
  ) throws {
    let now = Dictionary(parameters.map { ($0.key, $0.tensor) }) { first, _ in first }
    let before = Dictionary(initial.map { ($0.key, $0.tensor) }) { first, _ in first }
    let weights = checkpoint.weights(LoadPolicy(storage: .dequantized))
    let suffix = ".lora_A.weight"
    var layers: [Layer] = []
    for parameter in parameters where parameter.key.hasSuffix(suffix) {
      let module = String(parameter.key.dropLast(suffix.count))
      func adapter(_ tensors: [String: Tensor]) throws -> Factors? {
        guard let a = tensors[module + suffix], let b = tensors[module + ".lora_B.weight"] else {
          return nil
        }
        return Factors(
          down: try a.detach().to(.cpu), up: try b.detach().to(.cpu),
          magnitude: try tensors[module + ".lora_magnitude_vector"]?.detach().to(.cpu))
      }
      guard let new = try adapter(now), let old = try adapter(before) else { continue }
      let base = try (weights / module).tensor("weight")
      let path = LoRAFile.filePath(module)
      if new.magnitude == nil {
        // B A - B' A' = (B - B') A + B' (A - A') is one product of twice the rank, and exactly zero
        // if nothing moved.
        layers.append(
          try Layer(
            path: path, down: Tensor.cat([new.down, new.down - old.down], 0),
            up: Tensor.cat([new.up - old.up, old.up], 1), scale: scale, weight: base))
      } else {
        let wide = try base.to(.float32)
        let change = try new.layer(wide, scale: scale) - old.layer(wide, scale: scale)
        layers.append(try Layer(path: path, change: change, base: wide))
      }
      checkpoint.source.release("\(module).weight")
    }
    self.init(layers)
  }

  /// The change that full fine-tuning has made: |W - W'| beside |W'| for each trained tensor.
  ///
  /// - Parameters:
  ///   - weights: by their keys in the unified layout.
  ///   - checkpoint: that the run started from.
  ///   - report: called after each tensor: reading them all takes as long as loading the model.
  /// - Throws: what reading the checkpoint throws; `TorchError`.
  public init(
    weights: [Parameter], checkpoint: Checkpoint,
    report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    let base = checkpoint.weights(LoadPolicy(storage: .dequantized))
    var layers: [Layer] = []
    for parameter in weights {
      let end = parameter.key.lastIndex(of: ".") ?? parameter.key.startIndex
      let module = String(parameter.key[..<end])
      let name = String(parameter.key[end...].drop { $0 == "." })
      // On the device of training, which may be much faster.
      let device = parameter.tensor.device
      let before = try (base / module).tensor(name).to(device, .float32)
      let change = try parameter.tensor.detach().to(.float32) - before
      layers.append(try Layer(path: LoRAFile.filePath(parameter.key), change: change, base: before))
      checkpoint.source.release(parameter.key)
      try report(layers.count, weights.count)
    }
    self.init(layers)
  }

  /// The factors of one adapter.
  private struct Factors {
    let down: Tensor
    let up: Tensor
    let magnitude: Tensor?

    /// The weight that the adapter makes of W: [O, I].
    func layer(_ weight: Tensor, scale: Double) throws -> Tensor {
      let sum = try weight + up.to(.float32).matmul(down.to(.float32)) * scale
      guard let magnitude else { return sum }
      let norms = try sum.square().sum([1]).sqrt().clamped(
        min: Scalar(DType.float32.smallestNormal))
      return try sum * (magnitude.to(.float32).reshape([-1]) / norms).unsqueeze(1)
    }
  }
}

extension AdapterChange.Layer {
  /// - Parameters:
  ///   - change: of the layer, any shape.
  ///   - base: what it was before.
  fileprivate init(path: String, change: Tensor, base: Tensor) throws {
    func norm(_ x: Tensor) throws -> Double {
      let sum: Double = try x.flatten().square().sum([0], dtype: .float64).item()
      return sum.squareRoot()
    }
    let outputs = base.shape.first ?? 1
    try self.init(
      path: path, part: LoRAPart(path: path), block: Self.block(path), norm: norm(change),
      baseNorm: norm(base),
      typicalNorm: Double(outputs).squareRoot())
  }
}
