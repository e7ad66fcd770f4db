import Foundation
import LTX
import Support
import TensorFiles

/// The identity of a text encoder in cached text features.
public enum TextEncoderIdentity {
  private static let int8 = " int8"

  /// Returns the identity with the quantization of the weights.
  ///
  /// - Parameter isInt8: Whether the weights were quantized to int8 while loading.
  static func stored(_ identity: String, isInt8: Bool) -> String { identity + (isInt8 ? int8 : "") }

  /// Returns the `FileIdentity` of the text encoder's files, without the quantization.
  public static func file(of stored: String) -> String {
    stored.hasSuffix(int8) ? String(stored.dropLast(int8.count)) : stored
  }
}

/// Identifies model files without reading all of their gigabytes: by their size, their first
/// megabytes (the names and shapes of all tensors), the beginning of each tensor, and samples of
/// the rest. Different weights differ almost everywhere.
public enum FileIdentity {
  private static let start = 4 << 20
  private static let sample = 4096
  private static let samples = 256

  /// Returns the identity of a model's files, without the text encoder.
  public static func identity(of models: ModelFiles) throws -> String {
    try models.checkpointFiles.map { try identity(of: $0) }.joined(separator: " ")
  }

  /// Returns the identity of a file, or of the models, tokenizer and configuration in a folder.
  ///
  /// - Throws: `Issue` if it can't be read.
  public static func identity(of path: String) throws -> String {
    var hash = Hash()
    for file in try files(path) {
      // A single file may be renamed; in a folder, names matter.
      if file != path { hash.add(Array((file as NSString).lastPathComponent.utf8)) }
      try add(file, to: &hash)
    }
    return String(hash.value, radix: 16)
  }

  private static func files(_ path: String) throws -> [String] {
    // An index represents the shards beside it.
    let folder = (path as NSString).deletingLastPathComponent
    let path = path.hasSuffix(".index.json") ? folder.isEmpty ? "." : folder : path
    guard isFolder(path) else { return [path] }
    do {
      return try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        .filter { $0.hasSuffix(".safetensors") || $0.hasSuffix(".json") || $0.hasSuffix(".model") }
        .map { "\(path)/\($0)" }
    } catch {
      throw Issue([.file(path)], "can't be read: \(reason(of: error))")
    }
  }

  private static func add(_ path: String, to hash: inout Hash) throws {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable(path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw unreadable(path) }
    let size = Int(status.st_size)
    hash.add(UInt64(size))
    try add(descriptor, 0..<min(size, start), path, to: &hash)
    guard size > start else { return }
    if path.hasSuffix(".safetensors") { try addTensors(path, descriptor, to: &hash) }
    let rest = size - start
    if rest <= samples * sample {
      try add(descriptor, start..<size, path, to: &hash)
    } else {
      for index in 0..<samples {
        let offset = start + (rest - sample) / (samples - 1) * index
        try add(descriptor, offset..<offset + sample, path, to: &hash)
      }
    }
  }

  /// Adds the beginning of each tensor, in the order of the file.
  private static func addTensors(_ path: String, _ descriptor: Int32, to hash: inout Hash) throws {
    let ranges = try SafetensorsFile(path: path).entries.values.map(\.range).sorted {
      $0.lowerBound < $1.lowerBound
    }
    for range in ranges { try add(descriptor, range.prefix(sample), path, to: &hash) }
  }

  private static func add(
    _ descriptor: Int32, _ range: Range<Int>, _ path: String, to hash: inout Hash
  ) throws {
    var bytes = [UInt8](repeating: 0, count: range.count)
    var filled = 0
    while filled < range.count {
      let count = bytes.withUnsafeMutableBytes {
        pread(
          descriptor, $0.baseAddress?.advanced(by: filled), range.count - filled,
          off_t(range.lowerBound + filled))
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw unreadable(path) }
      filled += count
    }
    hash.add(bytes)
  }

  /// Returns the identity of a list of names in their order.
  public static func identity(ofNames names: [String]) -> String {
    var hash = Hash()
    for name in names { hash.add(Array(name.utf8)) }
    return String(hash.value, radix: 16)
  }

  private static func unreadable(_ path: String) -> Issue {
    Issue([.file(path)], "can't be read: \(Support.describe(errno: errno))")
  }

  /// A 64-bit hash, which reads eight bytes at a time. It does not protect against forgery.
  private struct Hash {
    private(set) var value: UInt64 = 0x9E37_79B9_7F4A_7C15

    mutating func add(_ word: UInt64) {
      value = (value ^ word) &* 0xD6E8_FEB8_6659_FD93
      value ^= value >> 32
    }

    mutating func add(_ bytes: [UInt8]) {
      add(UInt64(bytes.count))
      bytes.withUnsafeBytes { buffer in
        let words = buffer.count / 8
        for index in 0..<words {
          add(buffer.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        for byte in buffer[(words * 8)...] { add(UInt64(byte)) }
      }
    }
  }
}
