import Datasets
import Foundation
import NN
import Support
import TensorFiles
import Torch

/// The files of a run in its output folder: weights, states and the configuration.
struct RunFolder: Sendable {
  let path: String
  /// The prefix of weights files: `lora` or `model`.
  let prefix: String

  var checkpoints: String { path + "/checkpoints" }
  /// The averaged weights. They have their own folder because tools that look for the newest
  /// checkpoint consider every file of one.
  var averages: String { path + "/ema" }
  /// The state after the most recent steps, written as often as the disk allows.
  var rollingState: String { path + "/training_state.safetensors" }
  /// The record of the checkpoint with the lowest validation loss: `BestCheckpoint`.
  var best: String { checkpoints + "/best.json" }
  var metrics: String { path + "/metrics.jsonl" }
  var configuration: String { path + "/training_config.yaml" }
  var report: String { path + "/report.html" }

  func create() throws {
    try makeFolder(checkpoints) {
      Issue([.file(checkpoints)], "can't be made: \(reason(of: $0))")
    }
    removePartialFiles()
  }

  /// Removes partial files that killed processes left behind; they may be large.
  private func removePartialFiles() {
    for file in [path, checkpoints, averages].flatMap(Self.files) {
      let name = (file as NSString).lastPathComponent
      let isOwn = [".lora_weights_", ".model_weights_", ".training_state"].contains {
        name.hasPrefix($0)
      }
      // A file that can't be removed does no harm.
      if isOwn, name.hasSuffix(".partial") { try? FileManager.default.removeItem(atPath: file) }
    }
  }

  /// Removes the states, so that no later start resumes from one of another run.
  func removeStates() throws {
    let states = Self.numbered("training_state_step_", in: checkpoints).map(\.path) + [rollingState]
    for file in states where FileManager.default.fileExists(atPath: file) {
      try FileManager.default.removeItem(atPath: file)
    }
  }

  /// Whether a file lies in the folder of the run's weights.
  func holds(_ file: String) -> Bool {
    func whole(_ path: String) -> String {
      URL(fileURLWithPath: path).resolvingSymlinksInPath().path
    }
    return whole(file).hasPrefix(whole(path) + "/")
  }

  private static func number(_ step: Int) -> String { String(format: "%05d", step) }

  func weights(step: Int, in folder: String? = nil) -> String {
    "\(folder ?? checkpoints)/\(prefix)_weights_step_\(Self.number(step)).safetensors"
  }

  func state(step: Int) -> String {
    "\(checkpoints)/training_state_step_\(Self.number(step)).safetensors"
  }

  // MARK: Existing files

  private static func files(of folder: String) -> [String] {
    // A missing folder holds no files.
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted().map {
      "\(folder)/\($0)"
    }
  }

  /// The samples of validations up to a step: the step, the sample's index, and the file.
  func samples(upTo step: Int) -> [(step: Int, sample: Int, path: String)] {
    Self.files(of: path + "/samples").compactMap {
      file -> (step: Int, sample: Int, path: String)? in
      let parts = ((file as NSString).lastPathComponent as NSString).deletingPathExtension.split(
        separator: "_")
      guard parts.count == 3, parts[0] == "step", let at = Int(parts[1]),
        let number = Int(parts[2]),
        at <= step
      else { return nil }
      return (at, number - 1, file)
    }
  }

  /// The files `<prefix>NNNNN.safetensors` of a folder, oldest first. They are sorted by number,
  /// because step 100000 comes before step 99999 in alphabetical order.
  static func numbered(_ prefix: String, in folder: String) -> [(step: Int, path: String)] {
    files(of: folder).compactMap { path -> (step: Int, path: String)? in
      let file = (path as NSString).lastPathComponent
      guard file.hasPrefix(prefix), file.hasSuffix(".safetensors") else { return nil }
      return Int(file.dropFirst(prefix.count).dropLast(".safetensors".count)).map { ($0, path) }
    }.sorted { $0.step < $1.step }
  }

  /// The run's fingerprint, written before its first step: it identifies a run that was killed
  /// before its first state was stored.
  private var fingerprint: String { path + "/.run.json" }

  func write(_ fingerprint: RunFingerprint) throws {
    try AtomicFile.write(Data(fingerprint.text.utf8), to: self.fingerprint)
  }

  /// Whether a new run would overwrite something in the folder: weights of any run, or the record
  /// of another one.
  func isTaken(for run: RunFingerprint) throws -> Bool {
    guard RunFolder.numbered("\(prefix)_weights_step_", in: checkpoints).isEmpty else {
      return true
    }
    guard FileManager.default.fileExists(atPath: metrics) else { return false }
    guard let data = FileManager.default.contents(atPath: fingerprint) else { return true }
    return try !run.differences(from: RunFingerprint(text: String(decoding: data, as: UTF8.self)))
      .isEmpty
  }

