import Glibc
import Synchronization

/// Standard output or standard error. Writing never ends the process: with a full disk, a closed
/// pipe or a closed terminal, only the text is lost.
public final class StandardStream: Sendable {
  public static let output = StandardStream(STDOUT_FILENO)
  public static let error = StandardStream(STDERR_FILENO)

  private let descriptor: Int32
  private let firstFailure = Mutex<Int32?>(nil)

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// The error number of the first failed write; nil if there was none.
  public var failure: Int32? { firstFailure.withLock { $0 } }

  /// Writes a text at once. Texts from several threads don't mix.
  public func write(_ text: String) {
    var text = text
    text.withUTF8 { write(UnsafeRawBufferPointer($0)) }
  }

  /// Writes bytes at once.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    firstFailure.withLock { failure in
      // After these errors nobody reads the output; a disk that was full may have room again.
      if failure == EPIPE || failure == EBADF { return }
      if let code = Self.write(bytes, to: descriptor), failure == nil { failure = code }
    }
  }

  /// - Returns: the error number; nil if everything was written.
  private static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Int32? {
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 20))
      let written = Glibc.write(descriptor, piece.baseAddress, piece.count)
      if written > 0 {
        rest = rest.dropFirst(written)
      } else if written == 0 {
        return EIO
      } else if errno == EAGAIN {
        // Another process has made the pipe or terminal non-blocking.
        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        if poll(&wait, 1, -1) < 0, errno != EINTR { return errno }
      } else if errno != EINTR {
        return errno
      }
    }
    return nil
  }

  // MARK: At the start

  /// Protects the process from problems with its standard streams; the first call of a program.
  ///
  /// Closed descriptors 0 to 2 are opened, so that no file gets one of them and receives output
  /// meant for a terminal; they are opened in the wrong direction, so that writing still fails. A
  /// closed pipe and a file that reaches its size limit are errors of the call that writes, not
  /// signals that end the process.
  public static func prepare() {
    for descriptor in STDIN_FILENO...STDERR_FILENO
    where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
      // The lowest free descriptor is this one.
      _ = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
  }
}
