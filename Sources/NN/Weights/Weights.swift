import TensorFiles
import Torch

/// A path-scoped view of a checkpoint, from which layers are made: `Linear(weights / "attn1" /
/// "to_q")`.
///
/// The view decides what a layer is made of: element type, device, adapters, which tensors are
/// trained. Models don't know; they read the same whatever the policy. A tensor that is missing or
/// has another shape than the configuration says throws, and names its key.
public struct Weights: Sendable {
  let store: WeightStore
  /// The prefix of the keys below, without the closing dot; empty at the root.
  public let path: String

  /// The root of a checkpoint.
  ///
  /// - Parameters:
  ///   - dtype: what floating-point tensors are converted to; nil keeps each as the file has it,
  ///     and asks the disk for nothing before it is used.
  ///   - adapters: low-rank adapters by the path of the module that they modify.
  ///   - freshAdapters: new adapters, to be trained, for each linear layer that they match.
  ///   - trained: tensors that are trained themselves.
  ///   - storage: what becomes of the matrices of linear layers.
  ///   - loaded: tensors that other models have taken from the file already, to share them.
  ///   - isInspected: models are built only to see what they are made of: the disk is not asked for
  ///     tensors, and ones that no layer reads are no error.
  public init(
    _ source: any TensorSource, dtype: DType? = nil, device: Device = .cpu,
    adapters: AdapterSet = AdapterSet(), freshAdapters: FreshAdapters? = nil,
    trained: TrainedWeights? = nil, storage: WeightStorage = .asStored,
    loaded: LoadedTensors? = nil,
    isInspected: Bool = false
  ) {
    store = WeightStore(
      source: source, dtype: dtype, device: device, adapters: adapters,
      freshAdapters: freshAdapters,
      trained: trained, storage: storage, loaded: loaded, isInspected: isInspected)
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

  /// A tensor of the checkpoint, converted and moved as the policy says. Numbers in eight bits are
  /// expanded, and multiplied by the scale that the checkpoint has beside them. Adapters that are
  /// to be fused are part of it. One that is trained is a leaf in the element type of training.
  ///
  /// - Parameter shape: what the configuration says it must be; -1 for a dimension that is free.
  /// - Throws: `WeightError` when it is missing, shaped otherwise, or of a dtype that no layer
  ///   computes in.
  public func tensor(_ name: String, shape: [Int]? = nil) throws -> Tensor {
    let entry = try entry(name, shape: shape)
    guard let dtype = store.trainedDType(key(name), entry) else {
      return try tensor(name, entry, dtype: store.dtype)
    }
    return try store.parameter(key(name)) { try tensor(name, entry, dtype: dtype) }
  }

  /// A slot with a tensor, for a layer that finds it there at each call. Blocks list it.
  ///
  /// - Parameters:
  ///   - shape: as in `tensor(_:shape:)`, which throws the same errors.
  ///   - prepare: computes the tensor that the layer uses from the checkpoint's, once.
  public func slot(
    _ name: String, shape: [Int]? = nil, _ prepare: (Tensor) throws -> Tensor = { $0 }
  ) throws -> WeightSlot {
    let slot = WeightSlot(key: key(name), tensor: try prepare(tensor(name, shape: shape)))
    store.record(slot)
    return slot
  }

  private func tensor(_ name: String, _ entry: TensorEntry, dtype: DType?) throws -> Tensor {
    let fused = fusedAdapters(of: name)
    guard fused.isEmpty else { return try tensor(name, entry, fusing: fused, dtype: dtype) }
    if let matrix = try storedMatrix(name, entry, dtype: dtype) {
      defer { store.source.release(key(name)) }
      return try matrix.dequantized()
    }
    // No layer computes in float64.
    return try store.read(key(name), dtype: dtype ?? (entry.dtype == .float64 ? .float32 : nil))
  }

  /// A matrix with adapters added, in the element type that is asked for. The sum is rounded to the
  /// file's.
  private func tensor(
    _ name: String, _ entry: TensorEntry, fusing adapters: [LowRankAdapter], dtype: DType?
  ) throws -> Tensor {
    guard entry.shape.count == 2 else {
      throw WeightError(
        file: file, key: key(name),
        problem: "is \(entry.dtype) of shape \(entry.shape), to which no LoRA can be added")
    }
    for adapter in adapters {
      try adapter.requireFit(path, of: file, inputs: entry.shape[1], outputs: entry.shape[0])
    }
    defer { store.source.release(key(name)) }
    let stored = try storedMatrix(name, entry, dtype: dtype)
    let weight =
      if let stored, stored.isScaled { try stored.dequantized() } else {
        try store.read(key(name), dtype: nil)
      }
    let own: DType? = entry.dtype.isEightBitFloat || entry.dtype == .int8 ? .bfloat16 : nil
    return try LowRankAdapter.fused(adapters, into: weight).to(store.device, dtype ?? own)
  }

  func fusedAdapters(of name: String) -> [LowRankAdapter] {
    name == "weight" ? store.fusedAdapters(of: path) : []
  }

  /// What the file says of a tensor, after a check of its dtype and shape.
  func entry(_ name: String, shape: [Int]?) throws -> TensorEntry {
    let key = key(name)
    guard let entry = store.source.entries[key] else { throw missing(name) }
    guard entry.dtype.isFloatingPoint || entry.dtype == .int8 && scaleName(of: name) != nil else {
      throw packedFormatError(name)
        ?? WeightError(
          file: store.source.file(of: key), key: key,
          problem: entry.dtype == .int8
            ? "is int8 without a scale (expected \(name)_scale beside it). \(PackedFormat.advice)"
            : "has dtype \(entry.dtype), in which no layer can compute (expected a floating-point dtype, or int8 "
              + "with a scale). \(PackedFormat.advice)")
    }
    if let shape {
      let fits =
        shape.count == entry.shape.count
        && zip(shape, entry.shape).allSatisfy { $0 == -1 || $0 == $1 }
      guard fits else {
        throw packedFormatError(name)
          ?? WeightError(
            file: store.source.file(of: key), key: key,
            problem: "has shape \(entry.shape), but its configuration asks for \(shape)")
      }
    }
    return entry
  }

  private func missing(_ name: String) -> WeightError {
    let scope = key(name).prefix { $0 != "." } + "."
    return packedFormatError(name) ?? store.source.packedFormatError(anywhereBelow: String(scope))
      ?? WeightError(file: file, key: key(name), problem: "is missing from the checkpoint")
  }

  /// What a tensor can't be read because of, where its layer is in a known format that is not
  /// supported.
  private func packedFormatError(_ name: String) -> WeightError? {
    let key = key(name)
    return store.packedFormatError(key.lastIndex(of: ".").map { String(key[...$0]) } ?? "")
  }

  /// As `tensor`, or nil if the checkpoint does not have it.
  public func optionalTensor(_ name: String, shape: [Int]? = nil) throws -> Tensor? {
    has(name) ? try tensor(name, shape: shape) : nil
  }

  /// Checks that a tensor is there and can be read, without reading its elements.
  ///
  /// - Throws: as `tensor(_:shape:)`; `ConfigurationError` for a quantization that is not
  ///   supported.
  public func requireReadable(_ name: String) throws {
    let entry = try entry(name, shape: nil)
    // Elements can look readable, and mean something else by what is beside them.
    if let error = packedFormatError(name) { throw error }
    _ = try storedMatrix(name, entry, dtype: nil)
  }

  /// The size of a stored tensor, without reading it.
  public func shape(of name: String) throws -> [Int] { try entry(name, shape: nil).shape }

  /// The adapters that modify the linear layer here, in the order in which they were added.
  ///
  /// - Parameter rowNorms: of the layer's weight, where fresh magnitudes start.
  func adapters(inputs: Int, outputs: Int, rowNorms: () throws -> Tensor) throws -> [LowRankAdapter]
  {
    try store.adapters(of: path, inputs: inputs, outputs: outputs, rowNorms: rowNorms)
  }

  /// The trained tensors of the modules that have been built below here, in the order of building.
  public var parameters: [Parameter] {
    let prefix = path.isEmpty ? "" : path + "."
    return store.parameters.filter { $0.key.hasPrefix(prefix) }
  }

  /// The slots of the layers that have been built below here, in the order of building, as far as
  /// the layers still exist.
  public var slots: [WeightSlot] {
    let prefix = path.isEmpty ? "" : path + "."
    return store.slots.filter { $0.key.hasPrefix(prefix) }
  }

  /// Checks, after a model has been built, that every adapter found its module.
  ///
  /// - Throws: `WeightError` that names the first module that the model does not have;
  ///   `UnmatchedTarget` for a name of fresh adapters or trained weights; `AdapterMismatch` for
  ///   adapters to go on from that are not those of the layers.
  public func requireAllAdaptersUsed() throws {
    if let path = store.unusedAdapters().first {
      throw WeightError(
        file: file, key: path,
        problem:
          "is the target of a LoRA, but the model has no such linear layer; the LoRA was made for another model"
      )
    }
    if let error = store.unmatchedTarget(of: file) { throw error }
    if let mismatch = store.mismatch() { throw mismatch }
  }

  /// Checks, after a model has been built here, that it has read every tensor below.
  ///
  /// Of a file that is only inspected, what is left is `unusedKeys`, and no error.
  ///
  /// - Parameter isKnown: whether a key below here, without the path, is there for others and
  ///   rightly left.
  /// - Throws: `WeightError` that names the first one.
  public func requireAllUsed(except isKnown: (String) -> Bool = { _ in false }) throws {
    guard !store.isInspected else { return }
    let start = path.isEmpty ? 0 : path.utf8.count + 1
    let unexpected = unusedKeys.filter { !isKnown(String($0.utf8.dropFirst(start)) ?? $0) }
    guard let first = unexpected.first else { return }
    let prefix = first.lastIndex(of: ".").map { String(first[...$0]) } ?? ""
    if let error = store.packedFormatError(prefix) { throw error }
    let others = unexpected.count > 1 ? " (and \(unexpected.count - 1) more)" : ""
    throw WeightError(
      file: store.source.file(of: first), key: first,
      problem: "is no part of the model that the file's configuration describes\(others); "
        + "the file was made for another version, or two files were mixed")
  }

  /// Keys below here that no layer has read.
  public var unusedKeys: [String] {
    let prefix = path.isEmpty ? "" : path + "."
    let used = store.usedKeys
    return store.source.entries.keys.filter { $0.hasPrefix(prefix) && !used.contains($0) }.sorted()
  }
}

/// A checkpoint and a model that don't fit.
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

/// A name of layers to adapt, or of weights to train, that none of a model's layers has.
public struct UnmatchedTarget: Error, CustomStringConvertible, Sendable {
  public let file: String
  public let target: String
  /// Whether there are such layers, but none whose training could change the loss.
  public let isExcluded: Bool
  /// Whether tensors are named, to be trained themselves, and not layers, to be adapted.
  public let namesTensors: Bool
  /// What the paths of the linear layers end in.
  public let layers: [String]

  public var description: String {
    isExcluded
      ? "\"\(target)\" matches only layers of \(file) that the streams which are trained don't depend on; leave it out"
      : "\"\(target)\" matches no \(namesTensors ? "tensor" : "linear layer") of \(file); there are layers that end in \(layers.joined(separator: ", "))"
  }
}

/// A tensor that training changes, under the key that it is saved by.
public struct Parameter: Sendable {
  public let key: String
  public let tensor: Tensor

  public init(key: String, tensor: Tensor) {
    self.key = key
    self.tensor = tensor
  }
}
