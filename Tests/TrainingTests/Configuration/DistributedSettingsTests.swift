import Foundation
import TestSupport
import Testing

@testable import Training

/// Files in the format of `accelerate config`.
@Suite struct DistributedSettingsTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Configs/distributed").path

  private func read(_ yaml: String) throws -> DistributedSettings {
    try DistributedSettings(yaml: yaml, file: "a.yaml")
  }

  private func problem(_ yaml: String) -> String { message { _ = try read(yaml) } }

  private func training(_ more: String = "") throws -> TrainingConfiguration {
    try ConfigurationText.read(ConfigurationText.minimal + more)
  }

  /// A file as `accelerate config` writes it, with all of its keys for several GPUs.
  private static func written(_ type: String, _ more: String = "") -> String {
    """
    compute_environment: LOCAL_MACHINE
    debug: false
    distributed_type: \(type)
    downcast_bf16: 'no'
    enable_cpu_affinity: false
    gpu_ids: all
    machine_rank: 1
    main_process_ip: 10.0.0.7
    main_process_port: 4000
    main_training_function: main
    mixed_precision: bf16
    num_machines: 2
    num_processes: 8
    rdzv_backend: static
    same_network: true
    tpu_env: []
    tpu_use_cluster: false
    tpu_use_sudo: false
    use_cpu: false
    \(more)
    """
  }

  // MARK: Ready files

  @Test func theReadyFiles() throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: Self.folder)
    #expect(names.sorted() == ["ddp.yaml", "ddp_compile.yaml", "fsdp.yaml", "fsdp_compile.yaml"])
    for name in names {
      let path = "\(Self.folder)/\(name)"
      let settings = try DistributedSettings(path: path)
      #expect(settings.device == .cuda(0))
      #expect(settings.processes == nil && settings.machines == 1)
      #expect(settings.machineRank == nil && settings.masterHost == nil)
      #expect(try settings.processesPerMachine(machines: 1) == nil, "one per GPU")
      #expect(settings.dividesWeights == name.hasPrefix("fsdp"))
      #expect(settings.notes.count == (name.contains("compile") ? 1 : 0), "\(settings.notes)")
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(ConfigurationText.awkwardLines(text).isEmpty)
      // The commented keys are keys.
      let all = text.replacing("# main_process", with: "main_process")
      #expect(try DistributedSettings(yaml: all, file: name).masterHost != nil || all == text)
    }
  }

  // MARK: Accelerate's files

  @Test func theKeysForSeveralGPUs() throws {
    let settings = try read(Self.written("MULTI_GPU"))
    #expect(settings.processes == 8 && settings.machines == 2 && settings.machineRank == 1)
    #expect(settings.masterHost == "10.0.0.7" && settings.masterPort == 4000)
    #expect(settings.bindsCores == false && settings.gpus == nil)
    #expect(settings.mixedPrecision == .bf16)
    #expect(settings.device == .cuda(0))
    #expect(!settings.dividesWeights && !settings.recomputesActivations)
    #expect(try settings.processesPerMachine(machines: 2) == 4, "num_processes counts all machines")
    #expect(try settings.processesPerMachine(machines: 1) == 8)
    #expect(
      settings.notes == [
        "a.yaml: keys without effect: debug, downcast_bf16, main_training_function, same_network, "
          + "tpu_use_cluster, tpu_use_sudo"
      ])
    #expect(try settings.overrides(for: training()).isEmpty)
  }

  @Test func theKeysForFSDP() throws {
    let settings = try read(
      Self.written(
        "FSDP",
        """
        fsdp_config:
          fsdp_activation_checkpointing: false
          fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
          fsdp_backward_prefetch: BACKWARD_PRE
          fsdp_cpu_ram_efficient_loading: true
          fsdp_forward_prefetch: false
          fsdp_offload_params: false
          fsdp_reshard_after_forward: FULL_SHARD
          fsdp_state_dict_type: SHARDED_STATE_DICT
          fsdp_sync_module_states: true
          fsdp_transformer_layer_cls_to_wrap: BasicAVTransformerBlock
          fsdp_use_orig_params: true
          fsdp_version: 1
        dynamo_config:
          dynamo_backend: INDUCTOR
          dynamo_mode: default
          dynamo_use_fullgraph: false
          dynamo_use_dynamic: true
        """))
    #expect(settings.dividesWeights)
    #expect(settings.device == .cuda(0))
    let notes = settings.notes.joined(separator: "\n")
    #expect(notes.contains("dynamo_config (line 33) has no effect"), "\(notes)")
    #expect(notes.contains("fsdp_config.fsdp_use_orig_params"), "\(notes)")
    #expect(!notes.contains("fsdp_version") && !notes.contains("fsdp_reshard"), "\(notes)")
    #expect(
      try settings.overrides(for: training()) == [
        "acceleration.weight_placement=sharded",
        "optimization.enable_gradient_checkpointing=true",
      ])
  }

  @Test(arguments: [
    ("fsdp_sharding_strategy: FULL_SHARD", true), ("fsdp_sharding_strategy: 1", true),
    ("fsdp_sharding_strategy: NO_SHARD", false), ("fsdp_sharding_strategy: 3", false),
    ("fsdp_reshard_after_forward: true", true), ("fsdp_version: 2", true),
    ("fsdp_reshard_after_forward: NO_SHARD", false),
  ])
  func shardingStrategies(line: String, divides: Bool) throws {
    let settings = try read("distributed_type: FSDP\nfsdp_config:\n  \(line)\n")
    #expect(settings.dividesWeights == divides)
  }

  @Test func hybridShardingDividesTheWeightsWithinMachines() throws {
    let hybrid = "fsdp_config: {fsdp_sharding_strategy: HYBRID_SHARD}\ndistributed_type: FSDP\n"
    let two = try read(hybrid + "num_machines: 2\nnum_processes: 16\n")
    #expect(try two.overrides(for: training()).contains("acceleration.shard_degree=8"))
    let one = try read(hybrid + "num_processes: 8\n")
    #expect(one.dividesWeights && one.shardDegree == nil)
    #expect(try !read(hybrid + "num_machines: 2\nnum_processes: 2\n").dividesWeights)
    #expect(problem(hybrid + "num_machines: 2\n").contains("num_processes is missing"))
  }

  @Test func filesWithoutFSDPsSection() throws {
    for section in ["", "fsdp_config:\n", "fsdp_config: {}\n"] {
      #expect(try read("distributed_type: FSDP\n" + section).dividesWeights)
      let other = try read("distributed_type: MULTI_GPU\n" + section)
      #expect(!other.dividesWeights && other.notes.isEmpty)
    }
    let unused = try read(
      "distributed_type: MULTI_GPU\nfsdp_config: {fsdp_sharding_strategy: HYBRID_SHARD}\n"
        + "deepspeed_config: {zero_stage: 2}\nmegatron_lm_config: {}\n")
    #expect(!unused.dividesWeights)
    #expect(unused.notes == ["a.yaml: keys without effect: deepspeed_config, fsdp_config"])
  }

  @Test func devicesAndProcesses() throws {
    let cpus = try read("distributed_type: MULTI_CPU\nnum_processes: 3\ngpu_ids: 0,1\n")
    #expect(cpus.device == .cpu && cpus.gpus == nil)
    #expect(cpus.notes == ["a.yaml: keys without effect: gpu_ids"])
    #expect(try cpus.processesPerMachine(machines: 1) == 3)
    let sharedByCPUs = try read("distributed_type: FSDP\nuse_cpu: true\nnum_processes: 2\n")
    #expect(sharedByCPUs.device == .cpu && sharedByCPUs.dividesWeights)
    // YAML reads NO as false.
    for text in ["NO", "'NO'"] {
      let one = try read("distributed_type: \(text)\nmixed_precision: no\n")
      #expect(one.device == nil && one.mixedPrecision == .no)
      #expect(try one.processesPerMachine(machines: 1) == 1)
    }
    #expect(try read("distributed_type: NO\nuse_cpu: true\n").device == .cpu)
    let listed = try read("distributed_type: MULTI_GPU\ngpu_ids: 2, 0,GPU-ab\n")
    #expect(listed.gpus == "2,0,GPU-ab")
    #expect(try listed.processesPerMachine(machines: 1) == 3)
    #expect(try read("distributed_type: MULTI_GPU\ngpu_ids: 1\n").gpus == "1")
    for text in ["-1", ""] {
      #expect(try read("distributed_type: MULTI_GPU\nnum_processes: \(text)\n").processes == nil)
    }
    #expect(try read(#"{"distributed_type": "MULTI_GPU", "num_processes": 4}"#).processes == 4)
    for text in ["", "null", "'no'", "NO"] {
      let precision = try read("distributed_type: NO\nmixed_precision: \(text)\n").mixedPrecision
      #expect(precision == (text.uppercased().contains("NO") ? .no : nil), "\(text)")
    }
  }

  // MARK: Refusals

  @Test(arguments: [
    ("distributed_type: DEEPSPEED", "a.yaml:1:1: distributed_type is DEEPSPEED, which does not"),
    ("distributed_type: MEGATRON_LM", "is MEGATRON_LM, which divides single layers"),
    ("distributed_type: TP", "is TP, which divides single layers"),
    ("distributed_type: XLA", "is XLA, but only NVIDIA GPUs and CPUs"),
    ("distributed_type: TPU", "is TPU, but only NVIDIA GPUs and CPUs"),
    ("distributed_type: MULTI_XPU", "is MULTI_XPU, but only"),
    ("distributed_type: MULTI_NPU", "is MULTI_NPU, but only"),
    ("distributed_type: MULTI_MLU", "is MULTI_MLU, but only"),
    (
      "distributed_type: MULTI_GPUS",
      "must be one of NO, MULTI_GPU, MULTI_CPU, FSDP (got \"MULTI_GPUS\"); did you mean MULTI_GPU?"
    ),
    ("num_machines: 1", "distributed_type is missing"),
    (
      "compute_environment: AMAZON_SAGEMAKER\ndistributed_type: DATA_PARALLEL\nregion: us-east-1",
      "compute_environment is AMAZON_SAGEMAKER, but SageMaker jobs are not started from here"
    ),
    ("compute_environment: CLOUD", "compute_environment must be LOCAL_MACHINE (got \"CLOUD\")"),
    (
      "distributed_type: MULTI_GPU\nnum_process: 4",
      "a.yaml:2:1: num_process is not a known key; did you mean num_processes?"
    ),
    ("distributed_type: MULTI_GPU\nlearning_rate: 1", "learning_rate is not a known key"),
    (
      "distributed_type: MULTI_GPU\nnum_processes: -2",
      "num_processes must be an integer of at least 1, or -1"
    ),
    (
      "distributed_type: MULTI_GPU\nnum_processes: 0",
      "num_processes must be an integer of at least 1"
    ),
    ("distributed_type: MULTI_GPU\nnum_processes: many", "(got \"many\")"),
    ("distributed_type: MULTI_GPU\nnum_machines: 0", "num_machines must be an integer from 1"),
    ("distributed_type: MULTI_GPU\nmachine_rank: -1", "machine_rank must be an integer from 0"),
    (
      "distributed_type: MULTI_GPU\nnum_machines: 2\nmachine_rank: 2",
      "a.yaml:3:1: machine_rank must be below num_machines, 2 (got 2)"
    ),
    (
      "distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 5",
      "num_processes is 5, the number on all machines together"
    ),
    (
      "distributed_type: MULTI_GPU\nmain_process_port: 70000",
      "main_process_port must be an integer from 1 to 65535"
    ),
    ("distributed_type: MULTI_GPU\nmain_process_ip: ''", "main_process_ip is empty"),
    ("distributed_type: NO\nnum_processes: 4", "distributed_type is NO, which is one process"),
    ("distributed_type: NO\nnum_machines: 2", "distributed_type is NO, which is one process"),
    (
      "distributed_type: MULTI_GPU\nuse_cpu: true",
      "use_cpu is true, but distributed_type is MULTI_GPU"
    ),
    ("distributed_type: MULTI_GPU\nuse_cpu: maybe", "use_cpu must be true or false"),
    (
      "distributed_type: MULTI_GPU\nmixed_precision: fp8",
      "mixed_precision is fp8, which is not supported"
    ),
    ("distributed_type: MULTI_GPU\nmixed_precision: bf61", "did you mean bf16?"),
    ("distributed_type: MULTI_GPU\nrdzv_backend: etcd", "rdzv_backend must be one of static, c10d"),
    ("distributed_type: MULTI_GPU\ngpu_ids: 0,0", "gpu_ids must be all, or different numbers"),
    ("distributed_type: MULTI_GPU\ngpu_ids: 0,-1", "gpu_ids must be all, or different numbers"),
    ("distributed_type: MULTI_GPU\ngpu_ids: [0]", "gpu_ids must be all, or different numbers"),
    ("distributed_type: MULTI_GPU\ntpu_use_cluster: true", "tpu_use_cluster is true, but TPUs"),
    (
      "distributed_type: MULTI_GPU\nparallelism_config: {parallelism_config_tp_size: 2}",
      "parallelism_config is not supported: ranks share batches"
    ),
    (
      "distributed_type: MULTI_GPU\ndynamo_config: {dynamo_backand: INDUCTOR}",
      "did you mean dynamo_config.dynamo_backend?"
    ),
    ("- a", "is not a YAML mapping"), ("a: [", "is not valid YAML"), ("", "is not a YAML mapping"),
  ])
  func filesThatCantBeUsed(yaml: String, text: String) {
    let found = problem(yaml)
    #expect(found.contains(text), "\(found)")
    #expect(found.split(separator: "\n").count == 1, "\(found)")
  }

  @Test(arguments: [
    ("fsdp_sharding_strategy: SHARD_GRAD_OP", "asks for SHARD_GRAD_OP"),
    ("fsdp_sharding_strategy: 2", "asks for SHARD_GRAD_OP"),
    ("fsdp_reshard_after_forward: false", "asks for SHARD_GRAD_OP"),
    ("fsdp_sharding_strategy: HYBRID_SHARD_ZERO2", "asks for HYBRID_SHARD_ZERO2"),
    ("fsdp_sharding_strategy: FULL_SHAR", "did you mean FULL_SHARD?"),
    ("fsdp_offload_params: true", "fsdp_offload_params is true, but divided weights stay on"),
    ("fsdp_version: 3", "fsdp_version must be an integer from 1 to 2"),
    ("fsdp_activation_checkpoint: true", "did you mean fsdp_config.fsdp_activation_checkpointing?"),
    (
      "fsdp_sharding_strategy: NO_SHARD\n  fsdp_reshard_after_forward: true",
      "fsdp_sharding_strategy is NO_SHARD, but fsdp_reshard_after_forward asks for FULL_SHARD"
    ),
  ])
  func shardingThatDoesNotExistHere(line: String, text: String) {
    let found = problem("distributed_type: FSDP\nfsdp_config:\n  \(line)\n")
    #expect(found.hasPrefix("a.yaml:3:3: fsdp_config.fsdp_"), "\(found)")
    #expect(found.contains(text), "\(found)")
    #expect(found.split(separator: "\n").count == 1, "\(found)")
  }

  @Test func allProblemsAreReportedTogetherInTheirOrder() {
    let found = problem("num_processes: 0\nnum_machines: x\ndistributed_type: DEEPSPEED\nfoo: 1\n")
    let starts = found.split(separator: "\n").map { $0.prefix(9) }
    #expect(starts == ["a.yaml:1:", "a.yaml:2:", "a.yaml:3:", "a.yaml:4:"], "\(found)")
  }

  @Test func filesThatCantBeRead() throws {
    #expect(
      message { _ = try DistributedSettings(path: "/no/such.yaml") }
        == "/no/such.yaml: can't be read; does it exist?")
    let scratch = try ScratchFolder()
    let path = scratch.file("binary.yaml")
    try Data([0xFF, 0xFE, 0]).write(to: URL(fileURLWithPath: path))
    #expect(message { _ = try DistributedSettings(path: path) }.contains("is not UTF-8 text"))
  }

  @Test func processesThatDontFitTheMachines() throws {
    let settings = try read("distributed_type: MULTI_GPU\nnum_processes: 4\ngpu_ids: 0,1\n")
    #expect(
      message { _ = try settings.processesPerMachine(machines: 3) }
        .contains("a.yaml:2:1: num_processes is 4, the number on all machines together"))
    #expect(
      message { _ = try settings.processesPerMachine(machines: 1) }
        .contains("a.yaml:3:1: gpu_ids lists 2 GPUs, but each machine has 4 processes"))
    #expect(try settings.processesPerMachine(machines: 2) == 2)
  }

  // MARK: The training configuration

  @Test func whatTheTrainingConfigurationGivesIsKept() throws {
    let fsdp = try read("distributed_type: FSDP\n")
    #expect(
      try fsdp.overrides(for: training("acceleration: {activations: offload}"))
        == ["acceleration.weight_placement=sharded"])
    #expect(
      try fsdp.overrides(
        for: training(
          "acceleration: {weight_placement: sharded}\n"
            + "optimization: {enable_gradient_checkpointing: true}")
      ).isEmpty)
    let other = try ConfigurationText.read(
      ConfigurationText.minimal
        + "acceleration: {weight_placement: host}\n"
        + "optimization: {enable_gradient_checkpointing: true}\n")
    let refused = message { _ = try fsdp.overrides(for: other) }
    #expect(
      refused.contains("acceleration.weight_placement is host, but a.yaml divides the weights"),
      "\(refused)")
    let checkpointing = try read(
      "distributed_type: FSDP\nfsdp_config: {fsdp_sharding_strategy: NO_SHARD, "
        + "fsdp_activation_checkpointing: true}\n")
    #expect(
      try checkpointing.overrides(for: training())
        == ["optimization.enable_gradient_checkpointing=true"])
  }

  @Test func whatChangesIsNoted() throws {
    let fsdp = try read("distributed_type: FSDP\nmixed_precision: fp16\n")
    let c = try training()
    let notes = fsdp.trainingNotices(try fsdp.overrides(for: c), c).map(\.description)
    #expect(
      notes == [
        "acceleration.weight_placement is sharded because of a.yaml, as with --set "
          + "acceleration.weight_placement=sharded",
        "optimization.enable_gradient_checkpointing is true because of a.yaml, as with --set "
          + "optimization.enable_gradient_checkpointing=true",
        "acceleration.mixed_precision_mode is bf16, which is used; a.yaml says fp16",
      ])
    let same = try read("distributed_type: MULTI_GPU\nmixed_precision: bf16\n")
    #expect(same.trainingNotices([], c).isEmpty)
  }
}
