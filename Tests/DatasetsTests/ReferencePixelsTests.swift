import Foundation
import Generation
import Media
import Testing
import Torch

@testable import Datasets

/// Real clips and images, decoded and scaled to a bucket, against PyAV, Pillow and torchvision.
@Suite struct ReferencePixelsTests {
  private static let clips = [
    "bigbuckbunny.64x32x9", "bigbuckbunny.32x64x9", "bikes.64x64x9", "bikes.96x32x17.every2",
    "carphone_pristine.64x64x9", "carphone_pristine.176x144x1", "carphone_pristine.192x160x1",
  ]

  @Test func everyClipOfTheFixtureIsTested() throws {
    #expect(try ReferenceFixtures.tensors("clips").entries.keys.sorted() == Self.clips.sorted())
  }

  /// Decoding gives the same bytes, so that only the fixture's rounding to float16 differs: at most
  /// 2^-12 between one half and 1.
  @Test(arguments: clips) func clipsEnterTheVAEAsUpstream(_ key: String) throws {
    let wanted = try ReferenceFixtures.tensors("clips").tensor(key).to(.float32)
    let parts = key.split(separator: ".")
    let bucket = try #require(try ResolutionBucket.list(String(parts[1])).first)
    let factor = parts.count > 2 ? try #require(Int(parts[2].dropFirst("every".count))) : 1
    let reader = try VideoReader(
      path: ReferenceFixtures.clip("\(parts[0]).mp4"), applyRotation: false, color: .upstream)
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

  /// The min PSNR in dB. 8-bit PNGs are exact. 16 bits are rounded to 8 differently; JPEG decoders
  /// round differently, and upsample colors of half the resolution with another filter.
  private static let images: [(name: String, least: Double)] = [
    ("alpha.png", 80), ("bilevel.png", 80), ("deep.png", 50), ("deep_grey.png", 50),
    ("grey.jpg", 60),
    ("grey.png", 80), ("grey_alpha.png", 80), ("orientation.jpg", 60), ("palette.png", 80),
    ("profile.png", 50), ("subsampled.jpg", 47),
  ]

  @Test func everyImageOfTheFixtureIsTested() throws {
    let keys = try ReferenceFixtures.tensors("pictures").entries.keys.filter {
      !$0.hasSuffix(".reference")
    }
    #expect(keys.sorted() == Self.images.map(\.name))
  }

  @Test(arguments: images) func imagesEnterTheVAENearlyAsUpstream(
    _ image: (name: String, least: Double)
  ) throws {
    let wanted = try ReferenceFixtures.tensors("pictures").tensor(image.name).to(.float32)
    let reader = try VideoReader(path: ReferenceFixtures.path(image.name), color: .upstream)
    let frame = try #require(try reader.next())
    #expect(reader.isImage && (frame.width, frame.height) == (88, 60))
    let pixels = try FrameTensors.pixels([frame], filling: (wanted.size(3), wanted.size(2)))
      .squeeze(0)
    #expect(pixels.shape == wanted.shape)
    let psnr = try ReferenceFixtures.psnr(pixels, wanted)
    #expect(psnr > image.least, "\(psnr) dB")
    #expect(try reader.next() == nil)
  }
}
