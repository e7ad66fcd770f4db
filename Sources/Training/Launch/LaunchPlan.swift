import Foundation
import Glibc
import Support
import Torch

/// The processes to start on this machine, as with torchrun: copies of one command that get their
/// ranks from the environment.
public struct LaunchPlan: Sendable {
  /// The program and its arguments.
  public let executable: String
  public let arguments: [String]
  public let processesPerNode: Int
  public let nodes: Int
  public let nodeRank: Int
  /// The machine of rank 0, and the port that it will listen on.
  public let masterHost: String
  public private(set) var masterPort: Int
  /// How often all processes are started again after one failed.
  public let maxRestarts: Int
  /// How often they were started again.
  public private(set) var restarts = 0
  /// A name that keeps this job's processes from meeting those of another.
  public let jobName: String?
  /// The folder for the output of all ranks; nil to show it.
  public let logFolder: String?
  private let choosesPort: Bool

  /// - Parameters:
  ///   - command: a program and its arguments; a program without a slash is searched in PATH.
  ///   - masterHost: may be nil for one machine.
  ///   - masterPort: if nil, any free port for one machine, and `Rendezvous.standardPort` for several.
  ///   - maxRestarts: how often all processes are started again after one failed.
  ///   - jobName: keeps the processes from meeting those of another job.
  ///   - logFolder: the folder for the output of all ranks; nil to show it.
  /// - Throws: `Issue` under the name of the invalid parameter.
  public init(
    command: [String], processesPerNode: Int, nodes: Int = 1, nodeRank: Int = 0,
    masterHost: String? = nil, masterPort: Int? = nil, maxRestarts: Int = 0,
    jobName: String? = nil, logFolder: String? = nil,
    searchPath: String = ProcessInfo.processInfo.environment["PATH"] ?? ""
  ) throws {
    guard let program = command.first else {
      throw Issue(["command"], "is missing")
    }
    guard (1...1024).contains(processesPerNode) else {
      throw Issue(["processesPerNode"], "must be between 1 and 1024 (got \(processesPerNode))")
    }
    guard (1...65536).contains(nodes) else {
      throw Issue(["nodes"], "must be between 1 and 65536 (got \(nodes))")
    }
    guard (0..<nodes).contains(nodeRank) else {
      throw Issue(
        ["nodeRank"],
        "must be between 0 and \(nodes - 1), below the number of nodes (got \(nodeRank))")
    }
    if let masterPort, !(1...65535).contains(masterPort) {
      throw Issue(["masterPort"], "must be between 1 and 65535 (got \(masterPort))")
    }
    guard maxRestarts >= 0 else {
      throw Issue(["maxRestarts"], "must be 0 or more (got \(maxRestarts))")
    }
    guard masterHost != nil || nodes == 1 else {
      throw Issue(
        ["masterHost"], "is missing, but several machines need the address of the one with rank 0")
    }
    executable = try Self.find(program, in: searchPath)
    arguments = Array(command.dropFirst())
    (self.processesPerNode, self.nodes, self.nodeRank) = (processesPerNode, nodes, nodeRank)
    (self.maxRestarts, self.jobName, self.logFolder) = (maxRestarts, jobName, logFolder)
    self.masterHost = masterHost ?? "127.0.0.1"
    choosesPort = masterPort == nil && nodes == 1
    self.masterPort = try masterPort ?? (nodes > 1 ? Rendezvous.standardPort : Self.freePort())
  }

  public var worldSize: Int { nodes * processesPerNode }
  /// The ranks of the processes on this machine.
  public var ranks: Range<Int> { nodeRank * processesPerNode..<(nodeRank + 1) * processesPerNode }

  /// Prepares to start all processes again: they meet under other keys, and on one machine at
  /// another port, because the old one may still be closing.
  ///
  /// - Throws: `Issue` if no port is free.
  mutating func restart() throws {
    restarts += 1
    if choosesPort { masterPort = try Self.freePort() }
  }

  /// The folder for the output of a rank in this attempt; nil without `logFolder`.
  func logFolder(of rank: Int) -> String? {
    logFolder.map { "\($0)/attempt_\(restarts)/\(rank)" }
  }

  /// The environment of a process.
  ///
  /// - Parameter threads: the number of its threads, if several processes share the machine.
  public func environment(of rank: Int, base: [String: String], threads: Int) -> [String: String] {
    var variables = base
    // An outer torchrun's store is not ours.
    for name in base.keys where name.hasPrefix("TORCHELASTIC_") { variables[name] = nil }
    variables["RANK"] = "\(rank)"
    variables["WORLD_SIZE"] = "\(worldSize)"
    variables["LOCAL_RANK"] = "\(rank - ranks.lowerBound)"
    variables["LOCAL_WORLD_SIZE"] = "\(processesPerNode)"
    variables["GROUP_RANK"] = "\(nodeRank)"
    variables["MASTER_ADDR"] = masterHost
    variables["MASTER_PORT"] = "\(masterPort)"
    if let jobName { variables["TORCHELASTIC_RUN_ID"] = jobName }
    variables["TORCHELASTIC_RESTART_COUNT"] = "\(restarts)"
    variables["TORCHELASTIC_MAX_RESTARTS"] = "\(maxRestarts)"
    if processesPerNode > 1, base["OMP_NUM_THREADS"] == nil {
      variables["OMP_NUM_THREADS"] = "\(threads)"
    }
    return variables
  }

  private static func find(_ program: String, in searchPath: String) throws -> String {
    let candidates =
      program.contains("/")
      ? [program] : searchPath.split(separator: ":").map { "\($0)/\(program)" }
    for path in candidates
    where FileManager.default.isExecutableFile(atPath: path) && isFile(path) {
      return path
    }
    throw Issue(
      ["command", .file(program)],
      program.contains("/") ? "is not an executable program" : "is not a program in PATH")
  }

  /// Checks that no program listens at the port that rank 0 will listen at, if it runs on this
  /// machine.
  ///
  /// - Throws: `Issue` if one does.
  func requireFreePort() throws {
    guard ranks.contains(0) else { return }
    do {
      _ = try Self.bind(port: masterPort)
    } catch let failure where failure.number == EADDRINUSE {
      throw Issue(
        ["masterPort"], "\(masterPort) is used by another program",
        suggestion: nodes == 1
          ? "Choose another, or leave the option out for any free one."
          : "Choose another, the same on all machines.")
    } catch {
      // Rank 0 reports other problems when it listens.
    }
  }

  /// A port that is currently free.
  private static func freePort() throws -> Int {
    do {
      return try bind(port: 0)
    } catch {
      throw Issue(
        ["masterPort"], "no free port was found (\(describe(errno: error.number)))",
        suggestion: "Choose a port.")
    }
  }

  private struct SocketError: Error {
    let number: Int32
  }

  /// Opens a port for a moment.
  ///
  /// - Parameter port: 0 for any free one.
  private static func bind(port: Int) throws(SocketError) -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw SocketError(number: errno) }
    defer { close(descriptor) }
    // At a given port, connections of an earlier run may still be closing.
    var isReused: Int32 = port == 0 ? 0 : 1
    setsockopt(
      descriptor, SOL_SOCKET, SO_REUSEADDR, &isReused, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.bind(descriptor, $0, length) == 0 ? getsockname(descriptor, $0, &length) : -1
      }
    }
    guard status == 0 else { throw SocketError(number: errno) }
    return Int(UInt16(bigEndian: address.sin_port))
  }
}
