import Foundation
import LTX
import TensorFiles

/// What a cached file was made from, kept in its metadata: the file is used again only if all of it is as before.
struct Fingerprint: Equatable, Sendable {
  let fields: [String: String]

  /// Of text features.
  ///
  /// - Parameters:
  ///   - prompt: what the text encoder reads: trigger and caption.
  ///   - model: `FileIdentity` of the checkpoint; likewise `textEncoder`.
  static func conditions(prompt: String, model: String, textEncoder: String, dtype: String) -> Fingerprint {
    Fingerprint(fields: [
      "content": "ltx conditions 1", "prompt": prompt, "model": model, "text_encoder": textEncoder,
      "dtype": dtype,
    ])
  }

  /// Of video latents. A source that can't be looked at has none, and so never fits.
  ///
  /// - Parameters:
  ///   - buckets: all that there were to choose from.
  ///   - tiling: how large clips were cut into tiles; empty if not.
  static func latents(
    of sample: DatasetSample, buckets: [ResolutionBucket], model: String, dtype: String, tiling: String
  ) -> Fingerprint? {
    var status = stat()
    guard stat(sample.mediaPath, &status) == 0 else { return nil }
    return Fingerprint(fields: [
      "content": "ltx latents 1", "source": sample.media, "source_bytes": String(status.st_size),
      "source_modified": "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)",
      "buckets": buckets.map(\.description).joined(separator: ";"), "model": model, "dtype": dtype,
      "tiling": tiling,
    ])
  }

  /// Whether there is a whole file of tensors at the path that was made from just this.
  func fits(_ path: String) -> Bool {
    guard access(path, F_OK) == 0 else { return false }
    do {
      return try SafetensorsFile(path: path).metadata == fields
    } catch {
      return false  // damaged, or no cached file at all: made anew
    }
  }
}
