import Datasets
import Foundation
import LTX
import NN
import TensorFiles
import Torch

/// The files of a run in its output folder: saved adapters, the state to go on from, the metrics.
struct RunFolder {
  let path: String

  private static let adapterPrefix = "lora_weights_step_"

  private var checkpoints: String { path + "/checkpoints" }
  private var statePath: String { path + "/training_state.safetensors" }
  private var metricsPath: String { path + "/metrics.jsonl" }

  func create() throws {
    do {
      try FileManager.default.createDirectory(atPath: checkpoints, withIntermediateDirectories: true)
    } catch {
      throw DatasetError(path: checkpoints, problem: "can't be made: \(error.localizedDescription)")
    }
  }

  // MARK: Adapters

  /// Saves adapters in ComfyUI's keys, `diffusion_model.<module>.lora_A.weight`. The file carries no alpha, so the
  /// scale of training is folded into B: strength 1 acts as the adapters did.
  ///
  /// - Returns: the file's path.
  func saveAdapters(_ parameters: [Parameter], scale: Double, step: Int, dtype: DType) throws -> String {
    let tensors = try LoRAFile.tensors(of: parameters, scale: scale, dtype: dtype)
    let number = String(format: "%05d", step)
    let file = "\(checkpoints)/\(Self.adapterPrefix)\(number).safetensors"
    try writeSafetensors(tensors, metadata: ["format": "pt"], to: file)
    return file
  }

  /// Removes all but the newest saved adapters. Those of later steps are of an earlier run in the same folder, and stay.
  ///
  /// - Parameters:
  ///   - kept: how many stay; -1 for all.
  ///   - step: that the run has come to.
  func pruneAdapters(keeping kept: Int, upTo step: Int) throws {
    guard kept >= 0 else { return }
    // By number: step 100000 comes after step 99999, though not in the order of the alphabet.
    let saved = try FileManager.default.contentsOfDirectory(atPath: checkpoints)
      .compactMap { file -> (step: Int, file: String)? in
        let parts = file.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[1] == "safetensors", parts[0].hasPrefix(Self.adapterPrefix) else {
          return nil
        }
        return Int(parts[0].dropFirst(Self.adapterPrefix.count)).map { ($0, file) }
      }
      .filter { $0.step <= step }.sorted { $0.step < $1.step }
    for (_, file) in saved.dropLast(max(kept, 1)) {
      try FileManager.default.removeItem(atPath: "\(checkpoints)/\(file)")
    }
  }

  // MARK: State

  /// Writes what a run needs to go on after a step: adapters, optimiser and step. Noise and order are functions of the
  /// seed and the step, and need no state.
  func saveState(_ optimizer: AdamW, step: Int, fingerprint: RunFingerprint) throws {
    let adapters = try optimizer.parameters.map { (key: $0.key, tensor: try $0.tensor.detach()) }
    // Whole or not at all matters here; that it survives a power cut does not, for the next step writes it again.
    try writeSafetensors(
      adapters + optimizer.state, metadata: ["step": String(step), "fingerprint": fingerprint.text],
      to: statePath,
      isDurable: false)
  }

  /// Goes on from a stored state.
  ///
  /// - Returns: the steps that were done; 0 where there is no state.
  /// - Throws: `DatasetError` when the folder holds a run with another configuration.
  func restore(_ optimizer: AdamW, fingerprint: RunFingerprint) throws -> Int {
    guard FileManager.default.fileExists(atPath: statePath) else { return 0 }
    let file = try SafetensorsFile(path: statePath)
    guard let step = file.metadata["step"].flatMap(Int.init), let stored = file.metadata["fingerprint"] else {
      throw DatasetError(
        path: statePath, problem: "is not the state of a training run; remove it to start over")
    }
    if let difference = fingerprint.difference(from: stored) {
      throw DatasetError(
        path: path,
        problem:
          "holds a run with another configuration (\(difference)); choose another output_dir, remove it, or "
          + "set checkpoints.no_resume to start over")
    }
    try withoutGrad {
      for parameter in optimizer.parameters { try parameter.tensor.copy_(file.tensor(parameter.key)) }
    }
    try optimizer.restore { try file.tensor($0) }
    return step
  }

