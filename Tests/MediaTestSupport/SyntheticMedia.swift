import Foundation
import Media
import Testing

/// A temporary folder, removed when the test is done.
package final class TemporaryFolder {
  package let path: String

  package init() throws {
    path =
      FileManager.default.temporaryDirectory.appendingPathComponent("media-" + UUID().uuidString)
      .path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit {
    do { try FileManager.default.removeItem(atPath: path) } catch {
      Issue.record("cannot remove \(path): \(error)")
    }
  }

  package func file(_ name: String) -> String { path + "/" + name }
  package func contents() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: path).sorted()
  }
}

/// A moving gradient with different colors in each scene, smooth enough for H.264.
package func gradient(width: Int, height: Int, scene: Int, time: Int) -> RGBFrame {
  let colors: [(Int, Int, Int)] = [(230, 40, 30), (20, 60, 200), (40, 210, 60), (240, 230, 220)]
  let (red, green, blue) = colors[scene % colors.count]
  var bytes = [UInt8](repeating: 0, count: 3 * width * height)
  bytes.withUnsafeMutableBufferPointer { bytes in
    for y in 0..<height {
      for x in 0..<width {
        let shade = (x + y + 2 * time) % 64
        let i = 3 * (y * width + x)
        bytes[i] = UInt8(min(255, max(0, red + shade / 4 - 8)))
        bytes[i + 1] = UInt8(min(255, max(0, green + shade / 4 - 8)))
        bytes[i + 2] = UInt8(min(255, max(0, blue + shade / 4 - 8)))
      }
    }
  }
  return RGBFrame(bytes: bytes, width: width, height: height)
}

/// The frames of consecutive scenes of given lengths.
package func scenes(_ lengths: [Int], width: Int = 64, height: Int = 48) -> [RGBFrame] {
  var time = 0
  return lengths.enumerated().flatMap { scene, length in
    (0..<length).map { _ in
      time += 1
      return gradient(width: width, height: height, scene: scene, time: time)
    }
  }
}

/// Samples of a sine whose phase reveals the time; one second is `rate` samples.
package func tone(from start: Int, count: Int, rate: Int, channels: Int) -> [[Float]] {
  (0..<channels).map { channel in
    (start..<(start + count)).map { i in
      0.5 * sin(2 * Float.pi * Float(330 * (channel + 1)) * Float(i % rate) / Float(rate))
    }
  }
}

@discardableResult
package func write(
  _ frames: [RGBFrame], to path: String, rate: Rational = Rational(25),
  audio: VideoWriter.Audio? = nil,
  crf: Int = 12
) throws -> String {
  let first = try #require(frames.first)
  let writer = try VideoWriter(
    path: path, width: first.width, height: first.height, frameRate: rate, audio: audio,
    quality: .init(crf: crf, preset: "veryfast"))
  var written = 0
  for (i, frame) in frames.enumerated() {
    try writer.append(frame)
    if let audio {
      let end = Int((Double(i + 1) / rate.value * Double(audio.sampleRate)).rounded())
      try writer.append(
        audio: tone(
          from: written, count: end - written, rate: audio.sampleRate, channels: audio.channelCount)
      )
      written = end
    }
  }
  try writer.finish()
  return path
}

package func readAll(_ path: String) throws -> (frames: [RGBFrame], ending: Ending) {
  let reader = try VideoReader(path: path)
  var frames: [RGBFrame] = []
  while let frame = try reader.next() { frames.append(frame) }
  return (frames, reader.ending)
}

/// Peak signal to noise ratio in dB; infinite for equal images.
package func psnr(_ a: RGBFrame, _ b: RGBFrame) -> Double {
  guard a.bytes.count == b.bytes.count else { return -.infinity }
  var sum = 0
  a.bytes.withUnsafeBufferPointer { a in
    b.bytes.withUnsafeBufferPointer { b in
      for i in 0..<a.count {
        let difference = Int(a[i]) - Int(b[i])
        sum += difference * difference
      }
    }
  }
  return 10 * log10(255 * 255 * Double(a.bytes.count) / Double(sum))
}

/// The `MediaError` that the body throws.
package func mediaError(_ body: () throws -> Void) -> MediaError? {
  do { try body() } catch { return error as? MediaError }
  return nil
}

/// Runs the `ffmpeg` command line program, to create files that the library here doesn't write.
package func ffmpeg(
  _ arguments: [String], in folder: TemporaryFolder,
  sourceLocation: SourceLocation = #_sourceLocation
)
  throws
{
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = ["ffmpeg", "-nostdin", "-v", "error", "-y"] + arguments
  process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
  try process.run()
  process.waitUntilExit()
  #expect(process.terminationStatus == 0, "ffmpeg failed", sourceLocation: sourceLocation)
}

/// Runs the program `ffmpeg` and returns its output.
@discardableResult
package func ffmpeg(_ arguments: [String], in folder: String) throws -> String {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = ["ffmpeg", "-v", "error", "-nostdin", "-y"] + arguments
  process.currentDirectoryURL = URL(fileURLWithPath: folder)
  let output = Pipe()
  process.standardOutput = output
  try process.run()
  let data = try output.fileHandleForReading.readToEnd() ?? Data()
  process.waitUntilExit()
  try #require(process.terminationStatus == 0, "ffmpeg \(arguments.joined(separator: " "))")
  return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
}
