import CTorch

extension ProcessGroup {
  /// What becomes of the ranks' numbers.
  public enum Reduction: Sendable {
    case sum, max

    var c: ct_reduction { self == .max ? CT_MAX : CT_SUM }
  }

  /// Writes the sum or maximum over the ranks to the tensors of each rank, which all get the same bits.
  ///
  /// Small tensors travel together, in `Bucket`s. The order of summation depends on the shapes and the number of ranks
  /// only, so a repeated run gives the same bits too.
  ///
  /// - Throws: `TorchError`: `.dtype` for element types that can't be summed (8-bit floats, int16, bool), else `.collective`.
  public func allReduce(_ tensors: [Tensor], _ reduction: Reduction = .sum) throws {
    for tensor in tensors where !Self.reducible.contains(tensor.dtype) {
      throw TorchError(.dtype, operation: "all_reduce", message: "ranks can't reduce \(tensor.dtype)")
    }
    guard let handle else { return }
    try Bucket.fill(tensors).forEach { bucket in
      try bucket.exchange { try check(ct_all_reduce(handle, $0.handle, reduction.c)) }
    }
  }

  /// The sums or maxima over the ranks of a few numbers, like losses and counts.
  public func allReduce(_ numbers: [Double], _ reduction: Reduction = .sum) throws -> [Double] {
    let tensor = try Tensor(numbers)
    try allReduce([tensor], reduction)
    return try tensor.array()
  }

  /// Writes the elements of one rank's tensors to those of all others.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  public func broadcast(_ tensors: [Tensor], from root: Int = 0) throws {
    guard (0..<worldSize).contains(root) else {
      throw TorchError(
        .collective, operation: "broadcast", message: "there is no rank \(root) among \(worldSize)")
    }
    guard let handle else { return }
    try Bucket.fill(tensors).forEach { bucket in
      try bucket.exchange { try check(ct_broadcast(handle, $0.handle, Int32(root))) }
    }
  }

  /// The tensors of all ranks, in the order of the ranks, on this tensor's device. In a group of one, the tensor itself.
  ///
  /// - Throws: `TorchError`: `.shape` if the ranks' shapes or element types are not the same, else `.collective`.
  public func allGather(_ tensor: Tensor) throws -> [Tensor] {
    guard handle != nil else { return [tensor] }
    let described = try allGather(bytes: Array("\(tensor.dtype) \(tensor.shape)".utf8))
    if let other = described.firstIndex(where: { $0 != described[rank] }) {
      throw TorchError(
        .shape, operation: "all_gather",
        message: "rank \(rank) has \(String(decoding: described[rank], as: UTF8.self)), "
          + "rank \(other) has \(String(decoding: described[other], as: UTF8.self))")
    }
    return try gatherAlike(tensor)
  }

  /// The bytes of all ranks, in the order of the ranks; they may differ in number. For small objects.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  public func allGather(bytes: [UInt8]) throws -> [[UInt8]] {
    guard handle != nil else { return [bytes] }
    let lengths: [Int] = try gatherAlike(Tensor([bytes.count])).flatMap { try $0.array() }
    let longest = lengths.max() ?? 0
    guard longest > 0 else { return lengths.map { _ in [] } }
    let padded = try Tensor(bytes + [UInt8](repeating: 0, count: longest - bytes.count))
    return try zip(gatherAlike(padded), lengths).map { Array(try $0.array(of: UInt8.self).prefix($1)) }
  }

  /// Waits until all ranks are here.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  public func barrier() throws {
    if let handle { try check(ct_barrier(handle)) }
  }

  /// Gathers tensors that are known to be of one shape and element type.
  private func gatherAlike(_ tensor: Tensor) throws -> [Tensor] {
    guard let handle, tensor.count > 0 else { return [Tensor](repeating: tensor, count: worldSize) }
    let mine = try tensor.detach().to(.cpu).contiguous()
    let all = try Tensor.empty([worldSize, mine.count], dtype: mine.dtype)
    try check(ct_all_gather(handle, mine.handle, all.handle))
    return try all.to(tensor.device).split(1).map { try $0.reshape(tensor.shape) }
  }

  /// What Gloo and NCCL both sum.
  private static let reducible: Set<DType> = [
    .float32, .float64, .float16, .bfloat16, .int32, .int64, .int8, .uint8,
  ]
}

/// Tensors of one element type and device that travel as one, since each call costs a round trip.
struct Bucket {
  /// In the caller's order.
  private(set) var tensors: [Tensor] = []
  private(set) var byteCount = 0

  /// Bounds the memory that flattened copies take.
  static let capacity = 64 << 20

  /// Sorts tensors into buckets. Ranks that have tensors of the same shapes, types and devices get the same buckets.
  static func fill(_ tensors: [Tensor], capacity: Int = capacity) -> [Bucket] {
    struct Kind: Hashable {
      let dtype: DType
      let device: Device
    }
    var full: [Bucket] = []
    var open: [(kind: Kind, bucket: Bucket)] = []
    for tensor in tensors where tensor.count > 0 {
      let kind = Kind(dtype: tensor.dtype, device: tensor.device)
      let slot =
        open.firstIndex { $0.kind == kind }
        ?? {
          open.append((kind, Bucket()))
          return open.count - 1
        }()
      if !open[slot].bucket.tensors.isEmpty, open[slot].bucket.byteCount + tensor.byteCount > capacity {
        full.append(open[slot].bucket)
        open[slot].bucket = Bucket()
      }
      open[slot].bucket.tensors.append(tensor)
      open[slot].bucket.byteCount += tensor.byteCount
    }
    return full + open.map(\.bucket)
  }

  /// Lets `body` change a contiguous CPU tensor of all elements, and writes them back.
  func exchange(_ body: (Tensor) throws -> Void) throws {
    try withoutGrad {
      if tensors.count == 1, tensors[0].isContiguous, tensors[0].device == .cpu {
        return try body(tensors[0])
      }
      let flat = try Tensor.cat(tensors.map { try $0.reshape([-1]) }).to(.cpu)
      try body(flat)
      for (tensor, part) in zip(tensors, try flat.split(sizes: tensors.map(\.count))) {
        try tensor.copy_(part.reshape(tensor.shape))
      }
    }
  }
}
