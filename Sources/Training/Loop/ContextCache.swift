// B batch, S text tokens, D width of a modality's context.

import Foundation
import LTX
import Torch

/// Caches the contexts of the samples that were trained on. The connectors are frozen, so a
/// sample's context is the same in every epoch. On a GPU, the contexts of all samples are computed
/// before the first step, if they fit, and the connectors are released.
///
/// Contexts are kept on the CPU, for a GPU in page-locked memory, up to a number of bytes. They are
/// never evicted: every sample comes once in an epoch, so replacing contexts would gain nothing.
final class ContextCache {
  private let capacity: Int
  private var bytes = 0
  /// The contexts of single samples, by the file of their text features.
  private var kept: [String: TextContexts] = [:]

  /// - Parameter capacity: the limit in bytes.
  init(capacity: Int) { self.capacity = capacity }

  /// A quarter of the host's memory for a GPU, whose own memory is worth more than the host's, and
  /// 1 GiB on the CPU.
  convenience init(for device: Device) {
    let quarter = Int(clamping: ProcessInfo.processInfo.physicalMemory / 4)
    self.init(capacity: device == .cpu ? 1 << 30 : max(quarter, 1 << 30))
  }

  /// Computes the contexts of all samples, if they fit.
  ///
  /// - Parameters:
  ///   - files: the files of the samples' text features.
  ///   - read: reads the features of one sample, [1, S, D].
  ///   - make: computes its context on the device.
  /// - Returns: whether the contexts of all files are kept now.
  func fill(
    _ files: some Collection<String>, for device: Device, read: (String) throws -> TextFeatures,
    _ make: (TextFeatures) throws -> TextContexts
  ) throws -> Bool {
    for file in files where kept[file] == nil {
      let contexts = try make(read(file))
      guard contexts.byteCount * files.count <= capacity else { return false }
      try keep(contexts, of: file, for: device)
    }
    return files.allSatisfy { kept[$0] != nil }
  }

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
    let size = contexts.byteCount
    guard bytes + size <= capacity else { return }
    kept[file] = try contexts.mapTensors {
      device == .cpu ? $0 : try $0.to(.cpu).pinned()
    }
    bytes += size
  }
}

extension TextContexts {
  fileprivate var byteCount: Int { byModality.values().map(\.byteCount).reduce(0, +) }
}

extension TextFeatures {
  /// The features of one sample as a batch, [1, S, D].
  init(ofOne text: (video: Tensor, audio: Tensor?, mask: Tensor)) throws {
    let video = try text.video.unsqueeze(0)
    self.init(
      PerModality(video: video, audio: try text.audio?.unsqueeze(0) ?? video),
      mask: try text.mask.unsqueeze(0))
  }

  /// Returns one sample of the batch, [1, S, D].
  fileprivate func sample(_ index: Int) throws -> TextFeatures {
    func row(_ tensor: Tensor) throws -> Tensor { try tensor.slice(0, from: index, to: index + 1) }
    return try map(row, mask: row)
  }
}
