import CProcess
import Foundation

/// The cores of this machine, divided among the processes that a launcher starts.
///
/// A process whose GPU belongs to a NUMA node gets cores of that node, because copies between host
/// and GPU are fastest from there.
public struct CoreShares: Equatable, Sendable {
  /// The cores of each process, by local rank; empty if there are fewer cores than processes, which
  /// then share all of them.
  public let cores: [[Int]]
  /// The number of cores that all processes may use.
  public let available: Int

  /// - Parameters:
  ///   - available: the cores that this process may use.
  ///   - nodes: the cores of each NUMA node.
  ///   - gpuNodes: the NUMA node of each GPU; nil where it is unknown.
  public init(
    processes: Int, available: [Int], nodes: [Int: [Int]] = [:], gpuNodes: [Int?] = []
  ) {
    self.available = available.count
    guard processes > 1, available.count >= processes else {
      cores = []
      return
    }
    let allowed = Set(available)
    let local = (0..<processes).map { rank -> Int? in
      guard gpuNodes.count >= processes, let node = gpuNodes[rank], let cores = nodes[node]
      else { return nil }
      let ranks = (0..<processes).count { gpuNodes[$0] == node }
      return cores.count { allowed.contains($0) } >= ranks ? node : nil
    }
    // Either all processes have a node with enough cores, or none is bound to one.
    guard local.allSatisfy({ $0 != nil }) else {
      cores = Self.divide(available, among: processes)
      return
    }
    var shares = [[Int]](repeating: [], count: processes)
    for node in Set(local.compactMap(\.self)) {
      let ranks = local.indices.filter { local[$0] == node }
      let parts = Self.divide(
        (nodes[node] ?? []).filter(allowed.contains), among: ranks.count)
      for (rank, part) in zip(ranks, parts) { shares[rank] = part }
    }
    cores = shares
  }

  /// All processes use all cores.
  public static let none = CoreShares(processes: 1, available: availableCores())

  /// The shares on this machine.
  ///
  /// - Parameter usesGPUs: whether each process computes on a GPU of its own.
  public static func ofThisMachine(processes: Int, usesGPUs: Bool) -> CoreShares {
    CoreShares(
      processes: processes, available: availableCores(), nodes: numaNodes(),
      gpuNodes: usesGPUs ? gpuNodes() : [])
  }

  /// The number of threads for a process.
  public func threads(of localRank: Int, processes: Int) -> Int {
    cores.isEmpty ? max(available / processes, 1) : cores[localRank].count
  }

  /// Runs a closure that starts a process, which inherits the calling thread's cores.
  func binding<R>(_ localRank: Int, _ body: () throws -> R) rethrows -> R {
    guard !cores.isEmpty else { return try body() }
    let all = Self.availableCores()
    // A process that can't be bound still runs, on any core.
    _ = Self.bind(cores[localRank])
    defer { _ = Self.bind(all) }
    return try body()
  }

  private static func divide(_ cores: [Int], among count: Int) -> [[Int]] {
    (0..<count).map { part in
      Array(cores[part * cores.count / count..<(part + 1) * cores.count / count])
    }
  }

  /// The numbers of the cores that this process may use.
  public static func availableCores() -> [Int] {
    var cores = [Int32](repeating: 0, count: 4096)
    let count = cprocess_available_cores(&cores, Int32(cores.count))
    return count > 0 ? cores.prefix(Int(count)).map(Int.init) : []
  }

  private static func bind(_ cores: [Int]) -> Bool {
    cprocess_bind_thread(cores.map(Int32.init), Int32(cores.count)) == 0
  }

  /// The cores of each NUMA node, from Linux.
  private static func numaNodes() -> [Int: [Int]] {
    let folder = "/sys/devices/system/node"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    var nodes: [Int: [Int]] = [:]
    for name in names where name.hasPrefix("node") {
      guard let node = Int(name.dropFirst(4)),
        let list = FileManager.default.contents(atPath: "\(folder)/\(name)/cpulist")
      else { continue }
      nodes[node] = Self.cores(inList: String(decoding: list, as: UTF8.self))
    }
    return nodes
  }

  /// The NUMA node of each of NVIDIA's GPUs that CUDA may use, in the order of the bus; nil for one
  /// without a node.
  private static func gpuNodes() -> [Int?] {
    let addresses =
      (try? FileManager.default.contentsOfDirectory(atPath: "/proc/driver/nvidia/gpus")) ?? []
    let nodes: [Int?] = addresses.sorted().map { address in
      FileManager.default.contents(atPath: "/sys/bus/pci/devices/\(address.lowercased())/numa_node")
        .flatMap { Int(String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespaces)) }
        .flatMap { $0 >= 0 ? $0 : nil }
    }
    guard let visible = ProcessInfo.processInfo.environment["CUDA_VISIBLE_DEVICES"] else {
      return nodes
    }
    return visible.split(separator: ",").map { text in
      Int(text).flatMap { nodes.indices.contains($0) ? nodes[$0] : nil }
    }
  }

  /// Reads Linux's form of a list of cores, such as `0-3,8`.
  static func cores(inList list: String) -> [Int] {
    list.trimmingCharacters(in: .whitespacesAndNewlines).split(separator: ",").flatMap {
      part -> [Int] in
      let ends = part.split(separator: "-").compactMap { Int($0) }
      guard let first = ends.first, let last = ends.last, first <= last else { return [] }
      return Array(first...last)
    }
  }
}
