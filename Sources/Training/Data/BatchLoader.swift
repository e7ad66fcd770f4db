// B batch, S text tokens, Wv/Wa widths of the text features.

import Datasets
import LTX
import Synchronization
import Torch

/// A batch from the cache, on the CPU.
public struct LoadedBatch: Sendable {
  /// The number of the batch, from 0, over the whole run and all ranks.
  public let number: Int
  let order: BatchOrder.Batch
  /// The file of each sample's text features.
  let textFiles: [String]
  public let batch: TrainingBatch
  /// The features before the connectors: [B, S, Wv], [B, S, Wa], and the mask [B, S].
  public let text: TextFeatures
}

/// Loads the batches of a run in order and draws their random numbers, some of them ahead of time on
/// worker threads.
final class BatchLoader {
  typealias Item = (batch: LoadedBatch, draws: TrainingDraws)

  private let ahead: ReadAhead<Item>?
  private let read: @Sendable (Int) throws -> Item
  private var taken = 0

  /// - Parameters:
  ///   - first: the number of the first batch.
  ///   - stride: the distance to the next batch, one batch for each rank.
  ///   - count: the number of batches that will be requested.
  ///   - workers: the number of threads that load ahead; with 0, each batch is loaded when it is
  ///     requested.
  ///   - captionDropout: selects the samples that come with the empty prompt's features.
  ///   - device: the target of the batches; for a GPU they are put into page-locked memory.
  ///   - draws: draws the random numbers of a batch.
  init(
    _ dataset: PrecomputedDataset, order: BatchOrder, first: Int, stride: Int, count: Int,
    workers: Int, device: Device, captionDropout: CaptionDropout? = nil,
    draws: @escaping @Sendable (LoadedBatch) throws -> TrainingDraws
  ) {
    let order = Mutex(order)
    let read: @Sendable (Int) throws -> Item = { index in
      let number = first + index * stride
      let batch = try dataset.load(
        order.withLock { try $0.batch(number) }, number: number, captionDropout)
      let drawn = try draws(batch)
      guard device != .cpu else { return (batch, drawn) }
      return (try batch.pinned(), try drawn.compactMap { try $1.mapTensors { try $0.pinned() } })
    }
    self.read = read
    ahead =
      workers == 0
      ? nil : ReadAhead(count: count, capacity: workers * 2, threads: workers, read)
  }

  /// - Precondition: called at most once for each batch.
  func next() throws -> Item {
    defer { taken += 1 }
    return try ahead?.next() ?? read(taken)
  }
}

extension PrecomputedDataset {
  /// Loads and stacks the samples of a batch.
  func load(
    _ order: BatchOrder.Batch, number: Int, _ captionDropout: CaptionDropout? = nil
  ) throws -> LoadedBatch {
    let textFiles = order.samples.enumerated().map { offset, sample in
      if let captionDropout, captionDropout.drops(position: order.position + offset) {
        return captionDropout.file
      }
      return entries[sample].files[Self.textFolder] ?? entries[sample].name
    }
    let samples = try zip(order.samples, textFiles).map { try sample($0, textFile: $1) }
    func latents(_ folder: String) throws -> CachedLatents? {
      let own = samples.compactMap { $0.latents[folder] }
      guard !own.isEmpty, own.count == samples.count else { return nil }
      return CachedLatents(try Tensor.stack(own.map(\.tensor)), fps: own.flatMap(\.fps))
    }
    let batch = try strategies.compactMap { _, strategy -> ModalityBatch? in
      guard let own = try latents(strategy.latentsFolder) else { return nil }
      var batch = ModalityBatch(latents: own)
      for condition in strategy.conditions {
        if let folder = condition.referenceFolder {
          batch.references[folder] = try latents(folder)
        }
        if let folder = condition.maskFolder {
          batch.masks[folder] = try Tensor.stack(samples.compactMap { $0.masks[folder] })
        }
      }
      return batch
    }
    let video = try Tensor.stack(samples.map(\.videoFeatures))
    let audio = samples.compactMap(\.audioFeatures)
    return LoadedBatch(
      number: number, order: order, textFiles: textFiles,
      batch: batch,
      text: TextFeatures(
        PerModality(
          video: video, audio: audio.count == samples.count ? try Tensor.stack(audio) : video),
        mask: try Tensor.stack(samples.map(\.textMask))))
  }
}

extension LoadedBatch {
  /// A copy in page-locked memory.
  fileprivate func pinned() throws -> LoadedBatch {
    LoadedBatch(
      number: number, order: order, textFiles: textFiles,
      batch: try batch.mapTensors { try $0.pinned() },
      text: try text.map {
        try $0.pinned()
      } mask: {
        try $0.pinned()
      })
  }
}
