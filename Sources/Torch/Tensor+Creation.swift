import CTorch

/// A Swift type whose arrays convert to tensors of the matching dtype and back.
public protocol TensorElement: BitwiseCopyable, Sendable {
  static var dtype: DType { get }
}

extension Float: TensorElement { public static var dtype: DType { .float32 } }
extension Double: TensorElement { public static var dtype: DType { .float64 } }
extension Int: TensorElement { public static var dtype: DType { .int64 } }
extension Int64: TensorElement { public static var dtype: DType { .int64 } }
extension Int32: TensorElement { public static var dtype: DType { .int32 } }
extension Int16: TensorElement { public static var dtype: DType { .int16 } }
extension Int8: TensorElement { public static var dtype: DType { .int8 } }
extension UInt8: TensorElement { public static var dtype: DType { .uint8 } }
extension Bool: TensorElement { public static var dtype: DType { .bool } }

extension Tensor {
  /// A CPU tensor with the given elements, the last dimension fastest; one dimension unless a shape
  /// is given.
  public convenience init<Element: TensorElement>(_ elements: [Element], shape: [Int]? = nil) throws
  {
    let shape = shape ?? [elements.count]
    guard bytesNeeded(for: shape, .uint8) == elements.count else {
      throw TorchError(
        .shape, operation: "tensor",
        message: "\(elements.count) elements don't fill the shape \(shape)")
    }
    self.init(
      owning: try elements.withUnsafeBytes {
        try copyHandle($0, dtype: Element.dtype, shape: shape)
      })
  }

  /// A CPU tensor with a copy of `bytes`, whose count must be that of the shape and dtype.
  public convenience init(copying bytes: UnsafeRawBufferPointer, dtype: DType, shape: [Int]) throws
  {
    guard bytesNeeded(for: shape, dtype) == bytes.count else {
      throw TorchError(
        .shape, operation: "tensor", message: "\(bytes.count) bytes don't fill \(shape) of \(dtype)"
      )
    }
    self.init(owning: try copyHandle(bytes, dtype: dtype, shape: shape))
  }

  /// A CPU tensor that is a view of memory which `owner` keeps alive; the owner is released with
  /// the tensor's storage.
  ///
  /// Only operations that end in an underscore write to the memory.
  ///
  /// - Parameter bytes: Aligned for `dtype`, with the byte count of the shape and dtype.
  public static func view(
    of bytes: UnsafeRawBufferPointer, dtype: DType, shape: [Int], owner: AnyObject
  ) throws -> Tensor {
    guard bytesNeeded(for: shape, dtype) == bytes.count else {
      throw TorchError(
        .shape, operation: "view", message: "\(bytes.count) bytes don't fill \(shape) of \(dtype)")
    }
    guard let address = bytes.baseAddress else { return try empty(shape, dtype: dtype) }
    let retained = Unmanaged.passRetained(owner)
    do {
      return try withIntegers(shape) { sizes, rank in
        try produce {
          ct_tensor_from_memory(
            UnsafeMutableRawPointer(mutating: address), dtype.c, sizes, rank, retained.toOpaque(),
            { Unmanaged<AnyObject>.fromOpaque($0!).release() }, $0)
        }
      }
    } catch {
      retained.release()
      throw error
    }
  }

