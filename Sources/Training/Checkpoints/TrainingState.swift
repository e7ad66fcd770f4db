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
  /// Trained tensors, the optimizer's state and the moving average; empty in a minimal state.
  var tensors: WholeTensors

  /// Whether the state has no tensors. The weights then come from the checkpoint next to it, in its
  /// precision.
  var isMinimal: Bool { tensors.layouts.isEmpty }

  private static let format = "ltx training state 2"
  /// The key of the checksum, which is the file's last tensor: it is known when the others have been
  /// written.
  private static let checksumKey = "~checksum"

  /// Writes the file atomically, one tensor after the other.
  ///
  /// - Parameter isDurable: whether the file must survive a power cut.
  func write(to path: String, isDurable: Bool) throws {
    var metadata = [
      "format": Self.format, "step": String(step), "batches": String(batches),
      "skipped": String(skippedInARow), "fingerprint": fingerprint.text,
    ]
    metadata["tracker_run"] = trackerRunID
    if let lossScale { metadata["loss_scale"] = "\(lossScale.value) \(lossScale.goodSteps)" }
    // A minimal state has the step in place of tensors.
    var entries =
      isMinimal
      ? [(key: Self.stepKey, dtype: DType.int64, shape: [1])]
      : tensors.layouts.map { (key: $0.key, dtype: $0.value.dtype, shape: $0.value.shape) }
    entries.append((key: Self.checksumKey, dtype: .uint8, shape: [8]))
    var checksum = Checksum()
    try writeSafetensors(entries, metadata: metadata, to: path, isDurable: isDurable) { key in
      if key == Self.checksumKey { return try Tensor(checksum.bytes) }
      let tensor =
        key == Self.stepKey && isMinimal
        ? try Tensor([Int64(step)]) : try tensors.tensor(key).to(.cpu).contiguous()
      try checksum.add(key, tensor)
      return tensor
    }
  }

  private static let stepKey = "step"

  /// Reads only a file's header: the step, and whether the state is minimal.
  static func header(path: String) throws -> (step: Int, isMinimal: Bool) {
    let file = try SafetensorsFile(path: path)
    guard let step = file.metadata["step"].flatMap(Int.init) else {
      throw Issue([.file(path)], "is not the state of a training run")
    }
    return (step, file.entries[stepKey] != nil)
  }

  /// Loads a file, and verifies its checksum.
  ///
  /// - Throws: `TensorFileError`; `Issue` if the file is damaged.
  init(path: String) throws {
    let file = try SafetensorsFile(path: path)
    let metadata = file.metadata
    if metadata["format"] == "ltx training state 1" {
      throw Issue(
        [.file(path)], "is a state of an earlier version of ltx, which this one can't resume from",
        suggestion: "Finish the run with that version, or start a new one from its weights.")
    }
    guard metadata["format"] == Self.format, let step = metadata["step"].flatMap(Int.init),
      let batches = metadata["batches"].flatMap(Int.init),
      let skipped = metadata["skipped"].flatMap(Int.init), let fingerprint = metadata["fingerprint"]
    else { throw Issue([.file(path)], "is not the state of a training run") }
    var tensors: [(key: String, tensor: Tensor)] = []
    var checksum = Checksum()
    for key in file.entries.keys where key != Self.checksumKey {
      let tensor = try file.tensor(key)
      try checksum.add(key, tensor)
      if key != Self.stepKey { tensors.append((key, tensor)) }
    }
    guard try file.tensor(Self.checksumKey).array(of: UInt8.self) == checksum.bytes else {
      throw Issue([.file(path)], "is damaged: its bytes are not those that were written")
    }
    let scale = metadata["loss_scale"]?.split(separator: " ") ?? []
    self.init(
      step: step, batches: batches, skippedInARow: skipped,
      lossScale: scale.count == 2
        ? LossScale(value: Double(scale[0]) ?? 65536, goodSteps: Int(scale[1]) ?? 0) : nil,
      fingerprint: try RunFingerprint(text: fingerprint),
      trackerRunID: metadata["tracker_run"], tensors: WholeTensors(tensors))
  }

  init(
    step: Int, batches: Int, skippedInARow: Int, lossScale: LossScale?, fingerprint: RunFingerprint,
    trackerRunID: String?, tensors: WholeTensors
  ) {
    (self.step, self.batches, self.skippedInARow) = (step, batches, skippedInARow)
    self.lossScale = lossScale
    (self.fingerprint, self.trackerRunID, self.tensors) = (fingerprint, trackerRunID, tensors)
  }
}

/// A checksum of tensors by key, in any order: the sum of their FNV-1a hashes over keys and 64-bit
/// words. It runs at memory speed, and any changed byte changes it.
struct Checksum {
  private(set) var value: UInt64 = 0

  /// - Parameter tensor: on the CPU.
  mutating func add(_ key: String, _ tensor: Tensor) throws {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func add(_ word: UInt64) { hash = (hash ^ word) &* 0x100_0000_01b3 }
    for byte in key.utf8 { add(UInt64(byte)) }
    try tensor.contiguous().withUnsafeBytes { bytes in
      let words = bytes.count / 8
      for index in 0..<words {
        add(bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
      }
      for byte in bytes[(words * 8)...] { add(UInt64(byte)) }
    }
    value &+= hash
  }

  var bytes: [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
}
