import Foundation

/// A file that appears complete or not at all: it is written beside its destination under a
/// temporary name, flushed to the disk, then renamed. If it is dropped before `commit`, nothing
/// remains of it.
///
/// The temporary file is locked (`flock`) while it is written, which distinguishes it from the
/// leftovers of a killed process.
public final class AtomicFile {
  public let path: String
  /// The file to write to, for libraries that open files by their name.
  public let temporaryPath: String
  private var descriptor: Int32
  private let failing: (WritingError) -> any Error

  /// Creates the temporary file, after removing those that dead processes left in the folder.
  ///
  /// - Parameter failing: Converts this type's errors to the caller's.
  /// - Throws: The result of `failing`, if the file can't be created or a folder has its name.
  public init(
    path: String, failing: @escaping (WritingError) -> any Error = { $0 }
  ) throws {
    self.path = path
    self.failing = failing
    // Otherwise this would fail only at the end of the work, when the file gets its name.
    guard !isFolder(path) else { throw failing(WritingError(path: path, code: EISDIR)) }
    TemporaryFiles.sweep(TemporaryFiles.split(path).folder)
    var (name, descriptor, code) = ("", Int32(-1), Int32(0))
    // Another process may remove the file before it is locked; the next attempt succeeds.
    for _ in 0..<10 where descriptor < 0 && code == 0 {
      name = TemporaryFiles.name(beside: path)
      (descriptor, code) = TemporaryFiles.create(
        name, isOurs: { $0.descriptor >= 0 }, body: { Self.open(name) })
    }
    (temporaryPath, self.descriptor) = (name, descriptor)
    guard descriptor >= 0 else {
      throw failing(WritingError(path: path, code: code == 0 ? EAGAIN : code))
    }
  }

  deinit { discard() }

  /// - Returns: An open and locked file, or the error number; neither, if another process removed
  ///   the file.
  private static func open(_ name: String) -> (descriptor: Int32, code: Int32) {
    let descriptor = Glibc.open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { return (-1, errno) }
    var status = stat()
    // File systems without locks can be written to as well; nothing is removed there.
    let isContended = flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK
    if isContended || (fstat(descriptor, &status) == 0 && status.st_nlink == 0) {
      close(descriptor)
      unlink(name)
      return (-1, 0)
    }
    return (descriptor, 0)
  }

  /// - Throws: An error if writing fails.
  public func write(_ bytes: UnsafeRawBufferPointer) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      // one call takes less than 2 GiB
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
      let written = Glibc.write(descriptor, piece.baseAddress, piece.count)
      if written < 0, errno == EINTR { continue }
      guard written > 0 else {
        throw failing(WritingError(path: path, code: written < 0 ? errno : ENOSPC))
      }
      rest = rest.dropFirst(written)
    }
  }

  /// Moves the file to its destination.
  ///
  /// - Parameter isDurable: Waits until the file is on disk.
  /// - Throws: An error if writing fails; the destination is unchanged then.
  public func commit(isDurable: Bool = true) throws {
    if isDurable, fsync(descriptor) != 0 { throw failing(WritingError(path: path, code: errno)) }
    guard rename(temporaryPath, path) == 0 else {
      throw failing(WritingError(path: path, code: errno))
    }
    TemporaryFiles.remove(temporaryPath)
    close(descriptor)
    descriptor = -1
    guard isDurable else { return }
    // The name itself reaches the disk with its folder. Some file systems can't sync folders; the
    // file is still in place.
    let folder = TemporaryFiles.split(path).folder
    let opened = Glibc.open(
      folder.isEmpty ? "." : String(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if opened >= 0 {
      fsync(opened)
      close(opened)
    }
  }

  /// Removes the data written so far; does nothing after `commit`.
  public func discard() {
    guard descriptor >= 0 else { return }
    unlink(temporaryPath)
    close(descriptor)
    descriptor = -1
    TemporaryFiles.remove(temporaryPath)
  }

  /// Writes a complete file at once.
  ///
  /// - Throws: The result of `failing`, if writing fails; the destination is unchanged then.
  public static func write(
    _ data: Data, to path: String, isDurable: Bool = true,
    failing: @escaping (WritingError) -> any Error = { $0 }
  ) throws {
    let file = try AtomicFile(path: path, failing: failing)
    try data.withUnsafeBytes { try file.write($0) }
    try file.commit(isDurable: isDurable)
  }
}
