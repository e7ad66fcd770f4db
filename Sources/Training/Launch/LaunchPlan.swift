import Foundation
import Support

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
  public let masterPort: Int

  /// torchrun's port, which is used if several machines must agree on one.
  public static let standardPort = 29500

  /// - Parameters:
  ///   - command: a program and its arguments; a program without a slash is searched in PATH.
  ///   - masterHost: may be nil for one machine.
  ///   - masterPort: if nil, any free port for one machine, and `standardPort` for several.
  /// - Throws: `Issue` under the name of the invalid parameter.
  public init(
    command: [String], processesPerNode: Int, nodes: Int = 1, nodeRank: Int = 0,
    masterHost: String? = nil,
    masterPort: Int? = nil, searchPath: String = ProcessInfo.processInfo.environment["PATH"] ?? ""
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
    guard masterHost != nil || nodes == 1 else {
      throw Issue(
        ["masterHost"], "is missing, but several machines need the address of the one with rank 0")
    }
    executable = try Self.find(program, in: searchPath)
    arguments = Array(command.dropFirst())
    (self.processesPerNode, self.nodes, self.nodeRank) = (processesPerNode, nodes, nodeRank)
    self.masterHost = masterHost ?? "127.0.0.1"
    self.masterPort = try masterPort ?? (nodes > 1 ? Self.standardPort : Self.freePort())
  }

  public var worldSize: Int { nodes * processesPerNode }
  /// The ranks of the processes on this machine.
  public var ranks: Range<Int> { nodeRank * processesPerNode..<(nodeRank + 1) * processesPerNode }

  /// The environment of a process.
  public func environment(of rank: Int, base: [String: String], processors: Int) -> [String: String]
  {
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
    if processesPerNode > 1, base["OMP_NUM_THREADS"] == nil {
      variables["OMP_NUM_THREADS"] = "\(max(processors / processesPerNode, 1))"
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

  /// A port that is currently free.
  private static func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else {
      throw Issue(["masterPort"], "no socket can be opened (\(describe(errno: errno)))")
    }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 ? getsockname(descriptor, $0, &length) : -1
      }
    }
    guard status == 0 else {
      throw Issue(
        ["masterPort"], "no free port was found (\(describe(errno: errno)))",
        suggestion: "Choose a port.")
    }
    return Int(UInt16(bigEndian: address.sin_port))
  }
}
