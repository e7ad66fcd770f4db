import Foundation

/// The part of a dataset that one of several processes works on: every `count`-th sample, from the `index`-th on.
public struct ProcessShare: Equatable, Sendable {
  public let index: Int
  public let count: Int
  /// The process's number on its machine, which chooses its GPU.
  public let localIndex: Int

  public static let whole = ProcessShare(index: 0, count: 1, localIndex: 0)

  init(index: Int, count: Int, localIndex: Int) {
    (self.index, self.count, self.localIndex) = (index, count, localIndex)
  }

  /// As the launcher says: torchrun and accelerate by RANK and WORLD_SIZE, Slurm's srun by SLURM_PROCID and
  /// SLURM_NTASKS. Outside of them, the whole.
  ///
  /// - Throws: `PreprocessingError` for numbers that make no sense.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let launchers = [
      ("RANK", ["WORLD_SIZE"], "LOCAL_RANK"),
      ("SLURM_PROCID", ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"], "SLURM_LOCALID"),
    ]
    for (rankName, countNames, localName) in launchers {
      // The body of a job script that srun has not started has the job's numbers, and is one process all the same.
      let isJobScript = environment["SLURM_JOB_ID"] != nil && environment["SLURM_STEP_NUM_TASKS"] == nil
      if rankName == "SLURM_PROCID", isJobScript { continue }
      guard let rank = environment[rankName],
        let countName = countNames.first(where: { environment[$0] != nil }),
        let count = environment[countName]
      else { continue }
      guard let index = Int(rank), let total = Int(count), total > 0, (0..<total).contains(index),
        let local = Int(environment[localName] ?? rank), local >= 0
      else {
        throw PreprocessingError(
          .option,
          "the environment says \(rankName)=\(rank) and \(countName)=\(count); "
            + "start each process with a rank from 0 up to the number of processes")
      }
      self.init(index: index, count: total, localIndex: local)
      return
    }
    self = .whole
  }

  func contains(_ sample: Int) -> Bool { sample % count == index }

  /// Of names of files that each process writes for itself: empty for a single one.
  public var suffix: String { count == 1 ? "" : "-\(index)-of-\(count)" }
}
