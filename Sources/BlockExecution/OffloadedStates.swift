import Torch

/// The inputs of blocks in page-locked host memory, from the forward to the backward pass.
///
/// Copies in both directions run on a stream of their own, beside the blocks. Events order them
/// with the kernels; the host never waits.
final class OffloadedStates<State: TensorBundle> {
  private let device: Device
  private let copies: Stream
  /// The tensors whose copies to the host may not be done yet.
  private var leaving: (tensors: [Tensor], end: StreamEvent)?

  /// An input in host memory.
  final class Item {
    /// Without its tensors on the device.
    private let state: State
    private let hosts: [Tensor]
    private let requiresGrad: [Bool]
    private var returning: (state: State, end: StreamEvent)?

    init(_ state: State, hosts: [Tensor]) {
      requiresGrad = state.tensors.map(\.requiresGrad)
      (self.state, self.hosts) = (state.replacing(hosts), hosts)
    }

    /// Starts to copy the input back.
    func prefetch(to device: Device, on copies: Stream) throws {
      guard returning == nil else { return }
      let tensors = try hosts.map { try Tensor.empty($0.shape, dtype: $0.dtype, device: device) }
      // The new memory may still be in use by work that is queued already.
      try copies.wait(for: Stream.current(on: device).record())
      for (host, tensor) in zip(hosts, tensors) { try copies.copy(host, to: tensor) }
      let leaves = try zip(tensors, requiresGrad).map { $1 ? try $0.asLeaf() : $0 }
      returning = (state.replacing(leaves), try copies.record())
    }

    /// The input on the device.
    func take(to device: Device, on copies: Stream) throws -> State {
      try prefetch(to: device, on: copies)
      defer { returning = nil }
      guard let returning else { return state }
      try Stream.current(on: device).wait(for: returning.end)
      return returning.state
    }
  }

  /// - Throws: `TorchError` for the CPU, which has no memory to offload from.
  init(device: Device) throws {
    self.device = device
    copies = try Stream(on: device)
  }

  /// Starts to copy an input to the host. Its memory on the device is free after the next call.
  func put(_ state: State) throws -> Item {
    try finishLeaving()
    try copies.wait(for: Stream.current(on: device).record())
    let tensors = try state.tensors.map { try $0.detach().contiguous() }
    let hosts = try tensors.map { tensor in
      let host = try Tensor.pinnedBytes(tensor.byteCount)
        .viewBytes(at: 0, as: tensor.dtype, shape: tensor.shape)
      try copies.copy(tensor, to: host)
      return host
    }
    leaving = (tensors, try copies.record())
    return Item(state, hosts: hosts)
  }

  func prefetch(_ item: Item) throws { try item.prefetch(to: device, on: copies) }

  func take(_ item: Item) throws -> State { try item.take(to: device, on: copies) }

  /// Lets go of the last state that was put. The device waits for its copy before the memory is
  /// used again.
  func finishLeaving() throws {
    if let leaving { try Stream.current(on: device).wait(for: leaving.end) }
    leaving = nil
  }
}