  // MARK: Metrics

  /// Drops what is recorded of steps after `step`: they will be done again.
  func truncateMetrics(after step: Int) throws {
    guard let data = FileManager.default.contents(atPath: metricsPath) else { return }
    let lines = String(decoding: data, as: UTF8.self).split(separator: "\n")
    let kept = lines.filter { line in
      // A line cut off by a kill is no JSON, and belongs to a step that is done again.
      guard let metrics = try? JSONDecoder().decode(StepMetrics.self, from: Data(line.utf8)) else {
        return false
      }
      return metrics.step <= step
    }
    let text = kept.map { $0 + "\n" }.joined()
    try Data(text.utf8).write(to: URL(fileURLWithPath: metricsPath), options: .atomic)
  }

  /// Opens the metrics for appending.
  func openMetrics() throws -> FileHandle {
    if !FileManager.default.fileExists(atPath: metricsPath) {
      try Data().write(to: URL(fileURLWithPath: metricsPath))
    }
    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: metricsPath))
    try handle.seekToEnd()
    return handle
  }
}

/// One line of `metrics.jsonl`.
public struct StepMetrics: Codable, Sendable, Equatable {
  /// Counts from 1.
  public let step: Int
  /// The batch's mean, before the step.
  public let loss: Double
  /// Over all gradients, before clipping.
  public let gradientNorm: Double
  public let learningRate: Double
  public let seconds: Double
  /// Held by tensors on the device after the step.
  public let tensorBytes: Int

  enum CodingKeys: String, CodingKey {
    case step, loss, seconds
    case tensorBytes = "tensor_bytes"
    case gradientNorm = "gradient_norm"
    case learningRate = "learning_rate"
  }
}

/// What must be equal for a run to go on from a state: everything that its numbers depend on.
struct RunFingerprint {
  private static let model = "the model"
  private static let dataset = "the dataset"
  /// The number of steps is not among them: a run may be made longer.
  private let values: [String: String]

  /// - Parameters:
  ///   - model: `FileIdentity` of the checkpoint.
  ///   - samples: the names of the dataset's samples.
  init(_ c: TrainingConfiguration, model: String, samples: [String]) {
    values = [
      Self.model: model, Self.dataset: FileIdentity.identity(ofNames: samples), "lora.rank": "\(c.lora.rank)",
      "lora.alpha": "\(c.lora.alpha)", "lora.target_modules": c.lora.targetModules.joined(separator: " "),
      "first frame probability": "\(c.firstFrameProbability)",
      "optimization.learning_rate": "\(c.learningRate)",
      "optimization.batch_size": "\(c.batchSize)",
      "optimization.gradient_accumulation_steps": "\(c.accumulationSteps)",
      "optimization.max_grad_norm": "\(c.maxGradientNorm)",
      "optimization.scheduler_type": c.scheduler.rawValue,
      "optimization.scheduler_params": "\(c.schedulerFactors.start) to \(c.schedulerFactors.end)",
      "acceleration.mixed_precision_mode": c.mixedPrecision.rawValue,
      "flow_matching.timestep_sampling_mode": c.timestepSampling.rawValue, "seed": "\(c.seed)",
    ]
  }

  var text: String {
    values.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "\n")
  }

  /// The first value that differs, in words; nil where all are equal.
  func difference(from stored: String) -> String? {
    let pairs = stored.split(separator: "\n").map { $0.split(separator: "=", maxSplits: 1).map(String.init) }
    let old = Dictionary(pairs.map { ($0[0], $0.count > 1 ? $0[1] : "") }, uniquingKeysWith: { $1 })
    for key in Set(values.keys).union(old.keys).sorted() where values[key] != old[key] {
      if [Self.model, Self.dataset].contains(key) { return "\(key) is another one" }
      return "\(key) was \(old[key] ?? "not set") and is now \(values[key] ?? "not set")"
    }
    return nil
  }
}
