import Foundation

/// Copies a pipe to another file line by line, with a prefix before each line, so that the lines of
/// several processes don't mix.
final class LinePrefixer: Sendable {
  let pipe = Pipe()
  private let prefix: Data
  private let destination: FileHandle
  private let end = DispatchSemaphore(value: 0)

  init(_ prefix: String, to destination: FileHandle) {
    (self.prefix, self.destination) = (Data(prefix.utf8), destination)
  }

  /// Starts to read on its own thread, after the writing process has started.
  func start() throws {
    // Our own end would otherwise keep the pipe open.
    try pipe.fileHandleForWriting.close()
    Thread.detachNewThread { [self] in
      copy()
      end.signal()
    }
  }

  /// Waits for a limited time until everything is copied, because a process may leave others behind
  /// that hold the pipe.
  func finish() {
    _ = end.wait(timeout: .now() + 2)
  }

  private func copy() {
    var rest = Data()
    var followsReturn = false
    while case let data = pipe.fileHandleForReading.availableData, !data.isEmpty {
      rest += data
      // Progress lines end in a carriage return, and become separate lines here.
      while let index = rest.firstIndex(where: {
        $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r")
      }) {
        // Text after a carriage return is another line, unless it is the end of the same line.
        let endsProgress = rest[index] == UInt8(ascii: "\r")
        if index > rest.startIndex || !(endsProgress || followsReturn) { write(rest[..<index]) }
        followsReturn = endsProgress
        rest = Data(rest[(index + 1)...])
      }
    }
    if !rest.isEmpty { write(rest) }
  }

  private func write(_ line: Data) {
    // If our own output is closed, the line is lost, and the processes keep working.
    try? destination.write(contentsOf: prefix + line + Data("\n".utf8))
  }
}
