import LTX
import NN
import Torch

/// The changes made by runs that continued from trained adapters, and by runs that train the
/// weights themselves.
extension AdapterChange {
  /// The change that a run has made to the adapters that it continued from.
  ///
  /// - Parameters:
  ///   - parameters, initial: The parameters now and before the first step, by the keys of
  ///     `init(_:scale:checkpoint:)`.
  ///   - scale: `FreshAdapters.scale`.
  ///   - checkpoint: The source of base norms.
  /// - Throws: The errors of reading the checkpoint; `TorchError`.
  public init(
    _ parameters: [Parameter], since initial: [Parameter], scale: Double, checkpoint: Checkpoint
  ) throws {
    let weights = checkpoint.weights(LoadPolicy(storage: .dequantized))
    let before = Dictionary(
      try AdapterKinds.adapters(of: initial, scale: scale).map { ($0.module, $0.adapter) }
    ) { first, _ in first }
    var layers: [Layer] = []
    for (module, adapter) in try AdapterKinds.adapters(of: parameters, scale: scale) {
      guard let start = before[module] else { continue }
      let new = try adapter.mapTensors { try $1.detach().to(.cpu) }
      let old = try start.mapTensors { try $1.detach().to(.cpu) }
      let base = try (weights / module).tensor("weight")
      let path = LoRAFile.filePath(module)
      if let a = try new.lowRank(), let b = try old.lowRank() {
        // B A - B' A' = (B - B') A + B' (A - A') is one product of twice the rank, and exactly zero
        // if nothing moved.
        let difference = LoRAAdapter(
          down: try .cat([a.down, a.down - b.down], 0), up: try .cat([a.up - b.up, b.up], 1),
          scale: a.scale)
        layers.append(try Layer(path: path, difference, weight: base))
      } else {
        let wide = try base.to(.float32)
        let change = try new.change(ofWeight: wide) - old.change(ofWeight: wide)
        layers.append(try Layer(path: path, change: change, base: wide))
      }
      checkpoint.source.release("\(module).weight")
    }
    self.init(layers)
  }

  /// The change made by full fine-tuning: |W - W'| relative to |W'| for each trained tensor.
  ///
  /// - Parameters:
  ///   - weights: The keys of the trained tensors in the unified layout.
  ///   - checkpoint: The checkpoint that the run started from.
  ///   - value: Returns the trained tensor of a key. One at a time is in use.
  /// - Throws: The errors of reading the checkpoint; `TorchError`.
  public init(
    weights: [String], checkpoint: Checkpoint, value: (_ key: String) throws -> Tensor
  ) throws {
    let base = checkpoint.weights(LoadPolicy(storage: .dequantized))
    var layers: [Layer] = []
    for key in weights {
      let end = key.lastIndex(of: ".") ?? key.startIndex
      let module = String(key[..<end])
      let name = String(key[end...].drop { $0 == "." })
      // Computed on the device of training, which may be much faster.
      let trained = try value(key).detach()
      let device = trained.device
      let before = try (base / module).tensor(name).to(device, .float32)
      let change = try trained.to(.float32) - before
      layers.append(try Layer(path: LoRAFile.filePath(key), change: change, base: before))
      checkpoint.source.release(key)
    }
    self.init(layers)
  }
}

extension AdapterChange.Layer {
  /// - Parameters:
  ///   - change: The change of the layer, any shape.
  ///   - base: The weight before the change.
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
