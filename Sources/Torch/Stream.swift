import CTorch

/// A queue of work on a GPU.
///
/// The work of one stream runs in order. Two streams run at the same time unless an event orders
/// them: a copy on a stream of its own overlaps with the kernels of the default stream.
public final class Stream: @unchecked Sendable {
  private let handle: OpaquePointer

  /// A stream beside the default one.
  ///
  /// - Throws: `TorchError` of kind `.device` for the CPU, which has no streams.
  public init(on device: Device) throws {
    var handle: OpaquePointer?
    try check(ct_stream_new(device.c, &handle))
    self.handle = handle!  // never nil after CT_OK
  }

  private init(owning handle: OpaquePointer) { self.handle = handle }

  deinit { ct_stream_free(handle) }

  /// The stream on which the operations of this thread are queued.
  ///
  /// - Throws: `TorchError` of kind `.device` for the CPU.
  public static func current(on device: Device) throws -> Stream {
    var handle: OpaquePointer?
    try check(ct_stream_current(device.c, &handle))
    return Stream(owning: handle!)
  }

  /// The point after everything that has been queued on the stream.
  public func record() throws -> StreamEvent {
    var event: OpaquePointer?
    try check(ct_stream_record(handle, &event))
    return StreamEvent(owning: event!)
  }

  /// Makes the work that is queued from now on wait for an event of another stream. The host does
  /// not wait.
  public func wait(for event: StreamEvent) throws {
    try check(ct_stream_wait(handle, event.handle))
  }

  /// Makes the host wait for everything that has been queued.
  public func synchronize() throws { try check(ct_stream_synchronize(handle)) }

  /// Copies the elements of a tensor on this stream, in the background if the tensor on the host is
  /// in page-locked memory.
  ///
  /// - Precondition: Until the copy is done, the source is not changed, and both tensors exist.
  public func copy(_ source: Tensor, to destination: Tensor) throws {
    try check(ct_tensor_copy_on(handle, destination.handle, source.handle))
  }
}

/// A point in the work of a stream.
public final class StreamEvent: @unchecked Sendable {
  let handle: OpaquePointer

  init(owning handle: OpaquePointer) { self.handle = handle }

  deinit { ct_event_free(handle) }

  /// Whether the stream has passed the point.
  public var isDone: Bool {
    get throws { try produceBool { ct_event_is_done(handle, $0) } }
  }

  /// Makes the host wait until the stream has passed the point.
  public func synchronize() throws { try check(ct_event_synchronize(handle)) }
}

extension Tensor {
  /// Page-locked host memory, which a GPU copies from and to in the background: uint8, [count].
  ///
  /// - Throws: `TorchError` of kind `.device` if CUDA is not loaded.
  public static func pinnedBytes(_ count: Int) throws -> Tensor {
    try produce { ct_empty_pinned(Int64(count), $0) }
  }

  /// A view of bytes as a tensor of another dtype.
  ///
  /// - Precondition: The tensor is uint8 of one dimension, and the offset is a multiple of the
  ///   dtype's size.
  public func viewBytes(at offset: Int, as dtype: DType, shape: [Int]) throws -> Tensor {
    let shape = shape.map(Int64.init)
    return try produce {
      ct_tensor_view_bytes(handle, Int64(offset), dtype.c, shape, shape.count, $0)
    }
  }
}
