import CTorch
import Dispatch
import Synchronization

extension ProcessGroup {
  /// A collective that runs in the background.
  public final class Pending: Sendable {
    /// A collective between GPUs.
    private let work: Work?
    private let result = Mutex<Result<Void, any Error>?>(nil)
    private let done = DispatchSemaphore(value: 0)

    fileprivate init(_ work: Work? = nil) { self.work = work }

    fileprivate func finish(_ result: Result<Void, any Error>) {
      self.result.withLock { $0 = result }
      done.signal()
    }

    /// Makes this thread's next operations wait for the end. May be called again.
    ///
    /// The host does not wait if the GPUs exchange their tensors directly: only the current stream
    /// does, and a failure is thrown later, by a collective between CPUs.
    ///
    /// - Throws: `TorchError` of kind `.collective`.
    public func wait() throws {
      if let work { return try work.wait() }
      done.wait()
      done.signal()
      try result.withLock { $0 }?.get()  // set before the signal
    }
  }

  /// Starts to replace a contiguous tensor by its sum over the ranks. Until the end, nothing else may
  /// use it.
  ///
  /// - Precondition: The tensor has the same shape and dtype on all ranks.
  /// - Throws: `TorchError` if a GPU's stream can't be used.
  public func startAllReduce(_ tensor: Tensor) throws -> Pending {
    count(\.allReduce, tensor.byteCount)
    return try start(from: tensor, to: tensor) { group, _, tensor, work in
      ct_all_reduce(group, tensor.handle, CT_SUM, work)
    }
  }

  /// Starts to write the elements of all ranks' tensors, in rank order, to another tensor. Until the
  /// end, nothing else may use them.
  ///
  /// - Precondition: The tensors are contiguous; the first has the same shape and dtype on all ranks,
  ///   and the second as many elements for each rank.
  /// - Throws: `TorchError` if a GPU's stream can't be used.
  public func startAllGather(_ tensor: Tensor, into all: Tensor) throws -> Pending {
    precondition(all.count == tensor.count * worldSize, "a part for each rank")
    count(\.allGather, all.byteCount)
    return try start(from: tensor, to: all) { group, tensor, all, work in
      ct_all_gather(group, tensor.handle, all.handle, work)
    }
  }

  /// Starts to write the sum over the ranks of this rank's part of a tensor to another one. Until the
  /// end, nothing else may use them.
  ///
  /// - Precondition: The tensors are contiguous and have the same shapes and dtype on all ranks; the
  ///   first has as many elements as the second for each rank.
  /// - Throws: `TorchError` if a GPU's stream can't be used.
  public func startReduceScatter(_ all: Tensor, into part: Tensor) throws -> Pending {
    precondition(all.count == part.count * worldSize, "a part for each rank")
    count(\.reduceScatter, all.byteCount)
    return try start(from: all, to: part) { group, all, part, work in
      ct_reduce_scatter(group, all.handle, part.handle, work)
    }
  }

  /// Runs a collective after those that were started before. Tensors of GPUs that can't exchange
  /// them directly travel through page-locked host memory, on a stream beside the kernels.
  private func start(
    from input: Tensor, to output: Tensor,
    _ body:
      @escaping @Sendable (
        OpaquePointer, Tensor, Tensor, UnsafeMutablePointer<OpaquePointer?>
      ) -> ct_status
  ) throws -> Pending {
    if let handle, input.device != .cpu, backend == .nccl {
      return Pending(try Work { body(handle, input, output, $0) })
    }
    let pending = Pending()
    guard handle != nil else {
      if input !== output { try withoutGrad { try output.copy_(input) } }
      pending.finish(.success(()))
      return pending
    }
    let copies = try copyStream(of: input.device)
    let ready = copies == nil ? nil : try Stream.current(on: input.device).record()
    queue.async { [self] in
      pending.finish(
        Result {
          guard let handle else { return }
          guard let copies, let ready else {
            return try Work { body(handle, input, output, $0) }.wait()
          }
          let hostInput = try Tensor.pinned(like: input)
          let hostOutput = input === output ? hostInput : try Tensor.pinned(like: output)
          try copies.wait(for: ready)
          try copies.copy(input, to: hostInput)
          try copies.record().synchronize()
          try Work { body(handle, hostInput, hostOutput, $0) }.wait()
          try copies.copy(hostOutput, to: output)
          try copies.record().synchronize()
        })
    }
    return pending
  }

  /// The stream of copies between a GPU and the host; nil for the CPU.
  private func copyStream(of device: Device) throws -> Stream? {
    guard device != .cpu else { return nil }
    if let made = streams.withLock({ $0[device] }) { return made }
    let stream = try Stream(on: device)
    streams.withLock { $0[device] = stream }
    return stream
  }
}

/// A collective that libtorch runs.
final class Work: @unchecked Sendable {
  private let handle: OpaquePointer

  /// - Throws: The error of `start`, which starts the collective.
  init(_ start: (UnsafeMutablePointer<OpaquePointer?>) -> ct_status) throws {
    var handle: OpaquePointer?
    try check(start(&handle))
    self.handle = handle!  // never nil after CT_OK
  }

  deinit { ct_work_free(handle) }

  /// Makes the host wait for the end, or the current stream of a GPU.
  ///
  /// - Throws: `TorchError` of kind `.collective`.
  func wait() throws { try check(ct_work_wait(handle)) }
}

extension Tensor {
  /// Page-locked host memory of the same shape and dtype, with any contents.
  fileprivate static func pinned(like tensor: Tensor) throws -> Tensor {
    try pinnedBytes(tensor.byteCount).viewBytes(at: 0, as: tensor.dtype, shape: tensor.shape)
  }
}
