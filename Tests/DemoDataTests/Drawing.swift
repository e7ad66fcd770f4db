import DemoData
import DemoJudges
import Foundation
import Media
import Testing

/// Clips of the world, as judges get them.
enum Drawing {
  static func frames(
    _ scene: DemoScene, count: Int = 11, blur sigma: Double? = nil, noise: Double = 0
  ) throws -> DecodedFrames {
    let side = DemoScene.side
    var noises = Noise(state: scene.seed | 1)
    let frames = (0..<count).map { frame in
      var bytes = scene.pixels(frame: frame, of: count)
      if let sigma {
        let frame = RGBFrame(bytes: bytes, width: side, height: side)
        bytes = GaussianBlur(sigma: sigma).blurred(frame).bytes
      }
      if noise > 0 { bytes = bytes.map { noises.added(to: $0, noise) } }
      return bytes
    }
    return try #require(DecodedFrames(frames, width: side, height: side))
  }

  private struct Noise {
    var state: UInt64

    /// The sum of four uniform values is nearly normal.
    mutating func added(to byte: UInt8, _ deviation: Double) -> UInt8 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      var sum = -510
      for shift in [32, 40, 48, 56] { sum += Int(state >> UInt64(shift) & 0xFF) }
      return UInt8(min(255, max(0, Double(byte) + Double(sum) / 147.8 * deviation)))
    }
  }
}

/// The number of right answers of judges.
struct Score: CustomStringConvertible {
  var color = 0
  var shape = 0
  var size = 0
  var direction = 0
  var register = 0
  var contour = 0
  var count = 0
  var errors: [String] = []

  mutating func add(_ verdict: VideoVerdict, _ scene: DemoScene) {
    count += 1
    color += verdict.color == scene.color ? 1 : 0
    shape += verdict.shape == scene.shape ? 1 : 0
    size += verdict.size == scene.size ? 1 : 0
    direction += verdict.direction == scene.direction ? 1 : 0
    if verdict.color != scene.color || verdict.shape != scene.shape
      || verdict.direction != scene.direction
    {
      errors.append("\(scene): \(verdict)")
    }
  }

  mutating func add(_ verdict: AudioVerdict, _ scene: DemoScene) {
    register += verdict.register == scene.register ? 1 : 0
    contour += verdict.contour == scene.contour ? 1 : 0
    if verdict.register != scene.register || verdict.contour != scene.contour {
      let heard = "\(verdict.frequency ?? 0) Hz, \(verdict.octaves ?? 0) octaves"
      errors.append("\(scene): \(heard)")
    }
  }

  /// The smallest share of right answers about frames.
  var video: Double { Double(min(color, shape, size, direction)) / Double(max(1, count)) }
  /// The smallest share of right answers about audio, if each clip was added with its audio.
  var audio: Double { Double(min(register, contour)) / Double(max(1, count)) }

  var description: String {
    "of \(count): color \(color), shape \(shape), size \(size), direction \(direction), "
      + "register \(register), contour \(contour)\n"
      + errors.prefix(8).joined(separator: "\n")
  }
}
