import Support
import Synchronization
import TensorFiles
import Torch

/// The policy behind a tree of views, and the record of what layers have read.
package final class WeightStore: Sendable {
  let source: any TensorSource
  let policy: LoadPolicy
  let index: WeightIndex
  private let record = Mutex(Record())

  private struct Record {
    var usedKeys: Set<String> = []
    /// The paths of the linear layers that have been built.
    var linears: [String] = []
    /// The layers with fresh adapters.
    var adapted: [AdaptedLayer] = []
    var parameters: [Parameter] = []
    /// The factors of the adapters that layers add to their own product, by the layer's path.
    var factors: [(path: String, term: LowRankTerm)] = []
    /// Weak, because a view must not keep weights in memory: only the layers hold them.
    var slots: [WeakSlot] = []
    /// The prefixes of the keys of blocks whose frozen weights are not resident.
    var placedPrefixes: [String] = []
    /// Those of blocks whose weights are divided among the ranks.
    var shardedPrefixes: [String] = []
    /// The tensors that are read when they are needed, in no order.
    var deferredKeys: Set<String> = []
    /// Keyed by group size: all layers share one.
    var rotations: [Int: HadamardRotation] = [:]
  }

  private struct WeakSlot: Sendable {
    weak var slot: WeightSlot?
  }

  init(_ source: any TensorSource, _ policy: LoadPolicy) {
    self.source = source
    self.policy = policy
    index = WeightIndex(source)
  }

  var usedKeys: Set<String> { record.withLock { $0.usedKeys } }
  var parameters: [Parameter] { record.withLock { $0.parameters } }

  var factors: [(path: String, term: LowRankTerm)] { record.withLock { $0.factors } }

  var slots: [WeightSlot] { record.withLock { $0.slots.compactMap(\.slot) } }

  func record(_ slot: WeightSlot) {
    record.withLock { $0.slots.append(WeakSlot(slot: slot)) }
  }

  var linearLayers: [String] { record.withLock { $0.linears } }

  func markUsed(_ key: String) { record.withLock { _ = $0.usedKeys.insert(key) } }

  /// Marks a weight and the tensors beside it as used, and lets them be read without the tensors
  /// that follow them in the file.
  func `defer`(_ key: String) {
    let keys = [key] + index.companionKeys(of: key)
    record.withLock { record in
      record.usedKeys.formUnion(keys)
      record.deferredKeys.formUnion(keys)
    }
  }

  private func isDeferred(_ key: String) -> Bool {
    record.withLock { $0.deferredKeys.contains(key) }
  }

  /// Keeps the tensors whose keys start with a prefix in host memory when they are read.
  func place(_ prefix: String, _ placement: WeightPlacement) {
    record.withLock { record in
      record.placedPrefixes.append(prefix)
      if placement == .sharded { record.shardedPrefixes.append(prefix) }
    }
  }

  private func isSharded(_ key: String) -> Bool {
    record.withLock { $0.shardedPrefixes.contains(where: key.hasPrefix) }
  }

  /// Whether each rank trains a part of a tensor, which is then all that it reads of it.
  private func isDividedInTraining(_ key: String) -> Bool {
    isSharded(key) && trainedDType(key) != nil
  }

  /// Whether a tensor belongs to a block whose frozen weights are not resident.
  private func isPlaced(_ key: String) -> Bool {
    record.withLock { $0.placedPrefixes.contains(where: key.hasPrefix) }
  }

  /// The device that a tensor is read to.
  func device(of key: String) -> Device { isPlaced(key) ? .cpu : policy.device }

  /// The rotation for groups of a size, on the policy's device.
  func rotation(group: Int) throws -> HadamardRotation {
    if let made = record.withLock({ $0.rotations[group] }) { return made }
    let rotation = try HadamardRotation(group: group, device: policy.device)
    record.withLock { $0.rotations[group] = rotation }
    return rotation
  }

  /// Reads a tensor onto its device. A tensor that is copied on the way is not kept in
  /// memory twice: the file's pages are released. Otherwise it is a view of the file, which is
  /// prefetched now, so that it is there when it is used.
  ///
  /// - Parameter isShared: Whether other models that are built from the file may share it.
  func read(_ key: String, dtype: DType?, isShared: Bool = true) throws -> Tensor {
    markUsed(key)
    let device = device(of: key)
    func load() throws -> Tensor {
      // Without a dtype models are built only to check whether everything fits.
      let isUsed = policy.dtype != nil && !policy.isInspected
      let isDivided = isDividedInTraining(key)
      if isDeferred(key) {
        source.prepareToReadOnly(key)
      } else if isUsed, !isDivided {
        source.prepareToRead(key)
      }
      let stored = try source.tensor(key)
      let tensor = try stored.to(device, dtype)
      // Each rank checks its part of a divided tensor.
      if isUsed, !isDivided { try requireFinite(tensor, key) }
      // A placed weight is only checked now; its pages are read again when its block runs.
      if isPlaced(key) || !tensor.sharesStorage(with: stored) { source.release(key) }
      return tensor
    }
    guard isShared, let loaded = policy.loaded else { return try load() }
    return try loaded.tensor(key, of: source.name, dtype: dtype, device: device, load)
  }

  /// Loads a weight in its format. The tensors that describe the format count as read.
  func load(_ format: any WeightFormat, _ key: String, dtype: DType?) throws -> any StoredWeight {
    for companion in index.companionKeys(of: key) { markUsed(companion) }
    return try format.load(dtype: dtype, from: self)
  }

  /// Checks a weight while loading: attention on the CPU can turn NaN into zeros, so that the
  /// result looks right.
  private func requireFinite(_ tensor: Tensor, _ key: String) throws {
    guard tensor.dtype.isFloatingPoint, tensor.count > 0 else { return }
    // One pass without a copy: libtorch adds in float32 and rounds the sum, but would first copy the
    // weight for a sum in another dtype. A sum of large values that overflows is checked again.
    let wide = tensor.dtype.isEightBitFloat ? try tensor.to(.bfloat16) : tensor
    let sum = try wide.sum().item()
    guard !sum.isFinite, try !wide.isAllFinite() else { return }
    throw WeightError(
      file: source.file(of: key), key: key,
      problem:
        "holds NaN or infinite values; the file is damaged. Download it again, or write it again.")
  }

  /// The adapters that become part of a layer's weight.
  func fusedAdapters(of path: String) -> [any Adapter] {
    policy.adapters.placement == .fused ? policy.adapters[path] : []
  }

  /// The dtype that a tensor is trained in; nil for a frozen one.
  func trainedDType(_ key: String) -> DType? {
    guard let trained = policy.trained, trained.matches(key) else { return nil }
    return trained.dtype
  }

  /// A trained tensor, with its own memory: nothing may write to the file, or to a tensor that
  /// others share. For a tensor that is divided among the ranks, a placeholder of its shape, without
  /// memory, whose values are NaN.
  ///
  /// - Parameter read: Reads the tensor in a dtype, or as it is stored, to the tensor's device.
  func parameter(
    _ key: String, dtype: DType, _ read: (DType?) throws -> Tensor
  ) throws -> Tensor {
    if let parameter = record.withLock({ $0.parameters.first { $0.key == key } }) {
      return try parameter.shard == nil ? parameter.tensor : Self.placeholder(for: parameter)
    }
    if isSharded(key) {
      let ranks = policy.ranks
      // The whole tensor is neither converted nor copied.
      let stored = try read(nil)
      let shard = Shard(shape: stored.shape, index: ranks.rank, count: ranks.worldSize)
      let part = try withoutGrad { try shard.part(of: stored, on: policy.device, as: dtype) }
      if policy.dtype != nil, !policy.isInspected { try requireFinite(part, key) }
      let parameter = Parameter(key: key, tensor: try part.asLeaf(), shard: shard)
      source.release(key)
      record.withLock { $0.parameters.append(parameter) }
      return try Self.placeholder(for: parameter)
    }
    var tensor = try read(dtype).to(policy.device)
    if try policy.loaded != nil || tensor.sharesStorage(with: source.tensor(key)) {
      tensor = try tensor.clone()
    }
    let leaf = try tensor.asLeaf()
    source.release(key)
    record.withLock { $0.parameters.append(Parameter(key: key, tensor: leaf)) }
    return leaf
  }

  private static func placeholder(for parameter: Parameter) throws -> Tensor {
    try withoutGrad {
      try Tensor.full(
        [1], Scalar(.nan), dtype: parameter.tensor.dtype, device: parameter.tensor.device
      ).expand(parameter.shape)
    }.asLeaf()
  }

  /// The adapters that are kept beside the weight.
  func adapters(of path: String, _ layer: BaseLayer) throws -> [any Adapter] {
    var adapters = policy.adapters.placement == .separate ? policy.adapters[path] : []
    let isAdapted = policy.freshAdapters?.matches(path) ?? false
    if let fresh = policy.freshAdapters, isAdapted {
      adapters.append(try fresh.make(path, for: layer))
    }
    record.withLock { record in
      record.linears.append(path)
      if isAdapted {
        record.adapted.append(
          AdaptedLayer(path: path, inputs: layer.inputs, outputs: layer.outputs))
      }
      if let term = adapters.first?.lowRankTerm { record.factors.append((path, term)) }
      for (role, tensor) in adapters.flatMap(\.tensors) where tensor.requiresGrad {
        record.parameters.append(Parameter(key: "\(path).\(role)", tensor: tensor))
      }
    }
    return adapters
  }

  func unusedAdapters() -> [String] {
    let built = Set(record.withLock { $0.linears })
    return policy.adapters.paths.filter { !built.contains($0) }
  }

  /// The first name of adapters or trained weights that matches nothing.
  func unmatchedTarget(of file: String) -> UnmatchedTarget? {
    let (linears, keys) = record.withLock { ($0.linears, $0.usedKeys) }
    func error(_ target: (name: String, isExcluded: Bool), namesTensors: Bool) -> UnmatchedTarget {
      UnmatchedTarget(
        file: file, target: target.name, isExcluded: target.isExcluded, namesTensors: namesTensors,
        layers: linearNames)
    }
    return policy.freshAdapters?.unmatched(in: linears).first.map { error($0, namesTensors: false) }
      ?? policy.trained?.unmatched(in: keys).first.map { error($0, namesTensors: true) }
  }

  /// The differences between the adapters that training continues from and those of the layers.
  func mismatch() -> Issue? {
    let layers = record.withLock { $0.adapted }
    return policy.freshAdapters.flatMap { $0.initial?.mismatch(layers, $0) }
  }

  /// The ends of the paths of linear layers, from which targets are suggested.
  var linearNames: [String] {
    let names = record.withLock { $0.linears }.map { path in
      // A numbered layer is shown together with its parent: `to_out.0`.
      let parts = path.split(separator: ".")
      let count = parts.last.map { $0.allSatisfy(\.isNumber) } == true ? 2 : 1
      return parts.suffix(count).joined(separator: ".")
    }
    return Set(names).sorted()
  }
}
