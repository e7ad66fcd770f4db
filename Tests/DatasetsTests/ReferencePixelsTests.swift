import Foundation
import Inference
import Media
import Testing
import Torch

@testable import Datasets

/// Real clips and pictures, decoded and brought to a bucket, against PyAV, Pillow and torchvision.
@Suite struct ReferencePixelsTests {
  private static let clips = [
    "bigbuckbunny.64x32x9", "bigbuckbunny.32x64x9", "bikes.64x64x9", "bikes.96x32x17.every2",
    "carphone_pristine.64x64x9", "carphone_pristine.176x144x1", "carphone_pristine.192x160x1",
  ]

  @Test func `Every clip of the fixture is tested`() throws {
    #expect(try ReferenceFixtures.tensors("clips").entries.keys.sorted() == Self.clips.sorted())
  }

  /// Decoding gives the same bytes, so that only the fixture's rounding to float16 is between them: at most 2^-12
  /// between one half and 1.
  @Test(arguments: clips) func `Clips enter the VAE as in the reference`(_ key: String) throws {
    let wanted = try ReferenceFixtures.tensors("clips").tensor(key).to(.float32)
    let parts = key.split(separator: ".")
    let bucket = try #require(try ResolutionBucket.list(String(parts[1])).first)
    let factor = parts.count > 2 ? try #require(Int(parts[2].dropFirst("every".count))) : 1
    let reader = try VideoReader(path: ReferenceFixtures.clip("\(parts[0]).mp4"), applyRotation: false)
    var frames: [Tensor] = []
    for index in 0..<bucket.frames {
      let frame = try #require(try reader.next())
      if index == 0 || (index - 1).isMultiple(of: factor) {
        frames.append(try FrameTensors.filled(frame, (bucket.width, bucket.height)))
      }
    }
    let pixels = try FrameTensors.stack(frames).squeeze(0)
    #expect(pixels.shape == wanted.shape)
    let difference = try (pixels - wanted).abs().amax().item()
    #expect(difference <= 2.5e-4, "the largest difference is \(difference)")
    #expect(try ReferenceFixtures.psnr(pixels, wanted) > 75)
  }
}
