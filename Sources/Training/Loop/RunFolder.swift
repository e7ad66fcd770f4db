import Datasets
import Foundation
import NN
import TensorFiles
import Torch

/// The files of a run in its output folder: weights, states, the configuration.
struct RunFolder: Sendable {
  let path: String
  /// What weights are called: `lora` or `model`.
  let prefix: String

  var checkpoints: String { path + "/checkpoints" }
  /// Weights averaged over the steps; in a folder of their own, for who looks for the newest checkpoint takes all of one.
  var averages: String { path + "/ema" }
  /// The state after the last steps, written as often as the disk allows.
  var rollingState: String { path + "/training_state.safetensors" }
  var metrics: String { path + "/metrics.jsonl" }
  var configuration: String { path + "/training_config.yaml" }
  var report: String { path + "/report.html" }

  func create() throws {
    do {
      try FileManager.default.createDirectory(atPath: checkpoints, withIntermediateDirectories: true)
    } catch {
      throw DatasetError(path: checkpoints, problem: "can't be made: \(error.localizedDescription)")
    }
  }

  private static func number(_ step: Int) -> String { String(format: "%05d", step) }

  func weights(step: Int, in folder: String? = nil) -> String {
    "\(folder ?? checkpoints)/\(prefix)_weights_step_\(Self.number(step)).safetensors"
  }

  func state(step: Int) -> String {
    "\(checkpoints)/training_state_step_\(Self.number(step)).safetensors"
  }

  // MARK: What is there

  private static func files(of folder: String) -> [String] {
    // A folder that is not there holds none.
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted().map { "\(folder)/\($0)" }
  }

  /// Samples of validations up to a step: the step, the sample's number from 0, and the file.
  func samples(upTo step: Int) -> [(step: Int, sample: Int, path: String)] {
    Self.files(of: path + "/samples").compactMap { file -> (step: Int, sample: Int, path: String)? in
      let parts = ((file as NSString).lastPathComponent as NSString).deletingPathExtension.split(
        separator: "_")
      guard parts.count == 3, parts[0] == "step", let at = Int(parts[1]), let number = Int(parts[2]),
        at <= step
      else { return nil }
      return (at, number - 1, file)
    }
  }

  /// Files `<prefix>NNNNN.safetensors` of a folder, the newest last; by number, for step 100000 comes after step 99999,
  /// though not in the order of the alphabet.
  static func numbered(_ prefix: String, in folder: String) -> [(step: Int, path: String)] {
    files(of: folder).compactMap { path -> (step: Int, path: String)? in
      let file = (path as NSString).lastPathComponent
      guard file.hasPrefix(prefix), file.hasSuffix(".safetensors") else { return nil }
      return Int(file.dropFirst(prefix.count).dropLast(".safetensors".count)).map { ($0, path) }
    }.sorted { $0.step < $1.step }
  }

  /// What the folder's run is, written before its first step: so a run that was killed before it had stored a state is known.
  private var fingerprint: String { path + "/.run.json" }

  func write(_ fingerprint: RunFingerprint) throws {
    try Data(try fingerprint.text.utf8).write(to: URL(fileURLWithPath: self.fingerprint), options: .atomic)
  }

  /// Whether the folder holds what would be lost if a run began in it: weights of any run, or the record of another one.
  func isTaken(for run: RunFingerprint) throws -> Bool {
    guard RunFolder.numbered("\(prefix)_weights_step_", in: checkpoints).isEmpty else { return true }
    guard FileManager.default.fileExists(atPath: metrics) else { return false }
    guard let data = FileManager.default.contents(atPath: fingerprint) else { return true }
    return try !run.differences(from: RunFingerprint(text: String(decoding: data, as: UTF8.self))).isEmpty
  }

  /// The states to go on from, the newest first, and of the same step the rolling one first.
  func states() -> [String] {
    let saved = Self.numbered("training_state_step_", in: checkpoints).map(\.path)
    let rolling = FileManager.default.fileExists(atPath: rollingState) ? [rollingState] : []
    // What can't be read comes first: it may be the newest, and is told.
    return (rolling + saved.reversed()).map { ($0, (try? TrainingState.step(path: $0)) ?? .max) }
      .enumerated().sorted { ($1.element.1, $0.offset) < ($0.element.1, $1.offset) }.map(\.element.0)
  }

  /// The newest state that is whole.
  ///
  /// - Parameter warn: told of each one that is damaged.
  /// - Returns: nil where there is no state at all.
  /// - Throws: `DatasetError` where all are damaged.
  func newestState(warn: (String) -> Void) throws -> (state: TrainingState, path: String)? {
    let paths = states()
    for path in paths {
      do {
        return (try TrainingState(path: path), path)
      } catch {
        warn("\(error); going back to the state before it")
      }
    }
    guard paths.isEmpty else {
      throw DatasetError(
        path: path,
        problem: "holds a run whose states are all damaged; start over with --overwrite, or choose another "
          + "output_dir")
    }
    return nil
  }

  /// Removes what an earlier run left behind.
  func removeRun() throws {
    let files =
      [rollingState, metrics, configuration, report, fingerprint]
      + [checkpoints, averages].flatMap { folder in
        ["lora_weights_step_", "model_weights_step_", "training_state_step_"].flatMap {
          Self.numbered($0, in: folder).map(\.path)
        }
      }
      + ["samples/step_", "tensorboard/events.out.tfevents."].flatMap { prefix in
        Self.files(of: "\(path)/\((prefix as NSString).deletingLastPathComponent)").filter {
          ($0 as NSString).lastPathComponent.hasPrefix((prefix as NSString).lastPathComponent)
        }
      }
    do {
      for file in files where FileManager.default.fileExists(atPath: file) {
        try FileManager.default.removeItem(atPath: file)
      }
    } catch {
      throw DatasetError(path: path, problem: "can't be cleared: \(error.localizedDescription)")
    }
  }

  // MARK: Pruning

  /// Removes all but the newest checkpoints: weights, averages and states. Those of later steps are of an earlier run in the
  /// same folder, and stay.
  ///
  /// - Parameters:
  ///   - kept: how many stay; 0 or less for all, as in the official trainer.
  ///   - step: that the run has come to.
  func prune(keeping kept: Int, upTo step: Int) throws {
    guard kept > 0 else { return }
    for (prefix, folder) in [
      ("\(prefix)_weights_step_", checkpoints), ("training_state_step_", checkpoints),
      ("\(prefix)_weights_step_", averages),
    ] {
      for file in Self.numbered(prefix, in: folder).filter({ $0.step <= step }).dropLast(kept) {
        try FileManager.default.removeItem(atPath: file.path)
      }
    }
  }
}
