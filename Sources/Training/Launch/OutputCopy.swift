import Foundation

/// Copies the output of a process from a pipe, either unchanged or with a prefix before each line, so
/// that the lines of several processes don't mix.
final class OutputCopy: Sendable {
  let pipe = Pipe()
  private let prefix: Data?
  private let destinations: [FileHandle]
  private let end = DispatchSemaphore(value: 0)

  init(prefix: String, to destination: FileHandle) {
    (self.prefix, destinations) = (Data(prefix.utf8), [destination])
  }

  init(to destinations: [FileHandle]) {
    (prefix, self.destinations) = (nil, destinations)
  }

  /// Starts to read on its own thread, after the writing process has started.
  func start() throws {
    // Our own end would otherwise keep the pipe open.
    try pipe.fileHandleForWriting.close()
    Thread.detachNewThread { [self] in
      if let prefix { copyLines(prefix) } else { copyAll() }
      end.signal()
    }
  }

  /// Waits for a limited time until everything is copied, because a process may leave others behind
  /// that hold the pipe.
  func finish() {
    _ = end.wait(timeout: .now() + 2)
  }

  private func copyAll() {
    while case let data = pipe.fileHandleForReading.availableData, !data.isEmpty { write(data) }
  }

  private func copyLines(_ prefix: Data) {
    func write(line: Data) { self.write(prefix + line + Data("\n".utf8)) }
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
        if index > rest.startIndex || !(endsProgress || followsReturn) {
          write(line: rest[..<index])
        }
        followsReturn = endsProgress
        rest = Data(rest[(index + 1)...])
      }
    }
    if !rest.isEmpty { write(line: rest) }
  }

  private func write(_ data: Data) {
    // If our own output is closed or the disk is full, the text is lost, and the processes keep
    // working.
    for destination in destinations { try? destination.write(contentsOf: data) }
  }
}
