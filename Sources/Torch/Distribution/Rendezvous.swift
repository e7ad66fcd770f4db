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
  /// If they are missing under Slurm, the address is the first machine of the step, and the port is
  /// computed from the job's number, so that all processes use the same one. If Open MPI runs all
  /// processes on one machine, the address is 127.0.0.1 and the port is `standardPort`.
  ///
  /// - Throws: `Issue` about a missing variable, with the way to set it for the launcher.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let variables = LaunchEnvironment(environment)
    let implied = Self.implied(by: variables)
    if let implied, !variables.has("MASTER_ADDR") {
      host = implied.host
    } else {
      host = try variables.text("MASTER_ADDR", orElse: Self.advice(for: variables))
    }
    if let implied, !variables.has("MASTER_PORT") {
      port = implied.port
    } else {
      port = try variables.number(
        "MASTER_PORT", in: 1...65535, "It is the port at which rank 0 listens.")
    }
    isServed = variables.variables["TORCHELASTIC_USE_AGENT_STORE"] == "True"
    let names = ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"]
    prefix = (["ltx"] + names.map { variables.variables[$0] ?? "0" }).joined(separator: "/")
  }

  /// The address that all processes of a launcher can derive from its variables; nil if they can't.
  private static func implied(by variables: LaunchEnvironment) -> (host: String, port: Int)? {
    let names = ProcessRanks.names(in: variables)
    if names?.rank == ProcessRanks.Names.slurm.rank {
      let list = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"].lazy.compactMap {
        variables.variables[$0]
      }
      guard let host = list.first.flatMap(SlurmNodeList.firstHost) else { return nil }
      return (host, slurmPort(variables.variables))
    }
    // All processes of Open MPI are on this machine.
    if names?.rank == ProcessRanks.Names.openMPI.rank,
      let local = variables.variables["OMPI_COMM_WORLD_LOCAL_SIZE"],
      local == variables.variables["OMPI_COMM_WORLD_SIZE"]
    {
      return ("127.0.0.1", standardPort)
    }
    return nil
  }

  /// torchrun's port, which is used if several machines must agree on one.
  public static let standardPort = 29500

  /// A port below those that Linux gives to connections, which differs between the steps that run
  /// at the same time on a machine.
  private static func slurmPort(_ variables: [String: String]) -> Int {
    let job = variables["SLURM_JOB_ID"].flatMap { Int($0) } ?? 0
    let step = variables["SLURM_STEP_ID"].flatMap { Int($0) } ?? 0
    return 10_000 + (abs(job % 1_000_000) * 31 + abs(step % 1_000_000)) % 20_000
  }

  private static func advice(for variables: LaunchEnvironment) -> String {
    switch ProcessRanks.names(in: variables)?.rank {
    case ProcessRanks.Names.slurm.rank:
      "srun sets no list of machines here. Add to the job script, before srun: "
        + "export MASTER_PORT=29500 MASTER_ADDR=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)"
    case ProcessRanks.Names.openMPI.rank:
      "Start with: mpirun -x MASTER_ADDR=<the machine of rank 0> -x MASTER_PORT=29500"
    case ProcessRanks.Names.hydra.rank:
      "Start with: mpirun -genv MASTER_ADDR <the machine of rank 0> -genv MASTER_PORT 29500"
    default: "Set it to the machine of rank 0, 127.0.0.1 if all ranks are on one."
    }
  }
}

/// Slurm's short form of a list of machines, such as `gpu[01-04,07],login`.
enum SlurmNodeList {
  /// The first machine of a list; nil for text that isn't a list.
  ///
  /// A name may have several brackets (`rack[1-2]node[01-08]`); the first machine has the first
  /// number of each.
  static func firstHost(of list: String) -> String? {
    var host = ""
    var rest = Substring(list)
    while let character = rest.first, character != "," {
      rest.removeFirst()
      guard character == "[" else {
        host.append(character)
        continue
      }
      guard let end = rest.firstIndex(of: "]") else { return nil }
      let first = rest[..<end].prefix { $0 != "-" && $0 != "," }
      guard !first.isEmpty else { return nil }
      host += first
      rest = rest[rest.index(after: end)...]
    }
    return host.isEmpty || host.contains(where: \.isWhitespace) ? nil : host
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

  func set(_ key: String, _ text: String) throws {
    try check(ct_store_set(handle, key, Array(text.utf8), text.utf8.count))
  }

  /// The text under a key; nil if the key is not set.
  func get(_ key: String) throws -> String? {
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    var count: Int64 = 0
    try check(ct_store_get(handle, key, &bytes, bytes.count, &count))
    return count < 0 ? nil : String(decoding: bytes.prefix(Int(count)), as: UTF8.self)
  }

  /// The text under a key; nil if the key is not set or the store can't be reached.
  func text(_ key: String) -> String? { try? get(key) }
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
