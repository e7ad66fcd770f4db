import Foundation
import Support

/// Which of several processes this one is, as its launcher says in the environment.
public struct ProcessRanks: Equatable, Sendable {
  /// This process's number, from 0.
  public let rank: Int
  /// The number of processes.
  public let worldSize: Int
  /// The process's number on its machine, which chooses its GPU.
  public let localRank: Int

  /// A process of its own.
  public static let single = ProcessRanks(rank: 0, worldSize: 1, localRank: 0)

  /// - Precondition: 0 <= rank < worldSize and 0 <= localRank.
  public init(rank: Int, worldSize: Int, localRank: Int) {
    precondition(
      0 <= rank && rank < worldSize && localRank >= 0, "a rank is below the number of processes")
    (self.rank, self.worldSize, self.localRank) = (rank, worldSize, localRank)
  }

  /// Reads RANK, WORLD_SIZE and LOCAL_RANK, which `ltx launch`, torchrun and accelerate set; or
  /// else what srun sets: SLURM_PROCID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS, and SLURM_LOCALID.
  /// Nil where there are neither.
  ///
  /// - Throws: `Issue` for a variable that is missing or out of range.
  public init?(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let variables = LaunchEnvironment(environment)
    let names: (rank: String, size: String, local: String)
    if variables.has("RANK") || variables.has("WORLD_SIZE") {
      names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    } else {
      // The body of a job script that srun has not started has the job's numbers, and is one
      // process all the same.
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

/// Reads single variables of a launcher's.
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
      let most = range.upperBound == Int(Int32.max) ? "up" : "to \(range.upperBound)"
      throw Issue(
        [.name(name)],
        "must be an integer from \(range.lowerBound) \(most) in the environment (got \(text))",
        suggestion: meaning)
    }
    return number
  }
}
