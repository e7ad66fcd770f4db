import Datasets
import Dispatch
import NIOCore
import NIOHTTP1
import NIOPosix
import Support
import Synchronization

/// The web page of `ltx caption --review`: plays the clips of a dataset, and edits their captions in
/// the dataset's own files.
///
/// It listens on 127.0.0.1 only, and answers only requests with a random token in their path.
public final class ReviewServer: Sendable {
  /// The address of the page, with its token.
  public let address: String
  /// The number of rows of the dataset when it was opened.
  public let rowCount: Int
  private let group: MultiThreadedEventLoopGroup
  private let listener: any Channel
  private let connections = OpenConnections()
  private let isClosed = Mutex(false)

  /// Reads the dataset and starts to answer requests.
  ///
  /// - Parameters:
  ///   - dataset: A JSON, JSONL or CSV file, a folder of media, or `<name>.txt` for upstream's
  ///     `<name>_captions.txt` and `<name>_paths.txt`.
  ///   - columns: The columns that the user named; the others are found by their names.
  ///   - port: The port; 0 for any that is free.
  /// - Throws: `Issue` for a dataset that can't be used, and for a port that can't be.
  public init(dataset: String, columns: [Role: String] = [:], port: Int = 0) throws {
    guard (0...65_535).contains(port) else {
      throw Issue(["port"], "must be between 0 and 65535 (got \(port))")
    }
    let store = try openCaptionStore(dataset, columns: ReviewColumns(named: columns))
    let session = try ReviewSession(store)
    rowCount = session.rowCount
    let token = ReviewToken()
    group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    do {
      listener = try Self.bootstrap(group, ReviewRoutes(session: session), token, connections)
        .bind(host: "127.0.0.1", port: port).wait()
      address = "http://127.0.0.1:\(listener.localAddress?.port ?? port)/\(token.text)/"
    } catch {
      try group.syncShutdownGracefully()
      let reason = (error as? IOError).map { describe(errno: $0.errnoCode) } ?? "\(error)"
      throw Issue(
        ["port"], "\(port) can't be used (\(reason))",
        suggestion: "Choose another one, or leave it out for one that is free.")
    }
  }

  /// Ends all connections, after waiting for a request that is being answered. Changes that were not
  /// saved are lost.
  public func close() {
    let isFirst = isClosed.withLock { isClosed in
      defer { isClosed = true }
      return !isClosed
    }
    guard isFirst else { return }
    do {
      try listener.close().wait()
      connections.close()
      try group.syncShutdownGracefully()
    } catch {
      // Nothing is served any more, which is all that was wanted.
    }
  }

  private static func bootstrap(
    _ group: MultiThreadedEventLoopGroup, _ routes: ReviewRoutes, _ token: ReviewToken,
    _ connections: OpenConnections
  ) -> ServerBootstrap {
    ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          // Longer than browsers leave a paused clip without reading on.
          try pipeline.addHandler(IdleStateHandler(allTimeout: .minutes(5)))
          try pipeline.addHandler(IdleConnectionCloser())
          // Requests are answered in their order, malformed ones too, by the connection itself.
          try pipeline.configureHTTPServerPipeline(
            withPipeliningAssistance: false, withErrorHandling: false)
          let connection = try ReviewConnection.Channel(wrappingChannelSynchronously: channel)
          let gate = ReviewGate(token: token, port: channel.localAddress?.port ?? 0)
          connections.add(channel)
          Task(executorPreference: EventLoopTasks(channel.eventLoop)) {
            await ReviewConnection(gate: gate, routes: routes).serve(connection)
            connections.remove(channel)
          }
        }
      }
  }
}

/// The connections that are served.
private final class OpenConnections: Sendable {
  private let channels: Mutex<[ObjectIdentifier: any Channel]> = Mutex([:])
  private let group = DispatchGroup()

  func add(_ channel: any Channel) {
    group.enter()
    channels.withLock { $0[ObjectIdentifier(channel)] = channel }
  }

  func remove(_ channel: any Channel) {
    channels.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(channel)) }
    group.leave()
  }

  /// Closes all connections, and waits until nothing serves them.
  func close() {
    for channel in channels.withLock({ Array($0.values) }) { channel.close(promise: nil) }
    group.wait()
  }
}
