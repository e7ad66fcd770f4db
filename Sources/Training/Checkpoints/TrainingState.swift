import Datasets
import Foundation
import Support
import TensorFiles
import Torch

/// Everything that a run needs to resume after a step, as one safetensors file.
///
/// Noise, order, dropout and the learning rate are functions of the seed and the step on every
/// rank, so the state holds counters instead of generator states.
struct TrainingState: Sendable {
  /// The number of completed steps.
  var step: Int
  /// The number of batches that all ranks together have read from the dataset.
  var batches: Int
  /// The number of steps in a row up to this one whose gradient was not finite.
  var skippedInARow: Int
  /// The loss scale of float16 training.
  var lossScale: LossScale?
  var fingerprint: RunFingerprint
  /// The ID of the Weights & Biases run, so that the resumed run continues it.
  var trackerRunID: String?
  /// Trained tensors, the optimizer's state and the moving average, by key; empty in a minimal
  /// state.
  var tensors: [String: Tensor]

  /// Whether the state has no tensors. The weights then come from the checkpoint next to it, in its
  /// precision.
  var isMinimal: Bool { tensors.isEmpty }

  private static let format = "ltx training state 1"

  /// Writes the file atomically.
  ///
  /// - Parameter isDurable: whether the file must survive a power cut.
  func write(to path: String, isDurable: Bool) throws {
    let list = tensors.sorted { $0.key < $1.key }.map { (key: $0.key, tensor: $0.value) }
    var metadata = [
      "format": Self.format, "step": String(step), "batches": String(batches),
      "skipped": String(skippedInARow), "fingerprint": fingerprint.text,
      "checksum": try Self.checksum(list),
    ]
    metadata["tracker_run"] = trackerRunID
    if let lossScale { metadata["loss_scale"] = "\(lossScale.value) \(lossScale.goodSteps)" }
    // A safetensors file needs at least one tensor, so a minimal state stores the step as one.
    let content =
      list.isEmpty ? [(key: "step", tensor: try Tensor([Int64(step)]))] : list
    try writeSafetensors(content, metadata: metadata, to: path, isDurable: isDurable)
  }

  /// Reads only a file's header: the step, and whether the state is minimal.
  static func header(path: String) throws -> (step: Int, isMinimal: Bool) {
    let file = try SafetensorsFile(path: path)
    guard let step = file.metadata["step"].flatMap(Int.init) else {
      throw Issue([.file(path)], "is not the state of a training run")
    }
    return (step, file.entries.count == 1 && file.entries["step"] != nil)
  }

  /// Loads a file, and verifies its checksum.
  ///
  /// - Throws: `TensorFileError`; `Issue` if the file is damaged.
  init(path: String) throws {
    let file = try SafetensorsFile(path: path)
    let metadata = file.metadata
    guard metadata["format"] == Self.format, let step = metadata["step"].flatMap(Int.init),
      let batches = metadata["batches"].flatMap(Int.init),
      let skipped = metadata["skipped"].flatMap(Int.init), let fingerprint = metadata["fingerprint"]
    else { throw Issue([.file(path)], "is not the state of a training run") }
    var tensors: [String: Tensor] = [:]
    for key in file.entries.keys where key != "step" { tensors[key] = try file.tensor(key) }
    let list = tensors.sorted { $0.key < $1.key }.map { (key: $0.key, tensor: $0.value) }
    guard try Self.checksum(list) == metadata["checksum"] else {
      throw Issue([.file(path)], "is damaged: its bytes are not those that were written")
    }
    let scale = metadata["loss_scale"]?.split(separator: " ") ?? []
    self.init(
      step: step, batches: batches, skippedInARow: skipped,
      lossScale: scale.count == 2
        ? LossScale(value: Double(scale[0]) ?? 65536, goodSteps: Int(scale[1]) ?? 0) : nil,
      fingerprint: try RunFingerprint(text: fingerprint),
      trackerRunID: metadata["tracker_run"], tensors: tensors)
  }

  init(
    step: Int, batches: Int, skippedInARow: Int, lossScale: LossScale?, fingerprint: RunFingerprint,
    trackerRunID: String?, tensors: [String: Tensor]
  ) {
    (self.step, self.batches, self.skippedInARow) = (step, batches, skippedInARow)
    self.lossScale = lossScale
    (self.fingerprint, self.trackerRunID, self.tensors) = (fingerprint, trackerRunID, tensors)
  }

  /// The FNV-1a hash of keys and 64-bit words. It runs at memory speed, and any changed byte
  /// changes it.
  static func checksum(_ tensors: [(key: String, tensor: Tensor)]) throws -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func add(_ word: UInt64) { hash = (hash ^ word) &* 0x100_0000_01b3 }
    for (key, tensor) in tensors {
      for byte in key.utf8 { add(UInt64(byte)) }
      try tensor.contiguous().withUnsafeBytes { bytes in
        let words = bytes.count / 8
        for index in 0..<words {
          add(bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        for byte in bytes[(words * 8)...] { add(UInt64(byte)) }
      }
    }
    return String(hash, radix: 16)
  }
}
