import TensorFiles
import Torch

/// A path-scoped view of a checkpoint, from which layers are built: `Linear(weights / "attn1" /
/// "to_q")`.
///
/// The policy of the view decides how a layer is built: its dtype, device, adapters, and trained
/// tensors. Models don't know the policy. A tensor that is missing or doesn't have the shape in the
/// configuration throws an error that names its key.
public struct Weights: Sendable {
  let store: WeightStore
  /// The prefix of the keys below, without the trailing dot; empty at the root.
  public let path: String

  /// The root of a checkpoint.
  public init(_ source: any TensorSource, _ policy: LoadPolicy = LoadPolicy()) {
    store = WeightStore(source, policy)
    path = ""
  }

  private init(store: WeightStore, path: String) {
    self.store = store
    self.path = path
  }

  public static func / (parent: Weights, child: String) -> Weights {
    Weights(store: parent.store, path: parent.key(child))
  }

  public static func / (parent: Weights, child: Int) -> Weights { parent / String(child) }

  func key(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

  /// The file that the tensors come from, for messages.
  public var file: String { store.source.file(of: path) }

  /// Whether the checkpoint has a tensor of that name here.
  public func has(_ name: String) -> Bool { store.source.entries[key(name)] != nil }

  /// Whether the checkpoint has anything below here.
  public var isPresent: Bool {
    let prefix = path + "."
    return store.source.entries.keys.contains { $0 == path || $0.hasPrefix(prefix) }
  }

  /// A tensor of the checkpoint, converted and moved according to the policy. A quantized one is
  /// dequantized. It includes adapters to fuse. A trained one is a leaf in the dtype of training.
  ///
  /// - Parameter shape: The shape from the configuration; -1 for a dimension that is free.
  /// - Throws: `WeightError` for a tensor that is missing, has another shape, or is in a format
  ///   that can't be read; `Issue` for an unsupported description.
  public func tensor(_ name: String, shape: [Int]? = nil) throws -> Tensor {
    let format = try format(of: name, shape: shape)
    guard let dtype = store.trainedDType(key(name)) else {
      return try tensor(name, format, dtype: store.policy.dtype)
    }
    return try store.parameter(key(name), dtype: dtype) { try tensor(name, format, dtype: $0) }
  }

  /// A tensor in the file's own dtype, whatever the policy's is; a quantized one is dequantized.
  ///
  /// - Parameter shape: As in `tensor(_:shape:)`, which throws the same errors.
  public func storedTensor(_ name: String, shape: [Int]? = nil) throws -> Tensor {
    try tensor(name, format(of: name, shape: shape), dtype: nil)
  }

  /// A tensor that was computed from stored ones, in the policy's dtype.
  public func converted(_ tensor: Tensor) throws -> Tensor {
    try tensor.to(store.policy.dtype ?? tensor.dtype)
  }

  /// A slot with a tensor, where a layer finds it at each call. Blocks list it.
  ///
  /// - Parameters:
  ///   - shape: As in `tensor(_:shape:)`, which throws the same errors.
  ///   - prepare: Computes, once, the tensor that the layer uses from the checkpoint's.
  public func slot(
    _ name: String, shape: [Int]? = nil, _ prepare: (Tensor) throws -> Tensor = { $0 }
  ) throws -> WeightSlot {
    let slot = WeightSlot(key: key(name), tensor: try prepare(tensor(name, shape: shape)))
    store.record(slot)
    return slot
  }

  /// The weight of a linear layer, stored according to the policy.
  ///
  /// - Parameter shape: As in `tensor(_:shape:)`, which throws the same errors.
  func storedWeight(_ name: String, shape: [Int]) throws -> any StoredWeight {
    let format = try format(of: name, shape: shape)
    let storage = store.policy.storage
    let form = storage.isExcluded(path) ? .asStored : storage.form
    let isChanged = store.trainedDType(key(name)) != nil || !fusedAdapters(of: name).isEmpty
    let weight: any StoredWeight
    switch form {
    case .asStored where !isChanged:
      weight = try store.load(format, key(name), dtype: store.policy.dtype)
    case .quantized where !isChanged && format.isQuantized:
      weight = try store.load(format, key(name), dtype: store.policy.dtype)
    case .quantized(let quantizer) where store.trainedDType(key(name)) == nil:
      defer { store.source.release(key(name)) }
      // Only the quantized weight is kept, so the one that was read is not shared.
      let values =
        try isChanged
        ? tensor(name)
        : store.read(key(name), dtype: store.policy.dtype ?? format.dtype, isShared: false)
      weight = try quantizer.quantize(values.to(device), key: key(name))
      try weight.move(to: store.device(of: key(name)))
    case .asStored, .dequantized, .quantized:
      return DenseWeight(try slot(name, shape: shape))
    }
    for slot in weight.slots { store.record(slot) }
    return weight
  }

  /// The weight of a linear layer, to be read when it is needed.
  ///
  /// - Parameter shape: As in `tensor(_:shape:)`, which throws the same errors.
  public func deferredWeight(_ name: String, shape: [Int]) throws -> DeferredWeight {
    let format = try format(of: name, shape: shape)
    let storage = store.policy.storage
    var quantizer: (any WeightQuantizer)?
    if case .quantized(let chosen) = storage.form, !storage.isExcluded(path) { quantizer = chosen }
    return DeferredWeight(key(name), format, quantizer: quantizer, store)
  }

  private func tensor(_ name: String, _ format: any WeightFormat, dtype: DType?) throws -> Tensor {
    let fused = fusedAdapters(of: name)
    guard fused.isEmpty else { return try tensor(name, format, fusing: fused, dtype: dtype) }
    defer { if format.isQuantized { store.source.release(key(name)) } }
    return try store.load(format, key(name), dtype: dtype).dequantized()
  }

  /// A weight with adapters added. The sum is rounded to the dtype of the weight before it is
  /// converted.
  private func tensor(
    _ name: String, _ format: any WeightFormat, fusing adapters: [any Adapter], dtype: DType?
  ) throws -> Tensor {
    guard format.shape.count == 2 else {
      throw WeightError(
        file: file, key: key(name),
        problem: "is \(format.title) of shape \(format.shape), to which no LoRA can be added")
    }
    for adapter in adapters {
      try adapter.requireFit(path, of: file, inputs: format.shape[1], outputs: format.shape[0])
    }
    defer { store.source.release(key(name)) }
    for companion in store.index.companionKeys(of: key(name)) { store.markUsed(companion) }
    let weight = try format.valuesToFuse(dtype: dtype, from: store).to(device)
    return try adapters.fused(into: weight)
      .to(store.device(of: key(name)), dtype ?? format.dtype)
  }

  func fusedAdapters(of name: String) -> [any Adapter] {
    name == "weight" ? store.fusedAdapters(of: path) : []
  }

  /// The format of a tensor in the file, after a check of its dtype and shape.
  private func format(of name: String, shape: [Int]?) throws -> any WeightFormat {
    guard let format = try store.index.format(of: key(name)) else { throw missing(name) }
    if let shape {
      let found = format.shape
      let fits =
        shape.count == found.count && zip(shape, found).allSatisfy { $0 == -1 || $0 == $1 }
      guard fits else {
        throw unsupportedFormatError(name)
          ?? WeightError(
            file: store.source.file(of: key(name)), key: key(name),
            problem: "has shape \(found), but its configuration asks for \(shape)")
      }
    }
    return format
  }

  private func missing(_ name: String) -> any Error {
    let scope = key(name).prefix { $0 != "." } + "."
    return unsupportedFormatError(name)
      ?? store.source.unsupportedFormatError(anywhereBelow: String(scope))
      ?? WeightError(file: file, key: key(name), problem: "is missing from the checkpoint")
  }

  /// The error for a tensor whose layer is in a known but unsupported format.
  private func unsupportedFormatError(_ name: String) -> (any Error)? {
    let key = key(name)
    return store.source.unsupportedFormatError(
      layer: key.lastIndex(of: ".").map { String(key[...$0]) } ?? "")
  }

  /// Checks that a tensor exists and can be read, without reading its elements.
  ///
  /// - Throws: The errors of `tensor(_:shape:)`.
  public func requireReadable(_ name: String) throws {
    let format = try format(of: name, shape: nil)
    // Elements can look readable, but mean something else because of the tensors beside them.
    if let error = unsupportedFormatError(name) { throw error }
    _ = try store.load(format, key(name), dtype: nil)
  }

  /// The shape of a tensor's values, without reading them.
  public func shape(of name: String) throws -> [Int] { try format(of: name, shape: nil).shape }

  /// The adapters that are kept beside the linear layer here, in the order in which they were
  /// added.
  func adapters(of layer: BaseLayer) throws -> [any Adapter] {
    try store.adapters(of: path, layer).map { try $0.checked(for: layer, path, of: file) }
  }

  /// The device that computes. Tensors of blocks that are not resident are on the CPU.
  package var device: Device { store.policy.device }

  /// The ranks that sharded weights are divided among.
  package var ranks: ProcessGroup { store.policy.ranks }

  /// The location of the weights of a block of a stack.
  package func placement(ofBlock index: Int) -> WeightPlacement {
    store.policy.isInspected ? .resident : store.policy.placements[index]
  }

  /// This scope, whose frozen weights are kept where a placement says when they are loaded.
  package func placed(_ placement: WeightPlacement) -> Weights {
    if placement != .resident { store.place(path + ".", placement) }
    return self
  }

  /// The frozen weights of the layers that have been built below here.
  package func placedWeights(_ placement: WeightPlacement) -> PlacedWeights {
    PlacedWeights(slots.filter { !$0.isTrained }, placement, store.source)
  }

  /// The slots of the divided trained tensors that have been built below here, with the parts of
  /// this rank.
  package var shardedParameters: [(slot: WeightSlot, parameter: Parameter)] {
    let byKey = Dictionary(slots.map { ($0.key, $0) }) { first, _ in first }
    return parameters.compactMap { parameter in
      guard parameter.shard != nil, let slot = byKey[parameter.key] else { return nil }
      return (slot, parameter)
    }
  }

  /// The dtype in which matrices are gathered; nil for that of the parts.
  package var gatheredDType: DType? { store.policy.gatheredDType }

  /// The trained tensors of the modules that have been built below here, in the order of building.
  public var parameters: [Parameter] {
    let prefix = path.isEmpty ? "" : path + "."
    return store.parameters.filter { $0.key.hasPrefix(prefix) }
  }

  /// The factors of the adapters that the layers below here add to their own products.
  public var lowRankFactors: [Tensor] {
    let prefix = path.isEmpty ? "" : path + "."
    return store.factors.filter { $0.path.hasPrefix(prefix) }.flatMap {
      [$0.term.down, $0.term.up]
    }
  }

  /// The slots of the layers that have been built below here, in the order of building, if the
  /// layers still exist.
  public var slots: [WeightSlot] {
    let prefix = path.isEmpty ? "" : path + "."
    return store.slots.filter { $0.key.hasPrefix(prefix) }
  }

  /// The paths of the linear layers that have been built from this checkpoint, in the order of
  /// building.
  public var linearLayers: [String] { store.linearLayers }

  /// Checks, after a model has been built, that every adapter found its module.
  ///
  /// - Throws: `WeightError` that names the first module that the model doesn't have;
  ///   `UnmatchedTarget` for a name of fresh adapters or trained weights; `Issue` for
  ///   adapters to continue from that don't match those of the layers.
  public func requireAllAdaptersUsed() throws {
    if let path = store.unusedAdapters().first {
      throw WeightError(
        file: file, key: path,
        problem:
          "is the target of a LoRA, but the model has no such linear layer; the LoRA was made "
          + "for another model"
      )
    }
    if let error = store.unmatchedTarget(of: file) { throw error }
    if let mismatch = store.mismatch() { throw mismatch }
  }

  /// Checks, after a model has been built here, that it has read every tensor below.
  ///
  /// A file that is only inspected is not checked; see `unusedKeys`.
  ///
  /// - Parameter isKnown: Whether a key below here, without the path, is known to be unused.
  /// - Throws: `WeightError` that names the first one.
  public func requireAllUsed(except isKnown: (String) -> Bool = { _ in false }) throws {
    guard !store.policy.isInspected else { return }
    let start = path.isEmpty ? 0 : path.utf8.count + 1
    let unexpected = unusedKeys.filter { !isKnown(String($0.utf8.dropFirst(start)) ?? $0) }
    guard let first = unexpected.first else { return }
    let prefix = first.lastIndex(of: ".").map { String(first[...$0]) } ?? ""
    if let error = store.source.unsupportedFormatError(layer: prefix) { throw error }
    let others = unexpected.count > 1 ? " (and \(unexpected.count - 1) more)" : ""
    throw WeightError(
      file: store.source.file(of: first), key: first,
      problem: "is not part of the model that the file's configuration describes\(others); "
        + "the file was made for another version, or two files were mixed")
  }

  /// Keys below here that no layer has read.
  public var unusedKeys: [String] {
    let prefix = path.isEmpty ? "" : path + "."
    let used = store.usedKeys
    return store.source.entries.keys.filter { $0.hasPrefix(prefix) && !used.contains($0) }.sorted()
  }
}

/// An error about a tensor of a checkpoint that doesn't fit the model, or can't be read.
public struct WeightError: Error, CustomStringConvertible, Sendable {
  public let file: String
  public let key: String
  public let problem: String

