import Glibc

/// A file that appears whole or not at all: written beside its destination, flushed to the disk, then renamed.
final class AtomicFile {
  private let path: String
  private let temporaryPath: String
  private let descriptor: Int32
  private var isCommitted = false

  init(path: String) throws(TensorFileError) {
    self.path = path
    let slash = path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex
    let name = String(path[slash...])
    let suffix = String(UInt64.random(in: .min ... .max), radix: 36)
    temporaryPath = path[..<slash] + ".\(name.prefix(60)).\(suffix).partial"
    descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw TensorFileError(
        .notWritten, path: path, "can't be written: \(describe(errno: errno)); check that the folder exists")
    }
  }

  deinit {
    close(descriptor)
    if !isCommitted { unlink(temporaryPath) }
  }

  func write(_ bytes: UnsafeRawBufferPointer) throws(TensorFileError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))  // one call takes less than 2 GiB
      let written = Glibc.write(descriptor, piece.baseAddress, piece.count)
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw failed(errno) }
      rest = rest.dropFirst(written)
    }
  }

  /// Puts the file in its place. Without this call nothing remains of it.
  ///
  /// - Parameter isDurable: waits until the disk has it.
  func commit(isDurable: Bool) throws(TensorFileError) {
    if isDurable {
      guard fsync(descriptor) == 0 else { throw failed(errno) }
    }
    guard rename(temporaryPath, path) == 0 else { throw failed(errno) }
    isCommitted = true
    guard isDurable else { return }
    // The name itself reaches the disk with its folder. Some file systems can't sync folders; the file is in place
    // all the same.
    let slash = path.lastIndex(of: "/")
    let folder = open(slash.map { String(path[...$0]) } ?? ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  private func failed(_ code: Int32) -> TensorFileError {
    TensorFileError(
      .notWritten, path: path,
      "can't be written: \(describe(errno: code)); nothing was changed"
        + (code == ENOSPC ? ", free some space and try again" : ""))
  }
}
