import LTX
import NN
import Torch

/// The memory plans of preprocessing, made before anything is loaded.
public struct PreprocessingMemory: Sendable {
  /// The placements of the text encoder's layers.
  let textEncoder: WeightPlacements
  /// The lines of a table for the user; empty if nothing is planned.
  public let table: [String]

  /// - Parameter folders: The folders that files are missing in.
  /// - Throws: `Issue` for the first model that does not fit; `Issue` or `TensorFileError` for files
  ///   that can't be read; `TorchError` if the device can't be asked.
  init(
    _ options: PreprocessingOptions, _ checkpoint: Checkpoint, encoding folders: Set<CacheFolder>
  )
    throws
  {
    guard let limit = try options.memory.limitBytes(on: options.device), !folders.isEmpty else {
      (textEncoder, table) = (options.memory.unplanned, [])
      return
    }
    let text =
      folders.contains(.conditions)
      ? try checkpoint.textEncoderPlan(
        at: options.models.textEncoder, dtype: options.dtype, device: options.device,
        storage: options.textEncoderStorage, options.memory, limitBytes: limit, connects: false)
      : nil
    textEncoder = text?.placements ?? options.memory.unplanned
    var works = [text].compactMap(\.self)
    let clips = options.buckets.map {
      checkpoint.videoEncodingBytes(
        VideoSize(width: $0.width, height: $0.height, frames: $0.frames),
        count: max(1, options.batchSize), tiling: options.tiling, dtype: options.dtype)
    }
    let encodesClips = folders.contains { Artifacts[$0]?.component == .videoVAE }
    if encodesClips, let largest = clips.max() {
      works.append(
        try options.memory.plan(
          "encoding clips", peakBytes: largest, limitBytes: limit,
          suggestion: "Use tiles, smaller buckets or a smaller batch."))
    }
    table = WorkPlan.table(works, limitBytes: limit)
  }
}