  public init(file: String, key: String, problem: String) {
    self.file = file
    self.key = key
    self.problem = problem
  }

  public var description: String { "\(file): \(key.displayed()) \(problem)" }
}

/// A name of layers to adapt, or of weights to train, that matches no layer of a model.
public struct UnmatchedTarget: Error, CustomStringConvertible, Sendable {
  public let file: String
  public let target: String
  /// Whether the name matches layers, but none whose training could change the loss.
  public let isExcluded: Bool
  /// Whether the name is of tensors to be trained, and not of layers to be adapted.
  public let namesTensors: Bool
  /// The ends of the paths of the linear layers.
  public let layers: [String]

  public var description: String {
    isExcluded
      ? "\"\(target)\" matches only layers of \(file) that the trained modalities don't depend "
        + "on; leave it out"
      : "\"\(target)\" matches no \(namesTensors ? "tensor" : "linear layer") of \(file); there "
        + "are layers that end in \(layers.joined(separator: ", "))"
  }
}

/// A tensor that training changes, under the key that it is saved by.
public struct Parameter: Sendable {
  public let key: String
  /// The whole tensor, or this rank's part of it, [shard.partCount].
  public let tensor: Tensor
  /// Nil for a whole tensor.
  public let shard: Shard?

  public init(key: String, tensor: Tensor, shard: Shard? = nil) {
    self.key = key
    self.tensor = tensor
    self.shard = shard
  }

  /// The shape of the whole tensor.
  public var shape: [Int] { shard?.shape ?? tensor.shape }
}
