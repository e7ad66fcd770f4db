// The keys of Accelerate's configuration files (`ClusterConfig` of accelerate 1.x).

import Foundation
import Support

extension DistributedSettings {
  /// Loads a file and checks all of it.
  ///
  /// - Throws: `ConfigurationProblems` with all problems, each with its line: unknown keys, wrong
  ///   values, and what does not exist here, such as DeepSpeed.
  public init(path: String) throws {
    try self.init(yaml: ConfigurationParser.text(ofFile: path), file: path)
  }

  /// - Parameter file: the name for messages.
  init(yaml: String, file: String) throws {
    let (entries, _) = try TrainingConfiguration.entries(yaml, file)
    let reading = ConfigurationReading(
      file: file, checksPaths: false, suggestsTrainingKeys: false)
    let reader = SectionReader(entries, path: "", place: .text(line: 1, column: 1), reading)
    // The other keys of a SageMaker file have other meanings.
    if !reader.has("compute_environment")
      || reader.read("compute_environment", .computeEnvironment) != nil
    {
      read(reader)
      if reading.problems.isEmpty { check(reader) }
      reader.finish()
    }
    source = reading.source
    guard reading.problems.isEmpty else {
      throw ConfigurationProblems(file: file, problems: reading.problems.inOrder)
    }
  }

  /// Keys that have no effect, because this program does the same in another way or not at all.
  private static let unusedKeys = [
    "command_file", "commands", "debug", "deepspeed_config", "downcast_bf16", "fp16", "fp8_config",
    "ipex_config", "main_training_function", "megatron_lm_config", "mpirun_config", "same_network",
    "tp_config", "tpu_env", "tpu_name", "tpu_use_cluster", "tpu_use_sudo", "tpu_vm", "tpu_zone",
  ]

  private mutating func read(_ reader: SectionReader) {
    kind = reader.required("distributed_type", .distributedType) ?? .single
    processes = reader.read("num_processes", .processCount) ?? nil
    machines = reader.read("num_machines", .integer(1...65536)) ?? 1
    machineRank = reader.read("machine_rank", .integer(0...65535))
    masterHost = reader.read("main_process_ip", .optional(.nonEmpty)) ?? nil
    masterPort = reader.read("main_process_port", .optional(.integer(1...65535))) ?? nil
    mixedPrecision = reader.read("mixed_precision", .accelerateMixedPrecision) ?? nil
    usesCPU = reader.read("use_cpu", .flag) ?? false
    gpus = reader.read("gpu_ids", .gpuList) ?? nil
    bindsCores = reader.read("enable_cpu_affinity", .flag)
    _ = reader.read("rdzv_backend", .optional(.rendezvousBackend))
    if let sizes = reader.read("parallelism_config", .optional(.free)) ?? nil, !sizes.isEmpty {
      reader.report(
        "parallelism_config",
        "is not supported: ranks share batches, not layers or sequences. Remove it, and set "
          + "distributed_type to FSDP to divide the weights")
    }
    if reader.read("tpu_use_cluster", .flag) == true {
      reader.report("tpu_use_cluster", "is true, but TPUs are not supported. Set it to false")
    }
    readCompilation(reader)
    var unused = Self.unusedKeys.filter(reader.isGiven)
    if kind == .fsdp {
      let section = Rule<FSDPOptions>.section(FSDPOptions.init(reading:), write: { _ in .null })
      let rule = Rule<FSDPOptions?>.optional(section)
      let options = (reader.read("fsdp_config", rule) ?? nil) ?? FSDPOptions()
      (dividesWeights, recomputesActivations) = (options.dividesWeights, options.recomputes)
      if options.hasCopies { divideWithinMachines(reader) }
      unused += options.unused.map { "fsdp_config.\($0)" }
    } else if reader.isGiven("fsdp_config") {
      unused.append("fsdp_config")
    }
    if device == .cpu, gpus != nil {
      unused.append("gpu_ids")
      gpus = nil
    }
    if !unused.isEmpty { reader.notice("keys without effect:", unused.joined(separator: ", ")) }
  }

  private func readCompilation(_ reader: SectionReader) {
    let section = Rule<String>.section(
      { reader in
        let keys = ["mode", "use_fullgraph", "use_dynamic", "use_regional_compilation"]
        for key in keys { _ = reader.has("dynamo_\(key)") }
        let backend = reader.read("dynamo_backend", .compiler)
        reader.finish()
        return backend ?? "NO"
      }, write: { .string($0) })
    let backends: [(String, String?)] = [
      ("dynamo_config", reader.read("dynamo_config", .optional(section)) ?? nil),
      ("dynamo_backend", reader.read("dynamo_backend", .optional(.compiler)) ?? nil),
    ]
    for case (let key, let backend?) in backends
    where !["NO", "FALSE"].contains(backend.uppercased()) {
      reader.notice(
        key,
        "has no effect: there is no Python code for torch.compile to compile. Layers with adapters "
          + "are fused operations already, and on CPUs norms and rotations are too")
    }
  }

