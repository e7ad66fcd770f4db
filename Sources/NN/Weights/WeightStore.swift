import Synchronization
import TensorFiles
import Torch

/// The policy behind a tree of views, and the record of what layers have taken.
final class WeightStore: Sendable {
  let source: any TensorSource
  let dtype: DType?
  let device: Device
  let storage: WeightStorage
  private let loaded: LoadedTensors?
  let isInspected: Bool
  private let given: AdapterSet
  private let fresh: FreshAdapters?
  private let trained: TrainedWeights?
  private let record = Mutex(Record())

  private struct Record {
    var usedKeys: Set<String> = []
    /// Paths of the linear layers that have been built.
    var linears: [String] = []
    /// Those with fresh adapters.
    var adapted: [AdaptedLayer] = []
    var parameters: [Parameter] = []
    /// Held by their layers alone: a view must not keep weights in memory.
    var slots: [WeakSlot] = []
    /// By the size of their groups: all layers share one.
    var rotations: [Int: HadamardRotation] = [:]
  }

  private struct WeakSlot: Sendable {
    weak var slot: WeightSlot?
  }

  init(
    source: any TensorSource, dtype: DType?, device: Device, adapters: AdapterSet,
    freshAdapters: FreshAdapters?, trained: TrainedWeights?, storage: WeightStorage,
    loaded: LoadedTensors?,
    isInspected: Bool
  ) {
    self.source = source
    self.loaded = loaded
    self.dtype = dtype
    self.device = device
    self.storage = storage
    self.isInspected = isInspected
    given = adapters
    fresh = freshAdapters
    self.trained = trained
  }

  var usedKeys: Set<String> { record.withLock { $0.usedKeys } }
  var parameters: [Parameter] { record.withLock { $0.parameters } }

  var slots: [WeightSlot] { record.withLock { $0.slots.compactMap(\.slot) } }

  func record(_ slot: WeightSlot) {
    record.withLock { $0.slots.append(WeakSlot(slot: slot)) }
  }

  func markUsed(_ key: String) { record.withLock { _ = $0.usedKeys.insert(key) } }

  /// The rotation of groups of a size, on the policy's device.
  func rotation(group: Int) throws -> HadamardRotation {
    if let made = record.withLock({ $0.rotations[group] }) { return made }
    let rotation = try HadamardRotation(group: group, device: device)
    record.withLock { $0.rotations[group] = rotation }
    return rotation
  }

  /// A tensor on the policy's device. What is copied on the way is not kept in memory twice: the
  /// file's pages are let go. What is not copied is a view of the file, which the disk is asked for
  /// now, to be there when it is used.
  func read(_ key: String, dtype: DType?) throws -> Tensor {
    markUsed(key)
    func load() throws -> Tensor {
      // Without an element type models are built only to see whether everything fits.
      if self.dtype != nil, !isInspected { source.prepareToRead(key) }
      let stored = try source.tensor(key)
      let tensor = try stored.to(device, dtype)
      if self.dtype != nil, !isInspected { try requireFinite(tensor, key) }
      if !tensor.sharesStorage(with: stored) { source.release(key) }
      return tensor
    }
    guard let loaded else { return try load() }
    return try loaded.tensor(key, of: source.name, dtype: dtype, device: device, load)
  }

  /// Checks a weight as it is loaded: attention on the CPU can turn what comes of NaN into zeros,
  /// so that the result looks like one.
  private func requireFinite(_ tensor: Tensor, _ key: String) throws {
    guard tensor.dtype.isFloatingPoint, tensor.count > 0 else { return }
    // One pass without a copy; a sum of large values that leaves the range is looked at again.
    let wide = tensor.dtype.isEightBitFloat ? try tensor.to(.bfloat16) : tensor
    let sum = try wide.sum(dtype: .float32).item()
    guard !sum.isFinite, try !wide.isAllFinite() else { return }
    throw WeightError(
      file: source.file(of: key), key: key,
      problem:
        "holds NaN or infinite values; the file is damaged. Fetch it again, or make it again.")
  }

