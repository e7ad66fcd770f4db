// F H W latent frames, rows, columns.

import Generation
import LTX
import Media
import Torch

/// Converts a mask clip or image to the cells of a clip's latents: 1 where more than half of a cell
/// is white.
struct MaskReader: Sendable {
  let clips: ClipReader
  let factors: CompressionFactors

  private var rasterizer: MaskRasterizer { MaskRasterizer(factors: factors, rule: .keepsWhite) }

  /// Reads a mask that covers the complete clip. It is scaled, cropped and grouped in time like the
  /// clip: the first frame alone, then the frames of each latent frame, of which the whitest is
  /// used.
  ///
  /// - Parameters:
  ///   - bucket: The bucket of the clip.
  ///   - shape: The shape of the clip.
  /// - Returns: [F, H, W], float32, and a note if the mask ends before the clip, so that its last
  ///   frame is repeated.
  /// - Throws: `MediaError`, `Issue`.
  func cells(
    _ path: String, bucket: ResolutionBucket, shape: Clip.Shape
  ) throws -> (mask: Tensor, note: String?) {
    let read = try clips.frames(path, count: bucket.frames) { frame in
      let pixels = try FrameTensors.filled(
        frame, (bucket.width, bucket.height), shape: (shape.width, shape.height))
      return try rasterizer.cells((pixels.mean([0]) + 1) / 2)
    }
    guard !read.frames.isEmpty else { throw empty(path) }
    var note: String?
    if !read.reader.isImage, read.frames.count < bucket.frames {
      note =
        "the mask ends after \(read.frames.count) of \(bucket.frames) frames; its last frame is repeated"
    }
    return (try rasterizer.mask(read.frames, count: bucket.frames), note)
  }

  /// Reads a mask as upstream does (`process_videos.py`): it is stretched over the bucket without
  /// cropping, and frames are grouped by eights starting with the first one. A mask that ends early
  /// has fewer latent frames.
  func compatibleCells(_ path: String, bucket: ResolutionBucket) throws -> Tensor {
    let rasterizer = MaskRasterizer(factors: factors, rule: .keepsWhite, grouping: .plain)
    let size = [bucket.height, bucket.width]
    let read = try clips.frames(path, count: bucket.frames) {
      try FrameTensors.brightness($0.rgb())
    }
    guard let first = read.frames.first else { throw empty(path) }
    let frames: [Tensor]
    if read.reader.isImage {
      let scaled = try first.unsqueeze(0).unsqueeze(0).resizeBilinearAntialiased(
        size, alignCorners: false)
      frames = Array(
        repeating: try rasterizer.cells(scaled.squeeze(0).squeeze(0)), count: bucket.frames)
    } else {
      frames = try read.frames.map {
        try rasterizer.cells($0.unsqueeze(0).unsqueeze(0).resizeNearest(size).squeeze(0).squeeze(0))
      }
    }
    return try rasterizer.mask(frames, count: bucket.frames)
  }

  private func empty(_ path: String) -> MediaError {
    MediaError(.decoding, file: path, "holds no image", remedy: "Save the mask again.")
  }
}