  /// Takes each machine's processes for those that share a copy of the weights.
  private mutating func divideWithinMachines(_ reader: SectionReader) {
    guard machines > 1 else { return }
    guard let processes else {
      reader.report(
        "num_processes",
        "is missing: HYBRID_SHARD divides the weights among the processes of each machine")
      return
    }
    // One process per machine would divide nothing.
    (dividesWeights, shardDegree) =
      processes <= machines ? (false, nil) : (true, processes / machines)
  }

  /// Checks keys against each other.
  private func check(_ reader: SectionReader) {
    if let machineRank, machineRank >= machines {
      reader.report(
        "machine_rank",
        "must be below num_machines, \(machines) (got \(machineRank)); machines are counted from 0")
    }
    if let processes, processes % machines != 0 {
      reader.report(
        "num_processes",
        "is \(processes), the number on all machines together, which can't be divided among "
          + "\(machines) machines. Use a multiple of \(machines)")
    }
    if kind == .single, machines > 1 || (processes ?? 1) > 1 {
      reader.report(
        "distributed_type",
        "is NO, which is one process, but the file asks for several. Use MULTI_GPU or MULTI_CPU")
    }
    if kind == .gpus, usesCPU {
      reader.report(
        "use_cpu", "is true, but distributed_type is MULTI_GPU. Use MULTI_CPU, or set it to false")
    }
  }
}

/// The section `fsdp_config`.
struct FSDPOptions {
  enum Strategy: String, CaseIterable, Sendable {
    // In the order of their numbers in PyTorch, from 1.
    case full = "FULL_SHARD"
    case gradients = "SHARD_GRAD_OP"
    case replicated = "NO_SHARD"
    case hybrid = "HYBRID_SHARD"
    case hybridGradients = "HYBRID_SHARD_ZERO2"
  }

  var dividesWeights = true
  /// Whether each machine has a copy of the weights.
  var hasCopies = false
  var recomputes = false
  /// The given keys that have no effect.
  var unused: [String] = []

  private static let unusedKeys = [
    "auto_wrap_policy", "backward_prefetch", "cpu_ram_efficient_loading", "forward_prefetch",
    "min_num_params", "state_dict_type", "sync_module_states", "transformer_layer_cls_to_wrap",
    "use_orig_params",
  ].map { "fsdp_\($0)" }

  init() {}

  init(reading reader: SectionReader) {
    _ = reader.read("fsdp_version", .integer(1...2))
    let (older, newer) = ("fsdp_sharding_strategy", "fsdp_reshard_after_forward")
    let strategies = [older, newer].map { reader.read($0, .shardingStrategy) }
    if let strategy = strategies[1] ?? strategies[0] {
      dividesWeights = Self.divides(strategy, strategies[1] == nil ? older : newer, reader)
      hasCopies = strategy == .hybrid
      if let other = strategies[0], other != strategy {
        reader.report(older, "is \(other.rawValue), but \(newer) asks for \(strategy.rawValue)")
      }
    }
    if reader.read("fsdp_offload_params", .flag) == true {
      reader.report(
        "fsdp_offload_params",
        "is true, but divided weights stay on the GPUs. Set it to false; to keep frozen weights in "
          + "host memory, use a file without FSDP and set acceleration.weight_placement to host in "
          + "the training configuration")
    }
    recomputes = reader.read("fsdp_activation_checkpointing", .flag) ?? false
    unused = Self.unusedKeys.filter(reader.isGiven)
    reader.finish()
  }

  /// Whether a strategy divides the weights among ranks. Reports strategies that don't exist
  /// here.
  private static func divides(_ strategy: Strategy, _ key: String, _ reader: SectionReader) -> Bool
  {
    switch strategy {
    case .full, .hybrid: return true
    case .replicated: return false
    case .gradients:
      reader.report(
        key,
        "asks for SHARD_GRAD_OP, which keeps gathered weights until the backward pass and does not "
          + "exist here. Use FULL_SHARD, or NO_SHARD if each GPU has memory for the whole model")
    case .hybridGradients:
      reader.report(
        key,
        "asks for HYBRID_SHARD_ZERO2, which keeps gathered weights until the backward pass and does "
          + "not exist here. Use HYBRID_SHARD")
    }
    return false
  }
}

extension SectionReader {
  /// Whether a key has a value other than null and an empty section or list.
  fileprivate func isGiven(_ key: String) -> Bool {
    guard has(key), let node = all.first(where: { $0.key == key })?.value else { return false }
    switch node.content {
    case .scalar: return !node.isNull
    case .list(let items): return !items.isEmpty
    case .mapping(let entries): return !entries.isEmpty
    }
  }
}