  /// The adapters that become part of a layer's weight.
  func fusedAdapters(of path: String) -> [LowRankAdapter] {
    given.placement == .fused ? given[path] : []
  }

  /// What a tensor is trained in; nil for one that is frozen.
  func trainedDType(_ key: String, _ entry: TensorEntry) -> DType? {
    // Matrices in int8 are trained as the values that they stand for.
    guard let trained, entry.dtype.isFloatingPoint || entry.dtype == .int8, trained.matches(key)
    else {
      return nil
    }
    return trained.dtype
  }

  /// A tensor that is trained, with memory of its own: nothing may write to the file, or to what
  /// others share.
  func parameter(_ key: String, _ read: () throws -> Tensor) throws -> Tensor {
    if let parameter = record.withLock({ $0.parameters.first { $0.key == key } }) {
      return parameter.tensor
    }
    var tensor = try read()
    if try loaded != nil || tensor.sharesStorage(with: source.tensor(key)) {
      tensor = try tensor.clone()
    }
    let leaf = try tensor.asLeaf()
    source.release(key)
    record.withLock { $0.parameters.append(Parameter(key: key, tensor: leaf)) }
    return leaf
  }

  /// The adapters that stay beside the weight.
  func adapters(
    of path: String, inputs: Int, outputs: Int, rowNorms: () throws -> Tensor
  ) throws -> [LowRankAdapter] {
    var adapters = given.placement == .separate ? given[path] : []
    let isAdapted = fresh?.matches(path) ?? false
    if let fresh, isAdapted {
      adapters.append(
        try fresh.make(path, inputs: inputs, outputs: outputs, device: device, rowNorms: rowNorms))
    }
    record.withLock { record in
      record.linears.append(path)
      if isAdapted {
        record.adapted.append(AdaptedLayer(path: path, inputs: inputs, outputs: outputs))
      }
      for adapter in adapters {
        let parts = [
          ("lora_A.weight", adapter.down), ("lora_B.weight", adapter.up),
          ("lora_magnitude_vector", adapter.magnitude),
        ]
        for case (let name, let tensor?) in parts where tensor.requiresGrad {
          record.parameters.append(Parameter(key: "\(path).\(name)", tensor: tensor))
        }
      }
    }
    return adapters
  }

  func unusedAdapters() -> [String] {
    let built = Set(record.withLock { $0.linears })
    return given.paths.filter { !built.contains($0) }
  }

  /// The first name of adapters or trained weights that nothing has.
  func unmatchedTarget(of file: String) -> UnmatchedTarget? {
    let (linears, keys) = record.withLock { ($0.linears, $0.usedKeys) }
    func error(_ target: (name: String, isExcluded: Bool), namesTensors: Bool) -> UnmatchedTarget {
      UnmatchedTarget(
        file: file, target: target.name, isExcluded: target.isExcluded, namesTensors: namesTensors,
        layers: linearNames)
    }
    return fresh?.unmatched(in: linears).first.map { error($0, namesTensors: false) }
      ?? trained?.unmatched(in: keys).first.map { error($0, namesTensors: true) }
  }

  /// What keeps the adapters to go on from from being those of the layers.
  func mismatch() -> AdapterMismatch? {
    let layers = record.withLock { $0.adapted }
    return fresh.flatMap { $0.initial?.mismatch(layers, $0) }
  }

  /// What the paths of linear layers end in, to suggest targets from.
  var linearNames: [String] {
    let names = record.withLock { $0.linears }.map { path in
      // A numbered layer is named together with what holds it: `to_out.0`.
      let parts = path.split(separator: ".")
      let count = parts.last.map { $0.allSatisfy(\.isNumber) } == true ? 2 : 1
      return parts.suffix(count).joined(separator: ".")
    }
    return Set(names).sorted()
  }
}
