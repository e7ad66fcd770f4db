/// Tensors of one dtype and device that are sent together, since each call costs a round trip.
struct Bucket {
  /// In the caller's order.
  private(set) var tensors: [Tensor] = []
  private(set) var byteCount = 0

  /// The maximum size in bytes. It limits the memory of flattened copies, and is small enough for
  /// malloc to reuse that memory.
  static let capacity = 16 << 20

  /// Sorts tensors into buckets. If tensors have the same shapes, dtypes and devices on all ranks,
  /// so do the buckets.
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
      if !open[slot].bucket.tensors.isEmpty,
        open[slot].bucket.byteCount + tensor.byteCount > capacity
      {
        full.append(open[slot].bucket)
        open[slot].bucket = Bucket()
      }
      open[slot].bucket.tensors.append(tensor)
      open[slot].bucket.byteCount += tensor.byteCount
    }
    return full + open.map(\.bucket)
  }

  /// The device of the tensors.
  var device: Device { tensors[0].device }

  /// Calls `body` with one contiguous tensor of all elements, and writes its changes back.
  ///
  /// - Parameter device: The device of that tensor, the bucket's or the CPU.
  func exchange(on device: Device, _ body: (Tensor) throws -> Void) throws {
    try withoutGrad {
      if tensors.count == 1, tensors[0].isContiguous, tensors[0].device == device {
        return try body(tensors[0])
      }
      let flat = try Tensor.cat(tensors.map { try $0.reshape([-1]) }).to(device)
      try body(flat)
      for (tensor, part) in zip(tensors, try flat.split(sizes: tensors.map(\.count))) {
        try tensor.copy_(part.reshape(tensor.shape))
      }
    }
  }
}
