import CTorch

extension ProcessGroup {
  /// The operation that combines the ranks' values.
  public enum Reduction: Sendable {
    case sum, max

    var c: ct_reduction { self == .max ? CT_MAX : CT_SUM }
  }

  /// Replaces the tensors of each rank by their sum or maximum over the ranks, bit by bit the same
  /// on all of them.
  ///
  /// Small tensors are sent together, in `Bucket`s. The order of summation depends only on the
  /// shapes and the number of ranks, so a repeated run also gives the same bits.
  ///
  /// - Throws: `TorchError`: `.dtype` for dtypes that can't be summed (8-bit floats, int16, bool),
  ///   otherwise `.collective`.
  public func allReduce(_ tensors: [Tensor], _ reduction: Reduction = .sum) throws {
    for tensor in tensors where !Self.reducible.contains(tensor.dtype) {
      throw TorchError(
        .dtype, operation: "all_reduce", message: "ranks can't reduce \(tensor.dtype)")
    }
    guard let handle else { return }
    try announce("all_reduce \(reduction)", tensors)
    for bucket in Bucket.fill(tensors) {
      try bucket.exchange(on: exchangeDevice(of: bucket.device)) { flat in
        count(\.allReduce, flat.byteCount)
        try run(on: flat.device) { ct_all_reduce(handle, flat.handle, reduction.c, $0) }
      }
    }
  }

  /// The sums or maximums over the ranks of a few numbers, such as losses and counts.
  public func allReduce(_ numbers: [Double], _ reduction: Reduction = .sum) throws -> [Double] {
    let tensor = try Tensor(numbers)
    try allReduce([tensor], reduction)
    return try tensor.array()
  }

  /// Copies the elements of one rank's tensors to those of all others.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  public func broadcast(_ tensors: [Tensor], from root: Int = 0) throws {
    guard (0..<worldSize).contains(root) else {
      throw TorchError(
        .collective, operation: "broadcast",
        message: "rank \(root) is not among the \(worldSize) ranks")
    }
    guard let handle else { return }
    try announce("broadcast from \(root)", tensors)
    for bucket in Bucket.fill(tensors) {
      try bucket.exchange(on: exchangeDevice(of: bucket.device)) { flat in
        count(\.broadcast, flat.byteCount)
        try run(on: flat.device) { ct_broadcast(handle, flat.handle, Int32(root), $0) }
      }
    }
  }

  /// Returns one rank's bytes on all ranks.
  ///
  /// - Parameter bytes: Used on the root only.
  /// - Throws: `TorchError` of kind `.collective`.
  public func broadcast(bytes: [UInt8], from root: Int = 0) throws -> [UInt8] {
    guard handle != nil else { return bytes }
    let counts = try announce("broadcast bytes from \(root)", count: bytes.count)
    guard counts[root] > 0 else { return [] }
    let tensor =
      try rank == root ? Tensor(bytes) : Tensor.empty([counts[root]], dtype: .uint8)
    try broadcast([tensor], from: root)
    return try rank == root ? bytes : tensor.array()
  }

  /// The numbers of all ranks, in rank order, without the exchange that checks that all ranks do the
  /// same.
  ///
  /// - Precondition: All ranks have as many numbers.
  /// - Throws: `TorchError` of kind `.collective`.
  public func allGatherAlike(_ numbers: [Double]) throws -> [[Double]] {
    try gatherAlike(Tensor(numbers)).map { try $0.array() }
  }

  /// The tensors of all ranks, in rank order, on this tensor's device. In a group of one, the
  /// tensor itself.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  public func allGather(_ tensor: Tensor) throws -> [Tensor] {
    guard handle != nil else { return [tensor] }
    try announce("all_gather", [tensor])
    return try gatherAlike(tensor)
  }

  /// The bytes of all ranks, in rank order; their counts may differ. Meant for small objects.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  public func allGather(bytes: [UInt8]) throws -> [[UInt8]] {
    guard handle != nil else { return [bytes] }
    let lengths = try announce("all_gather bytes", count: bytes.count)
    let longest = lengths.max() ?? 0
    let padded = try Tensor(bytes + [UInt8](repeating: 0, count: longest - bytes.count))
    return try zip(gatherAlike(padded), lengths).map {
      Array(try $0.array(of: UInt8.self).prefix($1))
    }
  }

  /// Waits until all ranks have called this.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  public func barrier() throws {
    if let handle { try queue.sync { try check(ct_barrier(handle)) } }
  }

  /// Checks that all ranks are about to run the same operation, since Gloo ends the process if
  /// message lengths differ.
  ///
  /// - Returns: The counts of all ranks.
  @discardableResult
  private func announce(_ operation: String, _ tensors: [Tensor] = [], count: Int = 0) throws
    -> [Int]
  {
    let layout = tensors.map { "\($0.dtype) \($0.shape) \($0.device == .cpu)" }.joined(
      separator: ", ")
    let mine = [stableHash("\(operation): \(layout)"), count]
    let all: [[Int]] = try gatherAlike(Tensor(mine)).map { try $0.array() }
    if let other = all.firstIndex(where: { $0[0] != mine[0] }) {
      throw TorchError(
        .collective, operation: String(operation.prefix { $0 != " " }),
        message:
          "rank \(rank) is at \(operation) of \(tensors.count) tensors, rank \(other) at something else or at "
          + "tensors of other shapes; all ranks need the same configuration and files")
    }
    return all.map { $0[1] }
  }

  /// Gathers tensors that are known to have the same shape and dtype.
  private func gatherAlike(_ tensor: Tensor) throws -> [Tensor] {
    guard let handle, tensor.count > 0 else { return [Tensor](repeating: tensor, count: worldSize) }
    let mine = try tensor.detach().to(exchangeDevice(of: tensor.device)).contiguous()
    let all = try Tensor.empty([worldSize, mine.count], dtype: mine.dtype, device: mine.device)
    count(\.allGather, all.byteCount)
    try run(on: mine.device) { ct_all_gather(handle, mine.handle, all.handle, $0) }
    return try all.to(tensor.device).split(1).map { try $0.reshape(tensor.shape) }
  }

  /// The device that tensors are exchanged on.
  private func exchangeDevice(of device: Device) -> Device { backend == .nccl ? device : .cpu }

  /// Runs a collective of tensors on a device, after those that were started before.
  private func run(
    on device: Device, _ start: (UnsafeMutablePointer<OpaquePointer?>) -> ct_status
  ) throws {
    if device == .cpu {
      try queue.sync { try Work(start).wait() }
    } else {
      try Work(start).wait()
    }
  }

  /// The dtypes that both Gloo and NCCL can sum.
  private static let reducible: Set<DType> = [
    .float32, .float64, .float16, .bfloat16, .int32, .int64, .int8, .uint8,
  ]
}

/// FNV-1a, which is the same in every process, unlike `Hasher`.
private func stableHash(_ text: String) -> Int {
  let hash = text.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
    ($0 ^ UInt64($1)) &* 0x100_0000_01b3
  }
  return Int(bitPattern: UInt(hash))
}
