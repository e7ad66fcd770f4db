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
  /// The number of processes on this machine; nil if the launcher does not tell.
  public let localSize: Int?
  /// The variable of the local rank if the launcher has not set it; the local rank is then 0.
  public let missingVariable: String?

  /// A single process.
  public static let single = ProcessRanks(rank: 0, worldSize: 1, localRank: 0)

  /// - Precondition: 0 <= rank < worldSize and 0 <= localRank.
  public init(
    rank: Int, worldSize: Int, localRank: Int, localSize: Int? = nil,
    missingVariable: String? = nil
  ) {
    precondition(
      0 <= rank && rank < worldSize && localRank >= 0, "a rank is below the number of processes")
    (self.rank, self.worldSize, self.localRank) = (rank, worldSize, localRank)
    (self.localSize, self.missingVariable) = (localSize, missingVariable)
  }

  /// The variables of one kind of launcher.
  struct Names: Sendable {
    let rank, worldSize, localRank, localSize: String

    /// `ltx launch`, torchrun, accelerate, PyTorchJob.
    static let torch = Names(
      rank: "RANK", worldSize: "WORLD_SIZE", localRank: "LOCAL_RANK",
      localSize: "LOCAL_WORLD_SIZE")
    /// `mpirun` of Open MPI.
    static let openMPI = Names(
      rank: "OMPI_COMM_WORLD_RANK", worldSize: "OMPI_COMM_WORLD_SIZE",
      localRank: "OMPI_COMM_WORLD_LOCAL_RANK", localSize: "OMPI_COMM_WORLD_LOCAL_SIZE")
    /// `mpirun` of MPICH and Intel MPI (Hydra).
    static let hydra = Names(
      rank: "PMI_RANK", worldSize: "PMI_SIZE", localRank: "MPI_LOCALRANKID",
      localSize: "MPI_LOCALNRANKS")
    static let slurmStep = Names(
      rank: "SLURM_PROCID", worldSize: "SLURM_STEP_NUM_TASKS", localRank: "SLURM_LOCALID",
      localSize: "SLURM_NTASKS_PER_NODE")
    static let slurm = Names(
      rank: "SLURM_PROCID", worldSize: "SLURM_NTASKS", localRank: "SLURM_LOCALID",
      localSize: "SLURM_NTASKS_PER_NODE")
  }

  /// The variables that the launcher of this process has set, or nil without a launcher.
  ///
  /// torchrun may run under another launcher, and `mpirun` inside a Slurm job, so that the innermost
  /// one decides.
  static func names(in variables: LaunchEnvironment) -> Names? {
    if variables.has("RANK") || variables.has("WORLD_SIZE") { return .torch }
    for names in [Names.openMPI, .hydra] where variables.has(names.rank) {
      // srun with a PMI plugin sets PMI_RANK too. Slurm's own variables say more.
      if names.rank == Names.hydra.rank, variables.has("SLURM_STEP_NUM_TASKS") { continue }
      return names
    }
    // A job script has the job's variables outside of srun too, but is only one process.
    if variables.has("SLURM_PROCID") {
      if variables.has("SLURM_STEP_NUM_TASKS") { return .slurmStep }
      if variables.has("SLURM_NTASKS"), !variables.has("SLURM_JOB_ID") { return .slurm }
    }
    return nil
  }

  /// Reads the variables of `ltx launch`, torchrun, accelerate and PyTorchJob (RANK, WORLD_SIZE,
  /// LOCAL_RANK), of `mpirun`, or of srun. Nil if none of them are set.
  ///
  /// A launcher that sets no local rank starts one process per machine or container, so that the
  /// local rank is 0.
  ///
  /// - Throws: `Issue` for a variable that is missing or out of range.
  public init?(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let variables = LaunchEnvironment(environment)
    guard let names = Self.names(in: variables) else { return nil }
    let size = try variables.number(
      names.worldSize, in: 1...Int(Int32.max), "It is the number of processes.")
    let rank = try variables.number(
      names.rank, in: 0...(size - 1), "Ranks are below \(names.worldSize)=\(size).")
    // Other launchers give it in forms that are not one number, such as Slurm's `2(x3)`.
    var localSize = variables.variables[names.localSize].flatMap { Int($0) }
    var lastLocal = Int(Int32.max)
    if names.rank == Names.torch.rank, variables.has(names.localSize) {
      let count = try variables.number(
        names.localSize, in: 1...size,
        "It is the number of processes on this machine, of \(names.worldSize)=\(size) in all.")
      (localSize, lastLocal) = (count, count - 1)
    }
    let local =
      variables.has(names.localRank)
      ? try variables.number(
        names.localRank, in: 0...lastLocal, "It is the number of the process on its machine.")
      : 0
    self.init(
      rank: rank, worldSize: size, localRank: local,
      localSize: localSize,
      missingVariable: variables.has(names.localRank) ? nil : names.localRank)
  }

  /// The GPU of this process, by its number on its machine.
  ///
  /// A launcher may show each process only its own GPU, as `srun --gpus-per-task=1` does.
  ///
  /// - Throws: `Issue` if the machine has more processes than GPUs, or if the launcher does not say
  ///   which of several GPUs to use; `TorchError` without CUDA.
  public func gpu() throws -> Device {
    try gpu(of: Device.cudaCount())
  }

  /// - Parameter count: the number of GPUs that this process can see.
  func gpu(of count: Int) throws -> Device {
    guard count > 1 else { return .cuda(0) }
    if let missingVariable {
      throw Issue(
        [.name(missingVariable)],
        "is not set in the environment, so that this rank does not know which of \(count) GPUs is "
          + "its own",
        suggestion: "Set it to the number of the process on its machine, or show each process one "
          + "GPU by CUDA_VISIBLE_DEVICES.")
    }
    guard localRank < count else {
      throw Issue(
        ["device"],
        "has no GPU for process \(localRank) of this machine, counted from 0: there are \(count)",
        suggestion: "Start at most \(count) processes on each machine.")
    }
    return .cuda(localRank)
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
