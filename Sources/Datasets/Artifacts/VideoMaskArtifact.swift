// F H W latent frames, rows, columns.

import LTX
import Support
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

/// The mask of a clip, by the cells of its latents: [F, H, W], 1 where the clip is conditioned.
struct VideoMaskArtifact: Artifact {
  let folder = CacheFolder.videoMasks
  let noun = "video mask"
  let contents = "video mask"
  let column: Role? = .videoMask
  let base: CacheFolder? = .latents
  let reasonUnsuited = "there are no videos"
  let component: ModelFiles.Component? = nil
  let survivesUpstreamOverwrite = true
  let mayBeZero = true
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
        artifact: self, content: .values(["mask": .tensor(mask)]), fingerprint: fingerprint))
  }

  func inspect(_ file: SampleFile) throws -> CachedFacts {
    try .mask(file, dimensions: ["frames", "rows", "columns"])
  }

  func mismatches(
    _ file: CacheReading.File, of sample: String, in reading: CacheReading,
    _ checker: CacheChecker
  ) -> [(kind: DatasetProblem.Kind, problem: String)] {
    guard let shape = file.facts.mask, let video = reading[.latents, sample]?.facts.video else {
      return []
    }
    let expected = [video.frames, video.rows, video.columns]
    return shape == expected
      ? [] : [(.mismatch, "mask has shape \(shape), but the latents are \(expected)")]
  }
}

extension CachedFacts {
  /// The facts of a mask.
  ///
  /// - Parameter dimensions: the names of the mask's dimensions.
  /// - Throws: `Issue` for a mask with other dimensions.
  static func mask(_ file: SampleFile, dimensions: [String]) throws -> CachedFacts {
    guard let shape = file.arrays["mask"]?.shape else {
      throw Issue([.file(file.path)], "mask is missing")
    }
    guard shape.count == dimensions.count, !shape.contains(0) else {
      throw Issue(
        [.file(file.path)],
        "mask has shape \(shape); expected [\(dimensions.joined(separator: ", "))]")
    }
    return CachedFacts(tensor: "mask", mask: shape)
  }
}