  /// The states to resume from, in order of preference: full ones before minimal ones, which lack
  /// the optimizer's state, and the newest first in each group.
  func states() -> [String] {
    let saved = Self.numbered("training_state_step_", in: checkpoints).map(\.path)
    let rolling = FileManager.default.fileExists(atPath: rollingState) ? [rollingState] : []
    // Unreadable states come first: one may be the newest, and must be reported.
    let ranked = (rolling + saved.reversed()).enumerated().map { offset, path in
      guard let header = try? TrainingState.header(path: path) else { return (path, 0, 0, offset) }
      return (path, header.isMinimal ? 2 : 1, -header.step, offset)
    }
    return ranked.sorted { ($0.1, $0.2, $0.3) < ($1.1, $1.2, $1.3) }.map(\.0)
  }

  /// Returns the newest undamaged state.
  ///
  /// - Parameters:
  ///   - check: throws if a state is damaged in another way.
  ///   - warn: called for each damaged state.
  /// - Returns: nil without states.
  /// - Throws: `Issue` if all states are damaged.
  func newestState(
    check: (TrainingState) throws -> Void, warn: (String) -> Void
  ) throws -> (state: TrainingState, path: String)? {
    let paths = states()
    for path in paths {
      do {
        let state = try TrainingState(path: path)
        try check(state)
        return (state, path)
      } catch {
        warn("\(describe(error)); using the previous state instead")
      }
    }
    guard paths.isEmpty else {
      throw Issue(
        [.file(path)], "holds a run whose states are all damaged",
        suggestion: "Start over with `overwrite`, or choose another output folder (`output`).")
    }
    return nil
  }

  /// Removes what an earlier run left behind.
  ///
  /// - Parameter start: the weights that the new run starts from; nil for none.
  /// - Throws: `Issue` if that would remove the start weights too.
  func removeRun(startingFrom start: String?) throws {
    if let start, holds(start) {
      throw Issue(
        ["start", .file(start)], "would be removed by `overwrite`",
        suggestion: "Choose another output folder (`output`).")
    }
    var files = [rollingState, metrics, configuration, report, fingerprint, best]
    for folder in [checkpoints, averages] {
      for prefix in ["lora_weights_step_", "model_weights_step_", "training_state_step_"] {
        files += Self.numbered(prefix, in: folder).map(\.path)
      }
    }
    for (folder, prefix) in [("samples", "step_"), ("tensorboard", "events.out.tfevents.")] {
      files += Self.files(of: "\(path)/\(folder)").filter { file in
        (file as NSString).lastPathComponent.hasPrefix(prefix)
      }
    }
    do {
      for file in files where FileManager.default.fileExists(atPath: file) {
        try FileManager.default.removeItem(atPath: file)
      }
    } catch {
      throw Issue([.file(path)], "can't be cleared: \(reason(of: error))")
    }
  }

  // MARK: Pruning

  /// Removes all but the newest checkpoints: weights, averages and states. Files of later steps
  /// belong to an earlier run in the same folder, and stay.
  ///
  /// - Parameters:
  ///   - kept: the number to keep; 0 or less keeps all, as in the official trainer.
  ///   - step: the run's current step.
  ///   - best: the best checkpoint, which always stays; one that was saved between two regular
  ///     checkpoints does not count as one of the newest.
  ///   - superseded: the previous best checkpoint, which is removed if it was saved only for its
  ///     loss.
  func prune(
    keeping kept: Int, upTo step: Int, best: BestCheckpoint? = nil,
    superseded: BestCheckpoint? = nil
  ) throws {
    guard kept > 0 else { return }
    let extra = superseded.flatMap { $0.isExtra && $0.step != best?.step ? $0.step : nil }
    for (prefix, folder) in [
      ("\(prefix)_weights_step_", checkpoints), ("training_state_step_", checkpoints),
      ("\(prefix)_weights_step_", averages),
    ] {
      let files = Self.numbered(prefix, in: folder).filter { $0.step <= step && $0.step != extra }
      let regular = best?.isExtra == true ? files.filter { $0.step != best?.step } : files
      let old = regular.dropLast(kept).filter { $0.step != best?.step }
      for file in old + Self.numbered(prefix, in: folder).filter({ $0.step == extra }) {
        try FileManager.default.removeItem(atPath: file.path)
      }
    }
  }
}
