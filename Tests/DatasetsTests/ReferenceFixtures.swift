import Foundation
import TensorFiles
import Torch

/// The results of `Tests/Oracles/preprocessing.py`, and functions that recreate its inputs.
enum ReferenceFixtures {
  private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()

  /// A file of `Tests/Fixtures/preprocessing`.
  static func path(_ name: String) -> String {
    tests.appendingPathComponent("Fixtures/preprocessing/\(name)").path
  }

  /// A clip linked by `Scripts/test-media`.
  static func clip(_ name: String) -> String {
    tests.deletingLastPathComponent().appendingPathComponent(".deps/media/\(name)").path
  }

  static func tensors(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: path("\(name).safetensors"))
  }

  static func cases<Case: Decodable>(_ name: String, of _: Case.Type = Case.self) throws -> [Case] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(
      [Case].self, from: Data(contentsOf: URL(fileURLWithPath: path("\(name).json"))))
  }

  /// The `wave` of `preprocessing_sound.py`: 16-bit samples, with a different chirp in each
  /// channel. [channel][sample]
  static func wave(channels: Int, samples: Int) -> [[Int16]] {
    (0..<channels).map { (c: Int) -> [Int16] in
      (0..<samples).map { (n: Int) -> Int16 in
        let phase: Int = n * n * (c + 3) + n * (17 * c + 5)
        return Int16(phase % 20011 - 10005)
      }
    }
  }

  /// The `steps` of `preprocessing_sound.py`: alternately loud and soft for `length` samples.
  /// [channel][sample]
  static func steps(channels: Int, samples: Int, length: Int) -> [[Int16]] {
    (0..<channels).map { (c: Int) -> [Int16] in
      (0..<samples).map { (n: Int) -> Int16 in
        let level: Int16 = (n + c * length / 2) / length % 2 == 0 ? 30000 : 3000
        return n % 2 == 0 ? level : -level
      }
    }
  }

  /// A WAV of exactly these samples.
  static func wav(_ channels: [[Int16]], sampleRate: Int) -> Data {
    var data = Data("RIFF".utf8)
    func put<Number: FixedWidthInteger>(_ number: Number) {
      withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
    }
    let (count, frameBytes) = (channels[0].count, 2 * channels.count)
    put(UInt32(36 + count * frameBytes))
    data.append(contentsOf: "WAVEfmt ".utf8)
    put(UInt32(16))
    put(UInt16(1))
    put(UInt16(channels.count))
    put(UInt32(sampleRate))
    put(UInt32(sampleRate * frameBytes))
    put(UInt16(frameBytes))
    put(UInt16(16))
    data.append(contentsOf: "data".utf8)
    put(UInt32(count * frameBytes))
    for index in 0..<count { for channel in channels { put(channel[index]) } }
    return data
  }

  /// The peak signal-to-noise ratio in dB of pixels in -1 ... 1; infinite if they are equal.
  static func psnr(_ a: Tensor, _ b: Tensor) throws -> Double {
    let error = try (a.to(.float64) - b.to(.float64)).square().mean().item()
    return 10 * log10(4 / error)
  }
}
