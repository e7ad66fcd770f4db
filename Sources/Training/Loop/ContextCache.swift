// B batch, S text tokens, D width of a modality's context.

import LTX
import Torch

/// Caches the contexts of the samples that were trained on. The connectors are frozen, so a
/// sample's context is the same in every epoch.
///
/// Contexts are kept on the CPU, for a GPU in page-locked memory, up to a number of bytes. They are
/// never evicted: every sample comes once in an epoch, so replacing contexts would gain nothing.
final class ContextCache {
  private let capacity: Int
  private var bytes = 0
  /// The contexts of single samples, by the file of their text features.
  private var kept: [String: TextContexts] = [:]

  /// - Parameter capacity: the limit in bytes.
  init(capacity: Int = 1 << 30) { self.capacity = capacity }

  /// Returns the contexts of a batch, [B, S, D].
  ///
  /// Each sample's context is computed alone, so that it does not depend on the rest of the batch.
  ///
  /// - Parameter make: computes a context from the features of one sample, on the device.
  func contexts(
    of batch: LoadedBatch, on device: Device, _ make: (TextFeatures) throws -> TextContexts
  ) throws -> TextContexts {
    let samples = try batch.textFiles.enumerated().map { index, file in
      if let contexts = kept[file] {
        return try contexts.mapTensors { try $0.uploaded(to: device) }
      }
      let contexts = try make(batch.text.sample(index))
      try keep(contexts, of: file, for: device)
      return contexts
    }
    if samples.count == 1 { return samples[0] }
    let batched = try PerModality { modality -> Tensor? in
      let parts = samples.compactMap { $0.byModality[modality] }
      return parts.isEmpty ? nil : try Tensor.cat(parts, 0)
    }
    return TextContexts(batched)
  }

  private func keep(_ contexts: TextContexts, of file: String, for device: Device) throws {
    let size = contexts.byModality.values().map(\.byteCount).reduce(0, +)
    guard bytes + size <= capacity else { return }
    kept[file] = try contexts.mapTensors {
      device == .cpu ? $0 : try $0.to(.cpu).pinned()
    }
    bytes += size
  }
}

extension TextFeatures {
  /// Returns one sample of the batch, [1, S, D].
  fileprivate func sample(_ index: Int) throws -> TextFeatures {
    func row(_ tensor: Tensor) throws -> Tensor { try tensor.slice(0, from: index, to: index + 1) }
    return try map(row, mask: row)
  }
}
