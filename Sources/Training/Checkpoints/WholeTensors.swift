import NN
import Torch

/// Tensors by key, of which some are made only when they are asked for.
struct WholeTensors: Sendable {
  struct Layout: Sendable {
    let dtype: DType
    let shape: [Int]
  }
  let layouts: [String: Layout]
  private let load: @Sendable (String) throws -> Tensor

  init(_ tensors: [(key: String, tensor: Tensor)]) {
    let byKey = Dictionary(tensors.map { ($0.key, $0.tensor) }) { $1 }
    self.init(byKey.mapValues { Layout(dtype: $0.dtype, shape: $0.shape) }) { key in
      guard let tensor = byKey[key] else { preconditionFailure("no tensor \(key)") }
      return tensor
    }
  }

  /// - Parameter load: returns the tensor of a key of `layouts`, on any device.
  init(_ layouts: [String: Layout], load: @escaping @Sendable (String) throws -> Tensor) {
    (self.layouts, self.load) = (layouts, load)
  }

  var keys: [String] { layouts.keys.sorted() }

  /// Nil for a key that is not among the tensors.
  subscript(key: String) -> Tensor? {
    get throws { try layouts[key] == nil ? nil : load(key) }
  }

  func tensor(_ key: String) throws -> Tensor { try load(key) }
}

/// Gives the first rank whole tensors of which the ranks hold parts: one at a time, in any order, so
/// that no memory must hold all of them.
///
/// All ranks make the same exchange, with the same tensors.
struct PartExchange {
  private let group: ProcessGroup
  private var parts: [Part] = []

  private struct Part: Sendable {
    let tensor: Tensor
    let shard: Shard
  }

  /// - Parameter group: the ranks that hold the parts of one copy.
  init(_ group: ProcessGroup) { self.group = group }

  /// The whole tensors of some that may be divided. Inside `lead`, the first rank can use them.
  mutating func whole(
    _ tensors: [(key: String, tensor: Tensor, shard: Shard?)]
  ) -> WholeTensors {
    var layouts: [String: WholeTensors.Layout] = [:]
    var own: [String: (tensor: Tensor, number: Int?)] = [:]
    for (key, tensor, shard) in tensors {
      layouts[key] = .init(dtype: tensor.dtype, shape: shard?.shape ?? tensor.shape)
      own[key] = (tensor, shard == nil ? nil : parts.count)
      if let shard { parts.append(Part(tensor: tensor, shard: shard)) }
    }
    let (group, parts, found) = (group, parts, own)
    return WholeTensors(layouts) { key in
      guard let (tensor, number) = found[key] else { preconditionFailure("no tensor \(key)") }
      guard let number else { return try tensor.detach() }
      return try Self.gather(parts[number], number, group)
    }
  }

  /// Runs a closure on the first rank; the other ranks send the parts that it asks for.
  ///
  /// - Returns: the result or the error of the closure; nil on the other ranks.
  /// - Throws: `TorchError` of kind `.collective`.
  func lead<R>(_ body: () throws -> R) throws -> Result<R, any Error>? {
    guard group.isMain else {
      try serve()
      return nil
    }
    let result = Result { try body() }
    try Self.ask(Self.end, group)
    return result
  }

  private static let end = -1

  private func serve() throws {
    while true {
      let number = try Self.ask(0, group)
      if number == Self.end { return }
      _ = try Self.gatherParts(parts[number], group)
    }
  }

  /// The number of the part that the first rank asks for.
  @discardableResult
  private static func ask(_ number: Int, _ group: ProcessGroup) throws -> Int {
    Int(try group.allGatherAlike([Double(number)])[0][0])
  }

  private static func gather(_ part: Part, _ number: Int, _ group: ProcessGroup) throws -> Tensor {
    try ask(number, group)
    return try withoutGrad { try part.shard.whole(from: gatherParts(part, group)) }
  }

  /// The parts of all ranks, [ranks, elements].
  private static func gatherParts(_ part: Part, _ group: ProcessGroup) throws -> Tensor {
    try withoutGrad {
      let own = try part.tensor.detach().contiguous()
      let parts = try Tensor.empty(
        [part.shard.count, part.shard.partCount], dtype: own.dtype, device: own.device)
      try group.startAllGather(own, into: parts).wait()
      return parts
    }
  }
}
