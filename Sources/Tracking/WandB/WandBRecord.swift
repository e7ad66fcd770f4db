import Foundation

/// A record of a `.wandb` file. Field numbers: `wandb/proto/wandb_internal.proto`.
struct WandBRecord: Sendable {
  private let field: Int
  private let build: @Sendable (inout ProtobufMessage) -> Void

  /// - Parameter number: the number of the record in its file, from 1.
  func data(number: Int) -> Data {
    var record = ProtobufMessage()
    record.integer(1, number)
    record.message(field, build)
    return record.data
  }

  /// The first record of a file. Our records need no minimum version of the client.
  static let header = WandBRecord(field: 21) {
    $0.message(1) { version in
      version.string(1, "swift-ltx")
      version.string(2, "0.12.0")
    }
  }

  static func run(_ run: WandBRun, host: String) -> WandBRecord {
    WandBRecord(field: 17) { message in
      message.string(1, run.id)
      if let entity = run.entity { message.string(2, entity) }
      message.string(3, run.project)
      message.message(4) { config in
        for (key, json) in run.configuration {
          config.message(1) { Self.addItem(to: &$0, key: 1, key, json) }
        }
      }
      if let name = run.name { message.string(8, name) }
      for tag in run.tags { message.string(10, tag) }
      message.string(13, host)
      message.message(17) { time in
        let seconds = run.start.timeIntervalSince1970
        time.integer(1, Int(seconds))
        time.integer(2, Int((seconds - seconds.rounded(.down)) * 1e9))
      }
      if run.isResumed {
        message.integer(18, 1)
        message.integer(24, 1)
      }
    }
  }

  /// - Parameter items: the values as JSON, by name.
  static func history(_ items: [(name: String, json: String)], step: Int) -> WandBRecord {
    WandBRecord(field: 2) { message in
      for item in items { message.message(1) { addItem(to: &$0, key: 2, item.name, item.json) } }
      message.message(2) { $0.integer(1, step) }
    }
  }

  static func summary(_ items: [(name: String, json: String)]) -> WandBRecord {
    WandBRecord(field: 3) { message in
      for item in items { message.message(1) { addItem(to: &$0, key: 2, item.name, item.json) } }
    }
  }

  /// A file below `files/` that belongs to the run.
  static func file(_ path: String, isMedia: Bool) -> WandBRecord {
    WandBRecord(field: 6) { message in
      message.message(1) { file in
        file.string(1, path)
        file.integer(3, isMedia ? 2 : 1)
      }
    }
  }

  static func exit(code: Int, seconds: Int) -> WandBRecord {
    WandBRecord(field: 18) { message in
      message.integer(1, code)
      message.integer(2, seconds)
    }
  }

  /// - Parameter field: 1 for a plain key, 2 for a path of keys, which here has one element.
  private static func addItem(
    to message: inout ProtobufMessage, key field: Int, _ name: String, _ json: String
  ) {
    message.string(field, name)
    message.string(16, json)
  }
}
