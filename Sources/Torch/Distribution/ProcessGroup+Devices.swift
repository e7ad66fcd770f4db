import CTorch
import Dispatch
import Foundation
import Support

/// The library that exchanges tensors between GPUs, `libCTorchCUDA.so`.
public enum GPUCollectives {
  /// Loads the library. CUDA must be loaded (`Device.prepare()`).
  ///
  /// - Returns: The implementation and its version, such as `NCCL 2.28.9`.
  /// - Throws: `TorchError` of kind `.io` that says why the library can't be used.
  @discardableResult
  public static func load() throws -> String {
    var name: UnsafePointer<CChar>?
    try check(ct_device_collectives_load(&name))
    return String(cString: name!)  // never nil after CT_OK
  }

  /// Runs each collective in a group of only one GPU, which needs all parts of the library to work.
  ///
  /// - Throws: `TorchError` that says what failed.
  public static func tryOut(on device: Device) throws {
    let ranks = ProcessRanks(rank: 0, worldSize: 1, localRank: 0)
    let limit = Duration.seconds(30)
    let store = try RendezvousStore(
      Rendezvous(host: "127.0.0.1", port: 0), ranks: ranks, timeout: limit)
    let group = try ProcessGroup(
      ranks, meetingIn: store, device: device, backend: .nccl,
      timeouts: .init(joining: limit, collective: limit))
    let numbers = (0..<1000).map(Float.init)
    let tensor = try Tensor(numbers).to(device)
    let (gathered, scattered) = (try Tensor.zeros(like: tensor), try Tensor.zeros(like: tensor))
    try group.startAllReduce(tensor).wait()
    try group.startAllGather(tensor, into: gathered).wait()
    try group.startReduceScatter(gathered, into: scattered).wait()
    guard try scattered.array(of: Float.self) == numbers else {
      throw TorchError(
        .collective, operation: "collectives", message: "the results are not those expected")
    }
  }
}

extension ProcessGroup.Backend {
  /// Reads LTX_COLLECTIVES; nil if it is not set.
  ///
  /// - Throws: `Issue` for a value that names no backend.
  init?(environment: [String: String]) throws {
    guard let text = environment["LTX_COLLECTIVES"] else { return nil }
    guard let backend = Self(rawValue: text) else {
      let names = Self.allCases.map(\.rawValue).joined(separator: " or ")
      throw Issue([.name("LTX_COLLECTIVES")], "must be \(names) in the environment (got \(text))")
    }
    self = backend
  }
}

extension ProcessGroup {
  /// Whether a rank can use NCCL.
  private struct Offer: Codable {
    let machine: String
    /// Whether the user asks for NCCL.
    let isRequired: Bool
    /// The reason why the rank does not use NCCL; nil if it does.
    let obstacle: String?
    /// Whether the user can remove the obstacle by building the library.
    let lacksLibrary: Bool

    init(_ device: Device, _ choice: Backend?) {
      machine = Host.name
      isRequired = choice == .nccl
      let failure = choice != .gloo && device != .cpu ? Self.failure() : nil
      lacksLibrary = failure != nil
      obstacle =
        choice == .gloo
        ? "LTX_COLLECTIVES is gloo" : device == .cpu ? "the device is the CPU" : failure
    }

    private static func failure() -> String? {
      do {
        try GPUCollectives.load()
        return nil
      } catch {
        return (error as? TorchError)?.message ?? describe(error)
      }
    }
  }

  /// Returns the backend that all ranks use. If it is NCCL, the GPUs are connected.
  ///
  /// - Parameter choice: The backend that the user asks this rank to use; nil for the fastest one.
  /// - Returns: The backend, and the reason why it is not NCCL if that can be changed.
  /// - Throws: `Issue` if a rank can't use NCCL and one is asked to, `TorchError` of kind
  ///   `.collective`.
  func connect(
    _ device: Device, _ choice: Backend?, in store: RendezvousStore
  ) throws -> (backend: Backend, limitation: String?) {
    let offers = try allGather(bytes: Array(JSON(encoding: Offer(device, choice)).data())).map {
      try JSON.decode(Offer.self, from: Data($0))
    }
    if let other = offers.firstIndex(where: { $0.obstacle != nil }) {
      let reason = "on rank \(other) (\(offers[other].machine)), \(offers[other].obstacle ?? "")"
      if offers.contains(where: \.isRequired) {
        throw Issue(
          [.name("LTX_COLLECTIVES")],
          "is nccl in the environment, but NCCL can't be used: \(reason)")
      }
      let isAvoidable = offers.allSatisfy { $0.obstacle == nil || $0.lacksLibrary }
      return (
        .gloo,
        isAvoidable ? "GPUs exchange tensors through host memory and not by NCCL: \(reason)" : nil
      )
    }
    do {
      try check(ct_process_group_connect(handle, store.handle, device.c))
    } catch let error as TorchError {
      throw TorchError(
        error.kind, operation: error.operation,
        message: "\(device) can't be connected to the GPUs of the other ranks: \(error.message). "
          + "LTX_COLLECTIVES=gloo exchanges tensors through host memory instead")
    }
    return (.nccl, nil)
  }

  /// Ends exchanges between GPUs that wait for other ranks, so that this process can end. The group
  /// can't be used after that.
  ///
  /// - Parameter limit: The maximum time that this takes.
  public func abort(within limit: Duration = .seconds(5)) {
    guard backend == .nccl else { return }
    let groups = [self] + subgroups.withLock(\.self)
    let done = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      // The process ends because of another error, which is reported.
      for group in groups { _ = ct_process_group_abort(group.handle) }
      done.signal()
    }
    _ = done.wait(timeout: .now() + .milliseconds(Int(limit.milliseconds)))
  }
}
