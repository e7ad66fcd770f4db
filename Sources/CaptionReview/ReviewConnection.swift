import NIOCore
import NIOHTTP1

/// Answers the requests of one connection, one after another.
struct ReviewConnection: Sendable {
  typealias Channel = NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>
  private typealias Requests = NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator
  private typealias Responses = NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>

  /// The bytes of a file that are in memory at a time.
  private static let pieceSize = 256 << 10
  /// The max bytes of a refused body that are read, so that the client sees the refusal.
  private static let maximumDropped = 64 << 20

  let gate: ReviewGate
  let routes: ReviewRoutes

  /// Ends when the client closes the connection or sends something that is not HTTP.
  func serve(_ channel: Channel) async {
    do {
      try await channel.executeThenClose { inbound, outbound in
        var requests = inbound.makeAsyncIterator()
        do {
          while case .head(let head)? = try await requests.next() {
            guard try await serve(head, &requests, outbound) else { return }
          }
        } catch is HTTPParserError {
          let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: "/")
          try await send(Self.malformed, for: head, keepsAlive: false, outbound)
        }
      }
    } catch {
      // The client has gone.
    }
  }

  /// - Returns: Whether the connection stays open.
  private func serve(
    _ head: HTTPRequestHead, _ requests: inout Requests, _ outbound: Responses
  ) async throws -> Bool {
    guard let path = gate.path(of: head) else {
      return try await refuse(Self.forbidden, head, &requests, outbound)
    }
    if let refusal = routes.refusal(of: head, path: path) {
      return try await refuse(refusal, head, &requests, outbound)
    }
    var body = ByteBuffer()
    while true {
      switch try await requests.next() {
      case .body(let piece)?:
        guard body.readableBytes + piece.readableBytes <= ReviewRoutes.maximumBody else {
          return try await refuse(ReviewRoutes.tooLarge, head, &requests, outbound)
        }
        body.writeImmutableBuffer(piece)
      case .end?:
        let response = await routes.response(to: head, path: path, body: body)
        try await send(response, for: head, keepsAlive: head.isKeepAlive, outbound)
        return head.isKeepAlive
      case .head?, nil: return false
      }
    }
  }

  private static let forbidden = ReviewResponse.text(
    "This address is not complete. Open the one that ltx has printed.", status: .forbidden)

  private static let malformed = ReviewResponse.text(
    "The request is not HTTP.", status: .badRequest)

  /// Answers before the body was read. A connection that is closed with unread bytes would lose the
  /// answer, so they are read and dropped first.
  private func refuse(
    _ response: ReviewResponse, _ head: HTTPRequestHead, _ requests: inout Requests,
    _ outbound: Responses
  ) async throws -> Bool {
    try await send(response, for: head, keepsAlive: false, outbound)
    var dropped = 0
    do {
      while case .body(let piece)? = try await requests.next(), dropped < Self.maximumDropped {
        dropped += piece.readableBytes
      }
    } catch is HTTPParserError {
      // The request has its answer.
    }
    return false
  }

  private func send(
    _ response: ReviewResponse, for head: HTTPRequestHead, keepsAlive: Bool, _ outbound: Responses
  ) async throws {
    try await outbound.write(.head(response.head(version: head.version, keepsAlive: keepsAlive)))
    if head.method != .HEAD {
      switch response.body {
      case .bytes(let bytes): try await outbound.write(.body(.byteBuffer(ByteBuffer(bytes: bytes))))
      case .file(let file, let range): try await send(file, range, outbound)
      }
    }
    try await outbound.write(.end(nil))
  }

  /// Sends a part of a file at the speed at which the client takes it.
  ///
  /// - Throws: An error if the file has become shorter, since the promised bytes can't be sent.
  private func send(_ file: ServedFile, _ range: Range<Int64>, _ outbound: Responses) async throws {
    var offset = range.lowerBound
    while offset < range.upperBound {
      let count = min(Int64(Self.pieceSize), range.upperBound - offset)
      let piece = try await file.read(at: offset, count: Int(count))
      guard piece.readableBytes > 0 else { throw ChannelError.eof }
      offset += Int64(piece.readableBytes)
      try await outbound.write(.body(.byteBuffer(piece)))
    }
  }
}

/// Closes a connection on which nothing has happened for the time of an `IdleStateHandler`.
final class IdleConnectionCloser: ChannelInboundHandler {
  typealias InboundIn = NIOAny

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is IdleStateHandler.IdleStateEvent {
      context.close(promise: nil)
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }
}

/// Runs the tasks of connections on their event loop, so that they don't wait for threads that other
/// tasks keep busy.
final class EventLoopTasks: TaskExecutor {
  private let eventLoop: any EventLoop

  init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
