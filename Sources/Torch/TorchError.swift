import CTorch

/// A failure that libtorch reported, translated at the one exception boundary in `CTorch`.
public struct TorchError: Error, CustomStringConvertible, Sendable {
  /// The kind of failure, so that callers can react without reading the message.
  public enum Kind: Sendable {
    /// Memory ran out. Tensors are freed as the error propagates, so a smaller attempt may succeed.
    case outOfMemory
    /// Sizes, ranks, dimensions or indices that don't fit together.
    case shape
    /// A dtype that the operation does not accept.
    case dtype
    /// No such device, or tensors on different ones.
    case device
    /// No kernel for this device and dtype.
    case notImplemented
    /// A problem with a file or a memory map.
    case io
    /// A problem in a process group.
    case collective
    /// No graph to differentiate, or one already freed.
    case autograd
    /// Anything else.
    case runtime
  }

  public let kind: Kind
  /// The operation that failed, as libtorch names it: `matmul`, `add.Tensor`.
  public let operation: String
  /// libtorch's message, without its C++ backtrace.
  public let message: String

  public init(_ kind: Kind, operation: String, message: String) {
    self.kind = kind
    self.operation = operation
    self.message = message
  }

  public var description: String { "\(operation): \(message)" }
}

/// Turns a status into an error. Must be called on the thread that made the call, before another.
func check(_ status: ct_status) throws {
  guard status != CT_OK else { return }
  let kind: TorchError.Kind =
    switch status {
    case CT_OUT_OF_MEMORY: .outOfMemory
    case CT_SHAPE: .shape
    case CT_DTYPE: .dtype
    case CT_DEVICE: .device
    case CT_NOT_IMPLEMENTED: .notImplemented
    case CT_IO: .io
    case CT_COLLECTIVE: .collective
    case CT_AUTOGRAD: .autograd
    default: .runtime
    }
  throw TorchError(
    kind, operation: String(cString: ct_last_error_operation()),
    message: String(cString: ct_last_error()))
}

/// Runs a call that returns one tensor.
func produce(_ call: (UnsafeMutablePointer<OpaquePointer?>) -> ct_status) throws -> Tensor {
  var handle: OpaquePointer?
  try check(call(&handle))
  return Tensor(owning: handle!)  // never nil after CT_OK
}

func producePair(
  _ call: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<OpaquePointer?>) -> ct_status
) throws -> (Tensor, Tensor) {
  var first: OpaquePointer?
  var second: OpaquePointer?
  try check(call(&first, &second))
  return (Tensor(owning: first!), Tensor(owning: second!))
}

func produceList(
  _ call: (UnsafeMutablePointer<UnsafeMutablePointer<OpaquePointer?>?>, UnsafeMutablePointer<Int>)
    ->
    ct_status
) throws -> [Tensor] {
  var handles: UnsafeMutablePointer<OpaquePointer?>?
  var count = 0
  try check(call(&handles, &count))
  defer { ct_tensor_list_free(handles) }
  return (0..<count).map { Tensor(owning: handles![$0]!) }
}

func produceBool(_ call: (UnsafeMutablePointer<Bool>) -> ct_status) throws -> Bool {
  var value = false
  try check(call(&value))
  return value
}

// Passing Swift values to C. A missing value is a null pointer.

func withHandles<R>(
  _ tensors: [Tensor], _ body: (UnsafePointer<OpaquePointer?>, Int) throws -> R
) rethrows -> R {
  // never empty, so that it has an address
  let handles = tensors.map { Optional($0.handle) } + [nil]
  return try withExtendedLifetime(tensors) {
    try handles.withUnsafeBufferPointer { try body($0.baseAddress!, tensors.count) }
  }
}

func withIntegers<R>(_ values: [Int]?, _ body: (UnsafePointer<Int64>?, Int) throws -> R) rethrows
  -> R
{
  guard let values else { return try body(nil, 0) }
  // Int is 64 bits wide on every platform that libtorch supports.
  let integers = values.map(Int64.init) + [0]
  return try integers.withUnsafeBufferPointer { try body($0.baseAddress, values.count) }
}

func withPointer<T, R>(_ value: T?, _ body: (UnsafePointer<T>?) throws -> R) rethrows -> R {
  guard let value else { return try body(nil) }
  return try withUnsafePointer(to: value, body)
}
