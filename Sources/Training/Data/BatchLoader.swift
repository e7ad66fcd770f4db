// B batch, S text tokens, Wv/Wa widths of the text features.

import Datasets
import LTX
import Support
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

/// The batches of a run that one of several ranks processes.
///
/// The batches of a step belong to the run, whatever the number of ranks is: they are dealt to the
/// ranks in turn, so that some ranks may have one more than others.
struct BatchShare: Equatable, Sendable {
  /// The number of batches that all ranks together process in one step, at least one for each.
  let batchesPerStep: Int
  let ranks: WorkShare

  /// The number of batches of this rank in a step.
  var count: Int { ranks.count(of: batchesPerStep) }
  /// The number of batches of the rank with the most.
  var largestCount: Int { ranks.largest(of: batchesPerStep) }

  /// The number of a batch over the whole run and all ranks.
  ///
  /// - Parameter index: counts the batches of this rank from step `first`.
  func number(_ index: Int, from first: Int) -> Int {
    (first + index / count) * batchesPerStep + ranks.index + index % count * ranks.count
  }
}

/// Loads the batches of a run in order and draws their random numbers, some of them ahead of time on
/// worker threads.
final class BatchLoader {
  typealias Item = (batch: LoadedBatch, draws: TrainingDraws)

  private let ahead: ReadAhead<Item>?
  private let read: @Sendable (Int) throws -> Item
  private var taken = 0

  /// - Parameters:
  ///   - share: the batches of this rank.
  ///   - steps: the steps whose batches will be requested.
  ///   - workers: the number of threads that load ahead; with 0, each batch is loaded when it is
  ///     requested.
  ///   - captionDropout: selects the samples that come with the empty prompt's features.
  ///   - device: the target of the batches; for a GPU they are put into page-locked memory.
  ///   - draws: draws the random numbers of a batch.
  init(
    _ dataset: PrecomputedDataset, order: BatchOrder, share: BatchShare, steps: Range<Int>,
    workers: Int, device: Device, captionDropout: CaptionDropout? = nil,
    draws: @escaping @Sendable (LoadedBatch) throws -> TrainingDraws
  ) {
    let order = Mutex(order)
    let read: @Sendable (Int) throws -> Item = { index in
      let number = share.number(index, from: steps.lowerBound)
      let batch = try dataset.load(
        order.withLock { try $0.batch(number) }, number: number, captionDropout)
      let drawn = try draws(batch)
      guard device != .cpu else { return (batch, drawn) }
      return (try batch.pinned(), try drawn.compactMap { try $1.mapTensors { try $0.pinned() } })
    }
    self.read = read
    ahead =
      workers == 0
      ? nil
      : ReadAhead(
        count: steps.count * share.count, capacity: workers * 2, threads: workers, read)
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
