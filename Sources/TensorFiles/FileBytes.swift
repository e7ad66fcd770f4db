import Glibc
import Support
import Torch

/// The bytes of a file, mapped into memory or copied; they live as long as a tensor views them.
///
/// A map shows the file as it is on disk. If another process truncates the file while it is mapped,
/// reading the lost part ends this process with SIGBUS; nothing here guards against that.
final class FileBytes: @unchecked Sendable {
  let path: String
  let bytes: UnsafeRawBufferPointer
  private let isMapped: Bool

  /// Maps a file. Time and memory don't depend on the file's size.
  init(mapping path: String) throws(TensorFileError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw openingFailed(path, errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw openingFailed(path, errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw TensorFileError(.unreadable, path: path, "this is not a file; name a file")
    }
    self.path = path
    let size = Int(status.st_size)
    guard size > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      isMapped = false
      return
    }
    guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0),
      address != MAP_FAILED
    else {
      throw openingFailed(path, errno)
    }
    bytes = UnsafeRawBufferPointer(start: address, count: size)
    isMapped = true
  }

  /// Holds a copy of a file's content.
  init(name: String, copying content: UnsafeRawBufferPointer) {
    path = name
    isMapped = false
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: content.count, alignment: 64)
    copy.copyMemory(from: content)
    bytes = UnsafeRawBufferPointer(copy)
  }

  deinit {
    if isMapped {
      munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    } else {
      bytes.deallocate()
    }
  }

  /// Tells the system how the pages entirely inside a range will be used.
  ///
  /// This is a hint: if the system can't follow it, only the speed changes.
  func advise(_ advice: Int32, _ range: Range<Int>) {
    guard isMapped, let address = bytes.baseAddress else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    // Reading ahead may include a neighbor's bytes; releasing pages must not.
    let isReading = advice == MADV_WILLNEED
    let start = (range.lowerBound + (isReading ? 0 : page - 1)) / page * page
    let end = isReading ? range.upperBound : range.upperBound / page * page
    guard start < end else { return }
    madvise(UnsafeMutableRawPointer(mutating: address + start), end - start, advice)
  }

  /// A contiguous tensor of the bytes in `range`. The caller has checked that the range is in the
  /// file and matches the shape.
  func tensor(_ dtype: DType, _ shape: [Int], at range: Range<Int>) throws -> Tensor {
    guard !range.isEmpty else { return try .empty(shape, dtype: dtype) }
    let elements = UnsafeRawBufferPointer(rebasing: bytes[range])
    if dtype == .bool, elements.contains(where: { $0 > 1 }) {
      // A bool that is neither 0 nor 1 is undefined behavior; PyTorch treats such bytes as true.
      return try Tensor(elements.map { $0 != 0 }, shape: shape)
    }
    guard UInt(bitPattern: elements.baseAddress) % UInt(dtype.size) == 0 else {
      defer { advise(MADV_DONTNEED, range) }
      return try Tensor(copying: elements, dtype: dtype, shape: shape)
    }
    return try .view(of: elements, dtype: dtype, shape: shape, owner: self)
  }
}

private func openingFailed(_ path: String, _ code: Int32) -> TensorFileError {
  guard code == ENOENT || code == ENOTDIR else {
    return TensorFileError(.unreadable, path: path, "can't be read: \(describe(errno: code))")
  }
  return TensorFileError(.notFound, path: path, "the file does not exist")
}

/// Reads little-endian integers from a file's bytes, with bounds checks.
struct ByteReader {
  let bytes: UnsafeRawBufferPointer

  /// The integer at `offset`, or nil if it would extend beyond the bytes.
  func number<T: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: T.Type = T.self)
    -> T?
  {
    guard offset >= 0, offset <= bytes.count - MemoryLayout<T>.size else { return nil }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  func slice(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer? {
    guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else {
      return nil
    }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }
}
