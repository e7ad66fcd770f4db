import Foundation
import Media

/// The folder `Tests`.
let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()

/// Media files like those that validation writes.
enum SampleFiles {
  private static func frame(_ index: Int, _ width: Int, _ height: Int) -> RGBFrame {
    let pixels = (0..<height).flatMap { y in
      (0..<width).flatMap { x in
        [
          UInt8(truncatingIfNeeded: 2 * x), UInt8(truncatingIfNeeded: 3 * y),
          UInt8(truncatingIfNeeded: 20 * index),
        ]
      }
    }
    return RGBFrame(bytes: pixels, width: width, height: height)
  }

  static func image(_ path: String, width: Int, height: Int) throws {
    try frame(0, width, height).writePNG(to: path)
  }

  static func video(_ path: String, width: Int, height: Int, frames: Int) throws {
    let writer = try VideoWriter(path: path, width: width, height: height, frameRate: Rational(25))
    for index in 0..<frames { try writer.append(frame(index, width, height)) }
    try writer.finish()
  }

  static func audio(_ path: String, seconds: Double) throws {
    let samples = (0..<Int(16000 * seconds)).map { Float(sin(Double($0) / 8)) / 2 }
    try WAVWriter.write([samples], sampleRate: 16000, to: path)
  }
}
