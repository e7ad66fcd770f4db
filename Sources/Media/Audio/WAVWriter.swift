import Foundation
import Support

/// Writes audio as WAV with 16-bit PCM. The file gets its name when it is complete.
public enum WAVWriter {
  /// - Parameters:
  ///   - channels: [channel][sample] of equal length, -1 to 1; louder samples are clipped.
  ///   - sampleRate: The sample rate.
  /// - Throws: `MediaError` for no channels or samples, unequal lengths, samples that are not
  ///   finite, a rate that is not positive, more than 4 GB, or a path that can't be written to.
  public static func write(_ channels: [[Float]], sampleRate: Int, to path: String) throws {
    try AtomicFile.write(
      data(channels, sampleRate: sampleRate, path: path), to: path, failing: MediaError.init(_:))
  }

  /// The bytes of a file.
  ///
  /// - Parameter path: The path to name in errors.
  package static func data(_ channels: [[Float]], sampleRate: Int, path: String) throws -> Data {
    let count = channels.first?.count ?? 0
    guard count > 0, channels.count <= 8, channels.allSatisfy({ $0.count == count }) else {
      throw MediaError(
        .badOption, file: path,
        "audio of \(channels.count) channels with \(channels.map(\.count)) samples",
        remedy: "Give 1 to 8 channels of one length above 0.")
    }
    guard sampleRate > 0, sampleRate <= 10_000_000 else {
      throw MediaError(
        .badOption, file: path, "a sample rate of \(sampleRate) is not possible",
        remedy: "Use one above 0, such as 48000.")
    }
    let frameBytes = 2 * channels.count
    guard count <= (Int(UInt32.max) - 44) / frameBytes else {
      throw MediaError(
        .badOption, file: path, "\(count) samples do not fit into a WAV",
        remedy: "Write shorter audio.")
    }
    let planes = try channels.map { try clipped($0, file: path) }
    var samples = [Int16](repeating: 0, count: count * channels.count)
    for (channel, plane) in planes.enumerated() {
      for (index, sample) in plane.enumerated() {
        // Truncates toward 0, like upstream.
        samples[index * channels.count + channel] = Int16(sample * 32767).littleEndian
      }
    }
    let dataBytes = count * frameBytes
    var data = Data(capacity: 44 + dataBytes)
    func put<Number: FixedWidthInteger>(_ number: Number) {
      withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
    }
    data.append(contentsOf: "RIFF".utf8)
    put(UInt32(36 + dataBytes))
    data.append(contentsOf: "WAVEfmt ".utf8)
    put(UInt32(16))
    put(UInt16(1))  // PCM
    put(UInt16(channels.count))
    put(UInt32(sampleRate))
    put(UInt32(sampleRate * frameBytes))
    put(UInt16(frameBytes))
    put(UInt16(16))
    data.append(contentsOf: "data".utf8)
    put(UInt32(dataBytes))
    samples.withUnsafeBytes { data.append(contentsOf: $0) }
    return data
  }
}
