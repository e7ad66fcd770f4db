import Foundation
import Generation
import Media
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

@Suite struct PreprocessingFrameTests {
  private static let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Fixtures/frame-filling.safetensors").path

  private func frame(_ x: Tensor) throws -> RGBFrame {
    RGBFrame(bytes: try x.array(of: UInt8.self), width: x.size(1), height: x.size(0))
  }

  /// Downscaled, upscaled, along one side only, and unchanged: like PyTorch, to a few roundings of
  /// float32.
  @Test(arguments: 0..<6) func framesFillABucketAsPyTorchFillsIt(_ index: Int) throws {
    let file = try SafetensorsFile(path: Self.fixture)
    let wanted = try file.tensor("\(index).pixels")
    let pixels = try FrameTensors.pixels(
      [frame(file.tensor("\(index).frame"))], filling: (wanted.size(2), wanted.size(1)))
    #expect(pixels.shape == [1, 3, 1, wanted.size(1), wanted.size(2)])
    let difference = try (pixels.squeeze(2).squeeze(0) - wanted).abs().amax().item()
    #expect(difference <= 2e-6, "the largest difference is \(difference)")
    #expect(try wanted.amax().item() == 1, "a case that does not overshoot tests no clipping")
  }

  /// Scaling during the conversion gives the same result as scaling the full RGB frame.
  @Test(arguments: [
    "a.mp4 -c:v libx264 -pix_fmt yuv420p", "a.mkv -c:v ffv1 -pix_fmt yuv422p",
    "a.mkv -c:v ffv1 -pix_fmt yuv420p10le",
    "a.mkv -c:v ffv1 -pix_fmt bgra", "odd.mkv -c:v ffv1 -pix_fmt yuv420p -vf scale=401:263",
    "tagged.mkv -c:v ffv1 -pix_fmt yuv420p10le -color_trc smpte2084 -color_primaries bt2020 -colorspace bt2020nc",
    "small.mkv -c:v ffv1 -pix_fmt yuv420p -vf scale=24:18",
  ])
  func framesAreScaledWhileTheyAreConverted(_ line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    let scratch = try ScratchFolder()
    let path = scratch.file(words[0])
    try runFFmpeg(
      ["-f", "lavfi", "-i", "testsrc2=s=400x300:d=0.08:r=25"] + words.dropFirst() + [path])
    for size in [(64, 64), (96, 32), (384, 256)] {
      let (a, b) = (try VideoReader(path: path), try VideoReader(path: path))
      while let frame = try a.nextFrame() {
        let rgb = try #require(try b.next())
        #expect((frame.index, frame.seconds) == (rgb.index, rgb.seconds))
        let difference = try (FrameTensors.filled(frame, size) - FrameTensors.filled(rgb, size))
          .abs().amax()
          .item()
        #expect(difference <= 2e-6, "\(difference)")
        #expect(try frame.rgb() == rgb)
      }
      #expect(try b.next() == nil)
    }
  }

  @Test func channelFrameRowAndColumnKeepTheirPlaces() throws {
    var frames: [RGBFrame] = []
    for f in 0..<2 {
      var bytes: [UInt8] = []
      for y in 0..<2 {
        for x in 0..<3 { bytes += (0..<3).map { c in UInt8(100 * f + 20 * y + 5 * x + c) } }
      }
      frames.append(RGBFrame(bytes: bytes, width: 3, height: 2))
    }
    let pixels = try FrameTensors.pixels(frames)
    #expect(pixels.shape == [1, 3, 2, 2, 3])
    let at = try pixels.select(0, 0).select(0, 2).select(0, 1).select(0, 1).select(0, 0).item()
    #expect(abs(at - (122.0 / 255 * 2 - 1)) < 1e-6)
  }

  @Test func framesToPixelsAndBackAreTheSameInBfloat16Nearly() throws {
    let bytes = (0..<(3 * 16 * 16)).map { UInt8(truncatingIfNeeded: $0 * 7) }
    let frames = [bytes, bytes.reversed()].map { RGBFrame(bytes: $0, width: 16, height: 16) }
    let pixels = try FrameTensors.pixels(frames)
    #expect(try FrameTensors.frames(pixels).map(\.bytes) == frames.map(\.bytes))
    let rounded = try FrameTensors.frames(pixels.to(.bfloat16))
    let differences = zip(rounded[0].bytes, frames[0].bytes).map { abs(Int($0) - Int($1)) }
    #expect((differences.max() ?? 255) <= 1)
    // Values beyond -1 and 1 are clipped, not wrapped around.
    let wild = try FrameTensors.frames(Tensor([-3, 1.5, 0] as [Float], shape: [1, 3, 1, 1, 1]))
    #expect(wild[0].bytes == [0, 255, 128])
  }

  @Test func unconvertibleFramesAreReported() throws {
    let small = RGBFrame(bytes: [0, 0, 0], width: 1, height: 1)
    let large = RGBFrame(bytes: [0, 0, 0, 0, 0, 0], width: 2, height: 1, index: 1)
    #expect(message { _ = try FrameTensors.pixels([]) } == "frames: are missing")
    #expect(
      message { _ = try FrameTensors.pixels([small, large]) }.contains(
        "has 2x1 pixels (expected 1x1")
    )
    #expect(message { _ = try FrameTensors.filled(small, (0, 4)) }.contains("can't fill 0x4"))
    #expect(
      message { _ = try FrameTensors.frames(Tensor.zeros([1, 4, 1, 2, 2])) }.contains(
        "[1, 3, frames, height, width]"))
  }
}

@Suite struct ReadAheadTests {
  @Test(arguments: [1, 3]) func elementsComeInTheirOrder(_ threads: Int) throws {
    let ahead = ReadAhead(count: 50, capacity: 4, threads: threads) { index in
      if index % 5 == 0 { Thread.sleep(forTimeInterval: 0.002) }
      return index * index
    }
    #expect(try (0..<50).map { _ in try ahead.next() } == (0..<50).map { $0 * $0 })
    #expect(try ahead.next() == nil)
  }

  @Test func errorsComeInTheirPlace() throws {
    struct Odd: Error, Equatable { let index: Int }
    let ahead = ReadAhead(count: 4, capacity: 4, threads: 2) { index in
      guard index.isMultiple(of: 2) else { throw Odd(index: index) }
      return index
    }
    #expect(try ahead.next() == 0)
    #expect(throws: Odd(index: 1)) { try ahead.next() }
    #expect(try ahead.next() == 2)
    #expect(throws: Odd(index: 3)) { try ahead.next() }
    #expect(try ahead.next() == nil)
  }

  @Test func itStaysNoFurtherAheadThanItMayAndEndsWhenNobodyListens() throws {
    let made = Counter()
    do {
      let ahead = ReadAhead(count: 1000, capacity: 2) { made.count($0) }
      _ = try ahead.next()
      Thread.sleep(forTimeInterval: 0.1)
      #expect(made.value <= 4)
    }
    Thread.sleep(forTimeInterval: 0.1)
    #expect(made.value <= 4)
  }

  private final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var counted = 0
    var value: Int { lock.withLock { counted } }

    func count(_ index: Int) -> Int {
      lock.withLock { counted += 1 }
      return index
    }
  }
}
