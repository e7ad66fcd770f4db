import Foundation
import Support

/// The framing of a `.wandb` file: a header of 7 bytes, then blocks of 32 KiB that hold records,
/// split where they don't fit.
///
/// Source: LevelDB's log format, with the checksum CRC-32 (of zlib) of the kind and the bytes;
/// `wandb.sdk.internal.datastore`. Every record is in the file when `append` returns, so a killed
/// run loses none.
final class RecordLog {
  private enum Kind: UInt8 {
    case full = 1
    case first, middle, last
  }

  private static let blockSize = 32_768
  private static let headerSize = 7

  let path: String
  private let file: FileHandle
  private var position: Int

  /// - Throws: `Issue` if the file can't be created or already exists.
  init(path: String) throws {
    self.path = path
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw Issue([.file(path)], "can't be made (\(String(cString: strerror(errno))))")
    }
    file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    position = 0
    // ":W&B", a magic number, version 0.
    try write(Data(":W&B".utf8) + [0xE1, 0xBE, 0])
  }

  /// - Throws: `Issue` if the disk is full or gone.
  func append(_ record: Data) throws {
    var bytes = Data()
    var rest = record[...]
    var kind: Kind?
    repeat {
      var room = Self.blockSize - (position + bytes.count) % Self.blockSize
      if room < Self.headerSize {
        bytes.append(contentsOf: repeatElement(0, count: room))
        room = Self.blockSize
      }
      let piece = rest.prefix(room - Self.headerSize)
      rest = rest.dropFirst(piece.count)
      let next: Kind =
        kind == nil ? (rest.isEmpty ? .full : .first) : (rest.isEmpty ? .last : .middle)
      kind = next
      bytes.append(littleEndian: CRC32.ethernet.checksum(Data([next.rawValue]) + piece))
      bytes.append(littleEndian: UInt16(piece.count))
      bytes.append(next.rawValue)
      bytes.append(piece)
    } while !rest.isEmpty
    try write(bytes)
  }

  func close() throws {
    do {
      try file.synchronize()
      try file.close()
    } catch { throw failure(error) }
  }

  private func write(_ bytes: Data) throws {
    do { try file.write(contentsOf: bytes) } catch { throw failure(error) }
    position += bytes.count
  }

  private func failure(_ error: any Error) -> Issue {
    Issue(
      [.file(path)], "can't be written (\(reason(of: error)))",
      suggestion: "Check the room on the disk.")
  }
}

extension Data {
  fileprivate mutating func append(littleEndian value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }
}
