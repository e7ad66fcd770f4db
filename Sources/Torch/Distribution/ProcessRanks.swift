import Foundation
import Support

/// The rank of this process among the processes of a job, from the launcher's environment
/// variables.
public struct ProcessRanks: Equatable, Sendable {
  /// The rank of this process, from 0.
  public let rank: Int
  /// The number of processes.
  public let worldSize: Int
  /// The rank of the process on its machine, which determines its GPU.
  public let localRank: Int

  /// A single process.
  public static let single = ProcessRanks(rank: 0, worldSize: 1, localRank: 0)

  /// - Precondition: 0 <= rank < worldSize and 0 <= localRank.
  public init(rank: Int, worldSize: Int, localRank: Int) {
    precondition(
      0 <= rank && rank < worldSize && localRank >= 0, "a rank is below the number of processes")
    (self.rank, self.worldSize, self.localRank) = (rank, worldSize, localRank)
  }

  /// Reads RANK, WORLD_SIZE and LOCAL_RANK, which `ltx launch`, torchrun and accelerate set, or
  /// otherwise srun's variables: SLURM_PROCID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS, and
  /// SLURM_LOCALID. Nil if neither group is set.
  ///
  /// - Throws: `Issue` for a variable that is missing or out of range.
  public init?(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let variables = LaunchEnvironment(environment)
    let names: (rank: String, size: String, local: String)
    if variables.has("RANK") || variables.has("WORLD_SIZE") {
      names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    } else {
      // A job script has the job's variables outside of srun too, but is only one process.
      let isStep = variables.has("SLURM_STEP_NUM_TASKS")
      guard variables.has("SLURM_PROCID"), isStep || variables.has("SLURM_NTASKS"),
        isStep || !variables.has("SLURM_JOB_ID")
      else { return nil }
      names = ("SLURM_PROCID", isStep ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS", "SLURM_LOCALID")
    }
    let size = try variables.number(names.size, in: 1...Int(Int32.max), "the number of processes")
    let rank = try variables.number(
      names.rank, in: 0...(size - 1), "Ranks are below \(names.size)=\(size).")
    let local =
      variables.has(names.local)
      ? try variables.number(
        names.local, in: 0...Int(Int32.max), "It is the number of the process on its machine.")
      : rank
    self.init(rank: rank, worldSize: size, localRank: local)
  }
}

/// Reads a launcher's environment variables.
struct LaunchEnvironment {
  let variables: [String: String]

  init(_ variables: [String: String]) { self.variables = variables }

  func has(_ name: String) -> Bool { variables[name] != nil }

  func text(_ name: String, orElse advice: String) throws -> String {
    guard let text = variables[name], !text.isEmpty else {
      throw Issue(
        [.name(name)],
        variables[name] == nil ? "is not set in the environment" : "is empty in the environment",
        suggestion: advice)
    }
    return text
  }

  func number(_ name: String, in range: ClosedRange<Int>, _ meaning: String) throws -> Int {
    let text = try text(name, orElse: meaning)
    guard let number = Int(text), range.contains(number) else {
      let end = range.upperBound == Int(Int32.max) ? "up" : "to \(range.upperBound)"
      throw Issue(
        [.name(name)],
        "must be an integer from \(range.lowerBound) \(end) in the environment (got \(text))",
        suggestion: meaning)
    }
    return number
  }
}
