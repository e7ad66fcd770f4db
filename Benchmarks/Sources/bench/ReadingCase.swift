import Foundation
import Media

/// Reads a 4K clip into a small bucket, as preprocessing does, and compares with FFmpeg's own
/// decoding and scaling: CPU time per frame. The resize kernels are the same in every build.
struct ReadingCase {
  let folder: URL

  private static let frames = 50
  private static let buckets: [(width: Int, height: Int)] = [(64, 64), (768, 512)]
  private static let clips = [
    (name: "8 bits", options: ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]),
    (
      name: "10 bits, PQ",
      options: ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"]
        + ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"]
    ),
  ]

  func run(rounds: Int, report: (String) -> Void) throws {
    report(
      "reading a 4K clip            ours      FFmpeg decode, decode + scale   ratio   (CPU time a frame)"
    )
    for (index, clip) in Self.clips.enumerated() {
      let path = folder.appendingPathComponent("4k-\(index).mp4").path
      let length = Double(Self.frames) / 25
      try bench.run(
        "/usr/bin/env",
        [
          "ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i",
          "testsrc2=s=3840x2160:r=25:d=\(length)",
        ]
          + clip.options + [path])
      for bucket in Self.buckets {
        var (ours, decode, scale): ([Double], [Double], [Double]) = ([], [], [])
        for _ in 0..<rounds {
          ours.append(try read(path, bucket))
          decode.append(try ffmpeg(path, []))
          scale.append(
            try ffmpeg(path, ["-vf", "scale=\(bucket.width):\(bucket.height),format=rgb24"]))
        }
        let times = [ours, decode, scale].map { $0.median / Double(Self.frames) * 1e3 }
        report(
          "\(clip.name), \(bucket.width)x\(bucket.height)".padding(
            toLength: 24, withPad: " ", startingAt: 0)
            + String(
              format: "%7.1f ms %10.1f ms %10.1f ms %12.2f", times[0], times[1], times[2],
              times[0] / times[2]
            ))
      }
    }
  }

  private func read(_ path: String, _ bucket: (width: Int, height: Int)) throws -> Double {
    let start = ProcessTime.now
    let reader = try VideoReader(path: path)
    let scaled =
      reader.width * bucket.height > bucket.width * reader.height
      ? (width: reader.width * bucket.height / reader.height, height: bucket.height)
      : (width: bucket.width, height: reader.height * bucket.width / reader.width)
    let geometry = FrameResizer.Geometry(
      scaled: scaled,
      cut: (
        (scaled.width - bucket.width) / 2, (scaled.height - bucket.height) / 2, bucket.width,
        bucket.height
      ))
    var count = 0
    while let frame = try reader.nextFrame() {
      guard try frame.filled(geometry).count == 3 * bucket.width * bucket.height else {
        throw BenchmarkError("a frame of another size")
      }
      count += 1
    }
    guard count == Self.frames else { throw BenchmarkError("\(count) frames were read") }
    return ProcessTime.now - start
  }

  private func ffmpeg(_ path: String, _ filter: [String]) throws -> Double {
    try bench.run(
      "/usr/bin/env", ["ffmpeg", "-v", "error", "-i", path] + filter + ["-f", "null", "-"])
  }
}
