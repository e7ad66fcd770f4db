import CTorch

/// A multidimensional array in libtorch's memory.
///
/// A tensor owns one handle and frees it with its last reference. Every operation throws: a
/// `TorchError` distinguishes a bad shape, a bad dtype and exhausted memory, and one `try` covers a
/// whole expression.
///
/// Operations that end in an underscore write to the tensor; all others leave it unchanged, though
/// their result may be a view of the same memory. Several threads may read one tensor, but writing
/// needs a single owner, which the compiler can't check; hence `@unchecked Sendable`.
public final class Tensor: @unchecked Sendable {
  let handle: OpaquePointer

  init(owning handle: OpaquePointer) {
    self.handle = handle
  }

  deinit {
    ct_tensor_free(handle)
  }

  /// The size of each dimension.
  public var shape: [Int] {
    let rank = Int(ct_tensor_dim(handle))
    return [Int](unsafeUninitializedCapacity: rank) { buffer, count in
      buffer.withMemoryRebound(to: Int64.self) { ct_tensor_sizes(handle, $0.baseAddress) }
      count = rank
    }
  }

  /// The number of elements to step over for each dimension.
  public var strides: [Int] {
    let rank = Int(ct_tensor_dim(handle))
    return [Int](unsafeUninitializedCapacity: rank) { buffer, count in
      buffer.withMemoryRebound(to: Int64.self) { ct_tensor_strides(handle, $0.baseAddress) }
      count = rank
    }
  }

  /// The number of dimensions.
  public var rank: Int { Int(ct_tensor_dim(handle)) }

  /// The number of elements.
  public var count: Int { Int(ct_tensor_numel(handle)) }

  /// The size of one dimension; negative ones count from the end.
  ///
  /// - Precondition: The tensor has that dimension.
  public func size(_ dimension: Int) -> Int {
    let shape = shape
    return shape[dimension < 0 ? dimension + shape.count : dimension]
  }

  /// The dtype of the elements.
  public var dtype: DType {
    guard let dtype = DType(ct_dtype(rawValue: numericCast(ct_tensor_dtype(handle)))) else {
      preconditionFailure("libtorch made a tensor of a dtype that Torch does not offer")
    }
    return dtype
  }

  public var device: Device { Device(ct_tensor_device(handle)) }
  public var isContiguous: Bool { ct_tensor_is_contiguous(handle) }
  /// The size of the elements in bytes, even if other tensors share them.
  public var byteCount: Int { count * dtype.size }
  public func sharesStorage(with other: Tensor) -> Bool {
    ct_tensor_shares_storage(handle, other.handle)
  }

  /// The same values with another dtype; the tensor itself if it already has that dtype.
  public func to(_ dtype: DType) throws -> Tensor {
    if self.dtype == dtype { return self }
    return try produce { ct_tensor_to(handle, dtype.c, device.c, false, false, $0) }
  }

  /// Whether all elements are finite.
  public func isAllFinite() throws -> Bool {
    guard dtype.isFloatingPoint, count > 0 else { return true }
    // libtorch doesn't compute in 8 bits.
    return try (dtype.size == 1 ? to(.float32) : self).abs().amax().isFinite().item() != 0
  }

  /// The same values on another device, and with another dtype if one is given.
  ///
  /// - Parameter nonBlocking: Lets a copy from pinned host memory run in the background.
  public func to(_ device: Device, _ dtype: DType? = nil, nonBlocking: Bool = false) throws
    -> Tensor
  {
    let target = dtype ?? self.dtype
    if self.device == device && self.dtype == target { return self }
    return try produce { ct_tensor_to(handle, target.c, device.c, nonBlocking, false, $0) }
  }

  /// The same values on another device. The host does not wait for a copy to a GPU, which runs in
  /// the background from page-locked memory.
  ///
  /// - Precondition: A tensor that is in page-locked memory is not changed in place afterwards.
  public func uploaded(to device: Device, _ dtype: DType? = nil) throws -> Tensor {
    guard self.device == .cpu, device != .cpu else { return try to(device, dtype) }
    return try contiguous().pinned().to(device, dtype, nonBlocking: true)
  }
}

extension Tensor {
  /// Moves the elements to another device, for all references to this tensor. Views of its memory
  /// stay on the old device and keep that memory.
  ///
  /// - Throws: `TorchError` if the tensor requires gradients or the device lacks memory; the tensor
  ///   is unchanged then.
  public func move(to device: Device) throws { try check(ct_tensor_move(handle, device.c)) }
}

extension Tensor: CustomStringConvertible {
  public var description: String { "Tensor(\(shape), \(dtype), \(device))" }
}

/// A number as an operand. Integers remain integers, so that integer tensors do too.
public struct Scalar: ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, Sendable {
  let c: ct_scalar

  public init(_ value: Double) { c = ct_scalar(is_integer: false, integer: 0, real: value) }
  public init(_ value: Int) { c = ct_scalar(is_integer: true, integer: Int64(value), real: 0) }
  public init(integerLiteral value: Int) { self.init(value) }
  public init(floatLiteral value: Double) { self.init(value) }
}

extension Tensor {
  public static func + (a: Tensor, b: Tensor) throws -> Tensor { try a.adding(b) }
  public static func - (a: Tensor, b: Tensor) throws -> Tensor { try a.subtracting(b) }
  public static func * (a: Tensor, b: Tensor) throws -> Tensor { try a.multiplied(by: b) }
  public static func / (a: Tensor, b: Tensor) throws -> Tensor { try a.divided(by: b) }

  public static func + (a: Tensor, b: Double) throws -> Tensor { try a.adding(Scalar(b)) }
  public static func - (a: Tensor, b: Double) throws -> Tensor { try a.adding(Scalar(-b)) }
  public static func * (a: Tensor, b: Double) throws -> Tensor { try a.multiplied(by: Scalar(b)) }
  public static func / (a: Tensor, b: Double) throws -> Tensor { try a.divided(by: Scalar(b)) }
  public static func + (a: Double, b: Tensor) throws -> Tensor { try b.adding(Scalar(a)) }
  public static func - (a: Double, b: Tensor) throws -> Tensor { try b.subtracted(from: Scalar(a)) }
  public static func * (a: Double, b: Tensor) throws -> Tensor { try b.multiplied(by: Scalar(a)) }
  public static prefix func - (a: Tensor) throws -> Tensor { try a.negated() }
}
