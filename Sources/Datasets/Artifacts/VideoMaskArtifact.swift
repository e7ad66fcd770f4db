// F H W latent frames, rows, columns.

import LTX
import TensorFiles
import Torch

extension CacheFolder {
  /// Masks of the clip's latents.
  public static let videoMasks = CacheFolder(rawValue: "video_masks")
}

extension Role {
  /// The clip's mask, white where the clip is conditioned and not generated.
  public static let videoMask = Role("video_mask")
}

/// The mask of a clip over the cells of its latents: [F, H, W], 1 where the clip is conditioned.
struct VideoMaskArtifact: MaskArtifact {
  let folder = CacheFolder.videoMasks
  let noun = "video mask"
  let column: Role? = .videoMask
  let base: CacheFolder? = .latents
  let reasonUnsuited = "there are no videos"
  let component: ModelFiles.Component? = nil
  let dimensions = ["frames", "rows", "columns"]
  let decoding: CacheDecoding? = .mask(into: "decoded_video_masks", hasFrames: true)

  func suits(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool {
    sample.paths[.video] != nil
  }

  func expectation(_ inputs: ArtifactInputs) throws -> Expectation {
    guard let clip = inputs.clip, let path = source(of: inputs.sample) else { return .unknown }
    let (rules, factors) = (inputs.rules, inputs.rules.factors)
    return .made(
      Fingerprint(
        folder,
        [
          .source: try rules.hashes.sha256(of: path), .bucket: "\(clip.bucket)",
          .sourceSize: "\(clip.shape)",
          .options: rules.settings(
            rules.rate, rules.interlacing,
            "cells=\(factors.width)x\(factors.height)x\(factors.time)"),
        ], version: rules.frameRules))
  }

  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample
  ) throws {
    guard let clip = inputs.clip, let path = source(of: inputs.sample) else { return }
    let mask: Tensor
    if inputs.options.isCompatible {
      mask = try reader.masks.compatibleCells(path, bucket: clip.bucket)
    } else {
      let (cells, note) = try reader.masks.cells(path, bucket: clip.bucket, shape: clip.shape)
      if let note { sample.warnings.append((folder, "\(path): \(note)")) }
      mask = cells
    }
    sample.files.append(
      PreparedFile(
        artifact: self, content: .values(values(mask)), fingerprint: fingerprint))
  }

  func requirement(_ latents: CachedFacts) -> (shape: [Int], clause: String)? {
    latents.video.map { video in
      let shape = [video.frames, video.rows, video.columns]
      return (shape, "the latents are \(shape)")
    }
  }
}