  /// A tensor with uninitialized elements.
  public static func empty(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws
    -> Tensor
  {
    try withIntegers(shape) { sizes, rank in
      try produce { ct_empty(sizes, rank, dtype.c, device.c, $0) }
    }
  }

  public static func full(
    _ shape: [Int], _ value: Scalar, dtype: DType = .float32, device: Device = .cpu
  ) throws -> Tensor {
    try withIntegers(shape) { sizes, rank in
      try produce { ct_full(sizes, rank, value.c, dtype.c, device.c, $0) }
    }
  }

  public static func zeros(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws
    -> Tensor
  {
    try full(shape, 0, dtype: dtype, device: device)
  }

  public static func ones(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws
    -> Tensor
  {
    try full(shape, 1, dtype: dtype, device: device)
  }

  /// A tensor of no dimensions.
  public static func scalar(
    _ value: Double, dtype: DType = .float32, device: Device = .cpu
  ) throws -> Tensor {
    try full([], Scalar(value), dtype: dtype, device: device)
  }

  /// `start`, `start + step`, … below `end`.
  public static func arange(
    from start: Scalar = 0, to end: Scalar, step: Scalar = 1, dtype: DType = .int64,
    device: Device = .cpu
  ) throws -> Tensor {
    try produce { ct_arange(start.c, end.c, step.c, dtype.c, device.c, $0) }
  }

  /// `steps` evenly spaced numbers, including both ends.
  public static func linspace(
    from start: Double, to end: Double, steps: Int, dtype: DType = .float32, device: Device = .cpu
  ) throws -> Tensor {
    try produce { ct_linspace(start, end, Int64(steps), dtype.c, device.c, $0) }
  }

  public static func zeros(like other: Tensor) throws -> Tensor {
    try zeros(other.shape, dtype: other.dtype, device: other.device)
  }
}

extension Tensor {
  /// The elements in order, converted to `Element`.
  public func array<Element: TensorElement>(of type: Element.Type = Element.self) throws
    -> [Element]
  {
    let source = try to(Element.dtype)
    let total = source.count
    return try [Element](unsafeUninitializedCapacity: total) { buffer, count in
      try check(
        ct_tensor_copy_to(source.handle, buffer.baseAddress, total * MemoryLayout<Element>.stride))
      count = total
    }
  }

  /// The elements' bytes in order, in the tensor's own dtype.
  public func copyBytes(to destination: UnsafeMutableRawBufferPointer) throws {
    try check(ct_tensor_copy_to(handle, destination.baseAddress, destination.count))
  }

  /// Copies the elements' bytes into another tensor's memory. Both are contiguous and on the CPU.
  ///
  /// - Parameter offset: The first byte to write to.
  /// - Precondition: The bytes fit.
  public func copyBytes(to destination: Tensor, at offset: Int) throws {
    var address: UnsafeMutableRawPointer?
    try check(ct_tensor_data(destination.handle, &address))
    let memory = UnsafeMutableRawBufferPointer(start: address, count: destination.byteCount)
    try withExtendedLifetime(destination) {
      try withUnsafeBytes { bytes in
        UnsafeMutableRawBufferPointer(rebasing: memory[offset..<offset + bytes.count])
          .copyMemory(from: bytes)
      }
    }
  }

  /// Copies those of the elements' bytes that fall into another tensor's memory, and does not touch
  /// the others. Both are contiguous and on the CPU.
  ///
  /// - Parameter offset: The place of the first byte in that memory, negative if it is before it.
  public func copyOverlap(to destination: Tensor, at offset: Int) throws {
    let start = Swift.max(offset, 0)
    let end = Swift.min(offset + byteCount, destination.byteCount)
    guard start < end else { return }
    var address: UnsafeMutableRawPointer?
    try check(ct_tensor_data(destination.handle, &address))
    let memory = UnsafeMutableRawBufferPointer(start: address, count: destination.byteCount)
    try withExtendedLifetime(destination) {
      try withUnsafeBytes { bytes in
        UnsafeMutableRawBufferPointer(rebasing: memory[start..<end]).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: bytes[(start - offset)..<(end - offset)]))
      }
    }
  }

  /// Lends the elements' memory. The tensor must be contiguous and on the CPU.
  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    var address: UnsafeMutableRawPointer?
    try check(ct_tensor_data(handle, &address))
    return try withExtendedLifetime(self) {
      try body(UnsafeRawBufferPointer(start: address, count: byteCount))
    }
  }

  /// The value of a one-element tensor.
  public func item() throws -> Double {
    var value = 0.0
    try check(ct_tensor_item(handle, &value))
    return value
  }
}

/// The bytes of a tensor; nil if the shape is invalid or too large for any memory.
private func bytesNeeded(for shape: [Int], _ dtype: DType) -> Int? {
  var count = dtype.size
  for length in shape {
    let (product, overflow) = count.multipliedReportingOverflow(by: length)
    guard length >= 0, !overflow else { return nil }
    count = product
  }
  return count
}

/// A handle to a copy of the bytes, whose count the caller has checked.
private func copyHandle(_ bytes: UnsafeRawBufferPointer, dtype: DType, shape: [Int]) throws
  -> OpaquePointer
{
  var handle: OpaquePointer?
  try withIntegers(shape) { sizes, rank in
    try check(ct_tensor_copy_from(bytes.baseAddress, dtype.c, sizes, rank, &handle))
  }
  return handle!  // never nil after CT_OK
}
