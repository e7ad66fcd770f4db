import Synchronization
import TensorFiles
import Torch

/// A path-scoped view of a checkpoint, from which layers are made: `Linear(weights / "attn1" / "to_q")`.
///
/// The view decides what a layer is made of: element type, device, adapters, which tensors are trained. Models don't
/// know; they read the same whatever the policy. A tensor that is missing or has another shape than the configuration
/// says throws, and names its key.
public struct Weights: Sendable {
  let store: WeightStore
  /// The prefix of the keys below, without the closing dot; empty at the root.
  public let path: String

  /// The root of a checkpoint.
  ///
  /// - Parameters:
  ///   - dtype: what floating-point tensors are converted to; nil keeps each as the file has it.
  ///   - adapters: low-rank adapters by the path of the module that they modify.
  ///   - freshAdapters: new adapters, to be trained, for each linear layer that they match.
  ///   - loaded: tensors that other models have taken from the file already, to share them.
  public init(
    _ source: any TensorSource, dtype: DType? = nil, device: Device = .cpu,
    adapters: AdapterSet = AdapterSet(),
    freshAdapters: FreshAdapters? = nil, loaded: LoadedTensors? = nil
  ) {
    store = WeightStore(
      source: source, dtype: dtype, device: device, adapters: adapters, freshAdapters: freshAdapters,
      loaded: loaded)
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
  public var file: String { store.source.name }

  /// Whether the checkpoint has a tensor of that name here.
  public func has(_ name: String) -> Bool { store.source.entries[key(name)] != nil }

  /// Whether the checkpoint has anything below here.
  public var isPresent: Bool {
    let prefix = path + "."
    return store.source.entries.keys.contains { $0 == path || $0.hasPrefix(prefix) }
  }

  /// A tensor of the checkpoint, converted and moved as the policy says. Adapters that are to be fused are part of it.
  ///
  /// - Parameter shape: what the configuration says it must be; -1 for a dimension that is free.
  /// - Throws: `WeightError` when it is missing or shaped otherwise.
  public func tensor(_ name: String, shape: [Int]? = nil) throws -> Tensor {
    let key = key(name)
    guard let entry = store.source.entries[key] else {
      throw WeightError(file: file, key: key, problem: "is missing from the checkpoint")
    }
    if let shape {
      let fits =
        shape.count == entry.shape.count && zip(shape, entry.shape).allSatisfy { $0 == -1 || $0 == $1 }
      guard fits else {
        throw WeightError(
          file: file, key: key, problem: "has shape \(entry.shape), but its configuration asks for \(shape)")
      }
    }
    store.markUsed(key)
    return try store.tensor(key, fusing: name == "weight" ? store.fusedAdapters(of: path) : [])
  }

  /// As `tensor`, or nil if the checkpoint does not have it.
  public func optionalTensor(_ name: String, shape: [Int]? = nil) throws -> Tensor? {
    has(name) ? try tensor(name, shape: shape) : nil
  }

  /// The size of a stored tensor, without reading it.
  public func shape(of name: String) throws -> [Int] {
    guard let entry = store.source.entries[key(name)] else {
      throw WeightError(file: file, key: key(name), problem: "is missing from the checkpoint")
    }
    return entry.shape
  }

  /// The adapters that modify the linear layer here, in the order in which they were added.
  func adapters(inputs: Int, outputs: Int) throws -> [LowRankAdapter] {
    try store.adapters(of: path, inputs: inputs, outputs: outputs)
  }

  /// The trained tensors of the modules that have been built below here, in the order of building.
  public var parameters: [Parameter] {
    let prefix = path.isEmpty ? "" : path + "."
    return store.parameters.filter { $0.key.hasPrefix(prefix) }
  }

  /// Checks, after a model has been built, that every adapter found its module.
  ///
  /// - Throws: `WeightError` that names the first module that the model does not have; `UnmatchedTarget` for a name of
  ///   fresh adapters.
  public func requireAllAdaptersUsed() throws {
    if let path = store.unusedAdapters().first {
      throw WeightError(
        file: file, key: path,
        problem:
          "is the target of a LoRA, but the model has no such linear layer; the LoRA was made for another model"
      )
    }
    if let target = store.unmatchedTargets().first {
      throw UnmatchedTarget(file: file, target: target, layers: store.linearNames)
    }
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

  public var description: String { "\(file): \(key) \(problem)" }
}

/// A name of layers to adapt that none of a model's linear layers has.
public struct UnmatchedTarget: Error, CustomStringConvertible, Sendable {
  public let file: String
  public let target: String
  /// What the paths of the linear layers end in.
  public let layers: [String]

  public var description: String {
    "\"\(target)\" matches no linear layer of \(file); there are layers that end in \(layers.joined(separator: ", "))"
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

/// The policy behind a tree of views, and the record of what layers have taken.
final class WeightStore: Sendable {
  let source: any TensorSource
  let dtype: DType?
  let device: Device
  private let loaded: LoadedTensors?
  private let given: AdapterSet
  private let fresh: FreshAdapters?
  private let record = Mutex(Record())

  private struct Record {
    var usedKeys: Set<String> = []
    /// Paths of the linear layers that have been built.
    var linears: [String] = []
    var parameters: [Parameter] = []
  }

  init(
    source: any TensorSource, dtype: DType?, device: Device, adapters: AdapterSet,
    freshAdapters: FreshAdapters?, loaded: LoadedTensors?
  ) {
    self.source = source
    self.loaded = loaded
    self.dtype = dtype
    self.device = device
    given = adapters
    fresh = freshAdapters
  }

  var usedKeys: Set<String> { record.withLock { $0.usedKeys } }
  var parameters: [Parameter] { record.withLock { $0.parameters } }

  func markUsed(_ key: String) { record.withLock { _ = $0.usedKeys.insert(key) } }

  /// A tensor of the file, on the device, with adapters added, in the element type that is asked for.
  func tensor(_ key: String, fusing adapters: [LowRankAdapter]) throws -> Tensor {
    guard adapters.isEmpty else {
      let weight = try source.tensor(key).to(device)
      guard weight.rank == 2, weight.dtype.isFloatingPoint else {
        throw WeightError(
          file: source.name, key: key,
          problem: "is \(weight.dtype) of shape \(weight.shape), to which no LoRA can be added")
      }
      for adapter in adapters {
        try adapter.requireFit(
          String(key.dropLast(".weight".count)), of: source.name, inputs: weight.size(1),
          outputs: weight.size(0))
      }
      return try LowRankAdapter.fused(adapters, into: weight).to(device, dtype)
    }
    func read() throws -> Tensor {
      let stored = try source.tensor(key)
      return try stored.to(device, stored.dtype.isFloatingPoint ? dtype : nil)
    }
    guard let loaded else { return try read() }
    return try loaded.tensor(key, of: source.name, dtype: dtype, device: device, read)
  }

  func fusedAdapters(of path: String) -> [LowRankAdapter] { given.placement == .fused ? given[path] : [] }

  /// The adapters that stay beside the weight.
  func adapters(of path: String, inputs: Int, outputs: Int) throws -> [LowRankAdapter] {
    var adapters = given.placement == .separate ? given[path] : []
    if let fresh, fresh.matches(path) {
      adapters.append(try fresh.make(inputs: inputs, outputs: outputs, device: device))
    }
    record.withLock { record in
      record.linears.append(path)
      for adapter in adapters {
        for (name, tensor) in [("lora_A", adapter.down), ("lora_B", adapter.up)] where tensor.requiresGrad {
          record.parameters.append(Parameter(key: "\(path).\(name).weight", tensor: tensor))
        }
      }
    }
    return adapters
  }

  func unusedAdapters() -> [String] {
    let built = Set(record.withLock { $0.linears })
    return given.paths.filter { !built.contains($0) }
  }

  func unmatchedTargets() -> [String] {
    let built = record.withLock { $0.linears }
    return (fresh?.targets ?? []).filter { target in
      !built.contains { FreshAdapters.matches($0, target: target) }
    }
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
