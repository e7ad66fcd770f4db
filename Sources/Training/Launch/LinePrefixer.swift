import Foundation

/// Copies what comes through a pipe to another file, line by line, each behind a prefix, so that
/// the lines of several processes stay whole.
final class LinePrefixer: Sendable {
  let pipe = Pipe()
  private let prefix: Data
  private let destination: FileHandle
  private let end = DispatchSemaphore(value: 0)

  init(_ prefix: String, to destination: FileHandle) {
    (self.prefix, self.destination) = (Data(prefix.utf8), destination)
  }

  /// Begins to read, on a thread of its own; the process that writes has been started.
  func start() throws {
    // Else our own end would keep the pipe open.
    try pipe.fileHandleForWriting.close()
    Thread.detachNewThread { [self] in
      copy()
      end.signal()
    }
  }

  /// Waits until all has been copied, though not for ever: a process may leave others behind that
  /// hold the pipe.
  func finish() {
    _ = end.wait(timeout: .now() + 2)
  }

  private func copy() {
    var rest = Data()
    var followsReturn = false
    while case let data = pipe.fileHandleForReading.availableData, !data.isEmpty {
      rest += data
      // Progress ends in a carriage return, and gets lines of its own here.
      while let index = rest.firstIndex(where: {
        $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r")
      }) {
        // What follows a carriage return is another line, unless it is the line's own end.
        let endsProgress = rest[index] == UInt8(ascii: "\r")
        if index > rest.startIndex || !(endsProgress || followsReturn) { write(rest[..<index]) }
        followsReturn = endsProgress
        rest = Data(rest[(index + 1)...])
      }
    }
    if !rest.isEmpty { write(rest) }
  }

  private func write(_ line: Data) {
    // Nobody to tell if our own output is closed; the processes' work goes on.
    try? destination.write(contentsOf: prefix + line + Data("\n".utf8))
  }
}
