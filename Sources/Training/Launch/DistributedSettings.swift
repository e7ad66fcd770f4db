import Foundation
import Support
import Torch

/// The processes of a run and the treatment of its weights, from a file in the format of
/// `accelerate config`.
///
/// Launchers use the part that says which processes to start, and training uses the rest.
public struct DistributedSettings: Sendable {
  /// The kinds of jobs that can be run.
  enum Kind: String, CaseIterable, Sendable {
    case single = "NO"
    case gpus = "MULTI_GPU"
    case cpus = "MULTI_CPU"
    case fsdp = "FSDP"
  }

  /// The variable that tells launched processes the path of the file.
  public static let variable = "LTX_DISTRIBUTED_CONFIG"

  var kind = Kind.single
  /// The number of processes on all machines together; nil for one per GPU.
  public internal(set) var processes: Int?
  public internal(set) var machines = 1
  /// The number of this machine, from 0; nil if the file does not say.
  public internal(set) var machineRank: Int?
  /// The machine of rank 0, and its port.
  public internal(set) var masterHost: String?
  public internal(set) var masterPort: Int?
  /// The GPUs of each machine, in the form of CUDA_VISIBLE_DEVICES; nil for all.
  public internal(set) var gpus: String?
  /// Whether each process gets cores of its own; nil if the file does not say.
  public internal(set) var bindsCores: Bool?
  var usesCPU = false
  /// The mixed precision that the file asks for; nil if it does not say.
  var mixedPrecision: TrainingConfiguration.Acceleration.MixedPrecision?
  /// Whether the weights are divided among the ranks.
  var dividesWeights = false
  /// The number of ranks that share a copy of the weights; nil for all.
  var shardDegree: Int?
  var recomputesActivations = false
  var source = ConfigurationSource()

  /// The device that the file asks for; nil if it does not say.
  public var device: Device? {
    if usesCPU || kind == .cpus { return .cpu }
    return kind == .single ? nil : .cuda(0)
  }

  /// Notes about keys that have no effect, each with the file.
  public var notes: [String] { source.notices.map { "\(source.file): \($0)" } }

  func problem(_ key: String, _ message: String) -> ConfigurationProblems {
    ConfigurationProblems(
      file: source.file,
      problems: [.init(place: source.places[key], key: key, message: message)])
  }
}

// MARK: Launching

extension DistributedSettings {
  /// The number of processes on each machine; nil for one per GPU.
  ///
  /// - Parameter machines: the number of machines, which may differ from the file's.
  /// - Throws: `ConfigurationProblems` if the processes can't be divided among the machines, or if
  ///   there are fewer GPUs than processes in `gpu_ids`.
  public func processesPerMachine(machines: Int) throws -> Int? {
    let listed = gpus.map { $0.split(separator: ",").count }
    guard let processes else { return device == .cpu || kind == .single ? 1 : listed }
    guard processes % machines == 0 else {
      throw problem(
        "num_processes",
        "is \(processes), the number on all machines together, which can't be divided among "
          + "\(machines) machines. Use a multiple of \(machines)")
    }
    if let listed, listed < processes / machines, device != .cpu {
      throw problem(
        "gpu_ids",
        "lists \(listed) \(listed == 1 ? "GPU" : "GPUs"), but each machine has "
          + "\(processes / machines) processes. List one for each process")
    }
    return processes / machines
  }

  /// The number of GPUs of this machine, each of which gets a process.
  ///
  /// - Throws: `ConfigurationProblems` if the machine has no GPU.
  public func gpuCount() throws -> Int {
    let reason: String
    do {
      let count = try Device.cudaCount()
      if count > 0 { return count }
      reason = "this machine has no GPU that CUDA can use"
    } catch let error as TorchError {
      // The rest is advice about other options.
      reason = error.message.components(separatedBy: ". ")[0]
    }
    throw problem(
      "distributed_type",
      "is \(kind.rawValue), but \(reason). Use MULTI_CPU, or FSDP with use_cpu: true")
  }
}

// MARK: Training

extension DistributedSettings {
  /// The `--set` options that the file implies for a training configuration.
  ///
  /// - Throws: `ConfigurationProblems` if the configuration asks for another placement of weights.
  func overrides(for c: TrainingConfiguration) throws -> [String] {
    var overrides: [String] = []
    if dividesWeights {
      if !c.gives(.weightPlacement) {
        overrides.append("\(ConfigurationKey.weightPlacement.name)=sharded")
      } else if c.acceleration.weightPlacement != .sharded {
        throw c.problem(
          .weightPlacement,
          "is \(c.acceleration.weightPlacement.rawValue), but \(source.file) divides the weights "
            + "among the ranks. Remove the key, or use a file without FSDP")
      }
      if let shardDegree, c.acceleration.shardDegree == nil {
        overrides.append("\(ConfigurationKey.shardDegree.name)=\(shardDegree)")
      }
    }
    // Blocks with divided weights can't keep their activations.
    if dividesWeights || recomputesActivations, !c.gives(.gradientCheckpointing),
      c.acceleration.activations == nil
    {
      overrides.append("\(ConfigurationKey.gradientCheckpointing.name)=true")
    }
    return overrides
  }

  /// Notes about what the file changes in a training configuration, and where the configuration
  /// takes precedence.
  func trainingNotices(
    _ overrides: [String], _ c: TrainingConfiguration
  ) -> [ConfigurationNotice] {
    var notices = overrides.map { override in
      let parts = override.split(separator: "=").map(String.init)
      return ConfigurationNotice(
        place: nil, key: parts[0],
        message: "is \(parts[1]) because of \(source.file), as with --set \(override)")
    }
    let own = c.acceleration.mixedPrecisionMode ?? .no
    if let mixedPrecision, mixedPrecision != own {
      notices.append(
        ConfigurationNotice(
          place: nil, key: ConfigurationKey.mixedPrecision.name,
          message: "is \(own.rawValue), which is used; \(source.file) says "
            + mixedPrecision.rawValue))
    }
    return notices
  }
}
