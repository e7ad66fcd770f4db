// The rules for values of Accelerate's configuration files.

import Foundation
import Support

extension Rule where Value: Sendable {
  /// A rule for one of several names. The scalar's text counts, because YAML reads NO as false.
  ///
  /// - Parameters:
  ///   - names: names and their values, in the order in which messages list them.
  ///   - aliases: other accepted texts.
  ///   - refused: names of what does not exist here, each with a clause that follows the name.
  static func named(
    _ names: [(String, Value)], aliases: [String: Value] = [:], refused: [String: String] = [:]
  ) -> Rule {
    Rule(
      read: { node, context in
        let text = if case .scalar(let scalar) = node.content { scalar.text } else { "" }
        if let value = names.first(where: { $0.0 == text })?.1 ?? aliases[text] { return value }
        let all = names.map(\.0)
        if let reason = refused[text] {
          context.report("is \(text), \(reason)")
        } else {
          let near = NearestName.find(text, in: all).map { "; did you mean \($0)?" } ?? ""
          let choice = all.count == 1 ? all[0] : "one of \(all.joined(separator: ", "))"
          context.report("must be \(choice) (got \(node.shown))\(near)")
        }
        return nil
      }, write: { _ in .null })
  }
}

extension Rule<String> {
  static var computeEnvironment: Rule {
    named(
      [("LOCAL_MACHINE", "LOCAL_MACHINE")],
      refused: [
        "AMAZON_SAGEMAKER":
          "but SageMaker jobs are not started from here. Use LOCAL_MACHINE, and run `ltx launch` on "
          + "each machine of the job"
      ])
  }

  /// Both backends are the same here.
  static var rendezvousBackend: Rule { named([("static", "static"), ("c10d", "c10d")]) }

  /// The name of a back end of torch.compile.
  static var compiler: Rule {
    scalar("a name", { $0.value == .null ? nil : $0.text }, write: { .string($0) })
  }
}

extension Rule<DistributedSettings.Kind> {
  static var distributedType: Rule {
    let otherDevices =
      "but only NVIDIA GPUs and CPUs are supported. Use MULTI_GPU, FSDP or MULTI_CPU"
    let otherParallelism =
      "which divides single layers among GPUs and does not exist here. Use FSDP, which divides the "
      + "weights"
    var refused = [
      "DEEPSPEED":
        "which does not exist here. Use FSDP, which divides weights, gradients and optimizer states "
        + "like ZeRO stage 3",
      "MEGATRON_LM": otherParallelism, "TP": otherParallelism,
    ]
    for device in ["HPU", "MLU", "MUSA", "NEURON", "NPU", "SDAA", "XPU"] {
      refused["MULTI_\(device)"] = otherDevices
    }
    for name in ["MPS", "TPU", "XLA"] { refused[name] = otherDevices }
    return named(DistributedSettings.Kind.allCases.map { ($0.rawValue, $0) }, refused: refused)
  }
}

extension Rule<FSDPOptions.Strategy> {
  /// A name or its number in PyTorch, or whether weights are released after the forward pass.
  static var shardingStrategy: Rule {
    let all = FSDPOptions.Strategy.allCases
    var aliases: [String: FSDPOptions.Strategy] = [:]
    for (index, strategy) in all.enumerated() { aliases["\(index + 1)"] = strategy }
    for text in ["true", "True", "TRUE"] { aliases[text] = .full }
    for text in ["false", "False", "FALSE"] { aliases[text] = .gradients }
    return named(all.map { ($0.rawValue, $0) }, aliases: aliases)
  }
}

extension Rule<TrainingConfiguration.Acceleration.MixedPrecision?> {
  static var accelerateMixedPrecision: Rule {
    named(
      [("no", .no), ("fp16", .fp16), ("bf16", .bf16)],
      aliases: ["": nil, "null": nil, "~": nil, "No": .no, "NO": .no, "false": .no, "False": .no],
      refused: [
        "fp8":
          "which is not supported. Use bf16; acceleration.quantization of the training configuration "
          + "keeps frozen weights in 8 bits"
      ])
  }
}

extension Rule<Int?> {
  /// A number of processes; nil for -1 and null.
  static var processCount: Rule {
    Rule(
      read: { node, context in
        if node.isNull { return .some(nil) }
        if case .scalar(let scalar) = node.content, let count = scalar.asInteger {
          if count == -1 { return .some(nil) }
          if (1...1 << 20).contains(count) { return count }
        }
        context.report(
          "must be an integer of at least 1, or -1 for one process per GPU (got \(node.shown))")
        return nil
      }, write: { $0.map { .int($0) } ?? .null })
  }
}

extension Rule<String?> {
  /// The numbers or identifiers of GPUs, separated by commas; nil for all.
  static var gpuList: Rule {
    Rule(
      read: { node, context in
        guard !node.isNull else { return .some(nil) }
        let text = if case .scalar(let scalar) = node.content { scalar.text } else { "" }
        if text == "all" { return .some(nil) }
        let ids = text.split(separator: ",", omittingEmptySubsequences: false).map {
          $0.trimmingCharacters(in: .whitespaces)
        }
        let areValid = ids.allSatisfy { id in
          UInt16(id) != nil || id.hasPrefix("GPU-") || id.hasPrefix("MIG-")
        }
        if areValid, Set(ids).count == ids.count { return ids.joined(separator: ",") }
        context.report(
          "must be all, or different numbers of GPUs separated by commas, such as 0,1 "
            + "(got \(node.shown))")
        return nil
      }, write: { $0.map { .string($0) } ?? .null })
  }
}
