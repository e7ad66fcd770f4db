import CTorch
import Foundation
import Support

/// The address where the processes of a group meet: rank 0 serves a key-value store there.
public struct Rendezvous: Equatable, Sendable {
  /// The machine of rank 0.
  public var host: String
  public var port: Int
  /// Whether the store already exists, as with torchrun; rank 0 then connects to it like all
  /// others.
  public var isServed: Bool
  /// The prefix of the store's keys, so that a restarted group doesn't find those of the previous
  /// one.
  public var prefix: String

  public init(host: String, port: Int, isServed: Bool = false, prefix: String = "ltx") {
    (self.host, self.port, self.isServed, self.prefix) = (host, port, isServed, prefix)
  }

  /// Reads MASTER_ADDR and MASTER_PORT, and whether torchrun serves the store.
  ///
  /// - Throws: `Issue` about a missing variable; under Slurm, which sets neither, it includes the
  ///   line for the job script.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let variables = LaunchEnvironment(environment)
    let slurm = variables.has("SLURM_PROCID") && !variables.has("RANK")
    host = try variables.text(
      "MASTER_ADDR",
      orElse: slurm
        ? "srun does not set the address of rank 0. Add to the job script, before srun: "
          + "export MASTER_PORT=29500 MASTER_ADDR=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)"
        : "Set it to the machine of rank 0, 127.0.0.1 if all ranks are on one.")
    port = try variables.number(
      "MASTER_PORT", in: 1...65535, "It is the port at which rank 0 listens.")
    isServed = variables.variables["TORCHELASTIC_USE_AGENT_STORE"] == "True"
    prefix = "ltx/\(variables.variables["TORCHELASTIC_RESTART_COUNT"] ?? "0")"
  }
}

/// A process's connection to the store where a group meets. It is thread-safe.
package final class RendezvousStore: @unchecked Sendable {
  let handle: OpaquePointer
  package let place: Rendezvous

  /// - Parameter timeout: The time limit for reaching the store.
  /// - Throws: `TorchError` of kind `.collective`.
  package init(_ place: Rendezvous, ranks: ProcessRanks, timeout: Duration) throws {
    let listens = ranks.rank == 0 && !place.isServed
    var handle: OpaquePointer?
    do {
      try check(
        ct_store_connect(
          place.host, UInt16(place.port), listens, Int32(ranks.worldSize), place.prefix,
          timeout.milliseconds, &handle))
    } catch let error as TorchError where error.kind == .collective {
      let isTaken = error.message.contains("EADDRINUSE") || error.message.contains("already in use")
      let problem =
        !listens
        ? "rank \(ranks.rank) can't reach rank 0 at \(place.host):\(place.port); is it running there?"
        : isTaken
          ? "port \(place.port) is used by another program; set MASTER_PORT to a free one, the same for all ranks"
          : "rank 0 can't listen at \(place.host):\(place.port)"
      throw TorchError(
        .collective, operation: "rendezvous", message: "\(problem) (\(error.message))")
    }
    self.handle = handle!  // never nil after CT_OK
    var bound = place
    bound.port = Int(ct_store_port(handle))
    self.place = bound
  }

  deinit {
    ct_store_free(handle)
  }
}

extension Duration {
  /// At least one, because 0 would mean waiting without a limit.
  var milliseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1000)
    // A year is long enough, and fits into C++'s nanoseconds.
    return overflow
      ? 31_536_000_000 : min(max(product + attoseconds / 1_000_000_000_000_000, 1), 31_536_000_000)
  }
}
