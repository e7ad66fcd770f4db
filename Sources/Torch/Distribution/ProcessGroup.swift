import CTorch
import Dispatch
import Foundation
import Synchronization

/// Processes that work on one job, and exchange tensors.
///
/// Every process calls the same collectives in the same order, with tensors of the same shapes and
/// dtypes; each call returns when this process's part is done or, with NCCL, queued, or starts it in
/// the background. If a call exceeds the timeout, or a peer has ended, it throws a `TorchError` of
/// kind `.collective`; with NCCL, a later call between CPUs throws it. After that, the group can't be
/// used, and the process should end.
///
/// A group of one process needs no store and exchanges nothing, so that code is the same for one
/// process and for many. `Sendable` is unchecked: the group may move between threads, but only one
/// thread at a time may make calls.
public final class ProcessGroup: @unchecked Sendable {
  /// The transport of the tensors.
  public enum Backend: String, CaseIterable, Sendable {
    /// TCP between CPUs. Tensors of GPUs travel through page-locked host memory.
    case gloo
    /// NCCL between GPUs. Tensors of the CPU travel by Gloo.
    case nccl
  }

  /// The time limits for waiting for other processes.
  public struct Timeouts: Equatable, Sendable {
    /// The limit until all processes have joined.
    public var joining: Duration
    /// The limit of one collective. It includes work that one process does while the others wait,
    /// such as saving or validating.
    public var collective: Duration

    public init(joining: Duration = .seconds(300), collective: Duration = .seconds(1800)) {
      (self.joining, self.collective) = (joining, collective)
    }
  }

  public let ranks: ProcessRanks
  /// The backend, which is the same on all ranks.
  public private(set) var backend = Backend.gloo
  /// The reason why GPUs exchange tensors through host memory, if that can be changed.
  public private(set) var limitation: String?
  /// The group in libtorch; nil in a group of one.
  let handle: OpaquePointer?
  /// Runs the collectives one after the other, in the order in which the calling thread started
  /// them, which is the same on all ranks.
  let queue = DispatchQueue(label: "collectives")
  let streams = Mutex<[Device: Stream]>([:])
  let counted = Mutex(Traffic())
  /// The groups of some of the ranks, in the order in which all ranks made theirs.
  let subgroups = Mutex<[ProcessGroup]>([])
  /// This process's device.
  let device: Device
  /// The store where the group met; nil in a group of one.
  let place: Rendezvous?

  public var rank: Int { ranks.rank }
  public var worldSize: Int { ranks.worldSize }
  public var localRank: Int { ranks.localRank }
  /// Whether this is the process that writes files and prints.
  public var isMain: Bool { rank == 0 }

  /// A group of only this process.
  public static let single = ProcessGroup()

  private init() {
    (ranks, handle, place, device) = (.single, nil, nil, .cpu)
  }

  /// The group that the launcher's environment describes (`ltx launch`, torchrun, srun); nil
  /// without a launcher. Waits for all processes.
  ///
  /// Reads LTX_COLLECTIVES, the name of the backend.
  ///
  /// - Parameter device: This process's device, which has been prepared.
  /// - Throws: `Issue` for a variable that is missing or out of range, or a backend that can't be
  ///   used, `TorchError` of kind `.collective` if the processes don't find each other.
  public static func fromEnvironment(
    _ environment: [String: String] = ProcessInfo.processInfo.environment, device: Device = .cpu,
    timeouts: Timeouts = Timeouts()
  ) throws -> ProcessGroup? {
    guard let ranks = try ProcessRanks(environment: environment) else { return nil }
    guard ranks.worldSize > 1 else { return .single }
    return try ProcessGroup(
      ranks, at: Rendezvous(environment: environment), device: device,
      backend: Backend(environment: environment), timeouts: timeouts)
  }

  /// Joins the group of all processes that meet at a rendezvous. Waits for them.
  ///
  /// - Parameters:
  ///   - device: This process's device, which has been prepared.
  ///   - backend: Nil for the fastest one that all ranks can use.
  /// - Throws: `TorchError` of kind `.collective` that says which ranks are missing, or why the
  ///   rendezvous can't be reached, `Issue` if a rank can't use the backend.
  public convenience init(
    _ ranks: ProcessRanks, at place: Rendezvous, device: Device = .cpu, backend: Backend? = nil,
    timeouts: Timeouts = Timeouts()
  ) throws {
    let store = try RendezvousStore(place, ranks: ranks, timeout: timeouts.joining)
    try self.init(
      ranks, meetingIn: store, device: device, backend: backend, timeouts: timeouts)
  }

  package init(
    _ ranks: ProcessRanks, meetingIn store: RendezvousStore, device: Device = .cpu,
    backend: Backend? = nil, timeouts: Timeouts
  ) throws {
    var handle: OpaquePointer?
    try check(
      ct_process_group_gloo(
        store.handle, store.place.host, Int32(ranks.rank), Int32(ranks.worldSize),
        timeouts.joining.milliseconds, timeouts.collective.milliseconds, &handle))
    (self.ranks, self.handle, place, self.device) = (ranks, handle, store.place, device)
    (self.backend, limitation) = try connect(device, backend, in: store)
    // Rank 0 serves the store, so it must not end before all others have read what they need.
    try barrier()
  }

  deinit {
    if let handle { ct_process_group_free(handle) }
  }
}
