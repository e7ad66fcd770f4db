import Foundation

/// A record of a `.wandb` file. Field numbers: `wandb/proto/wandb_internal.proto`.
struct WandBRecord: Sendable {
  private let field: Int
  private let build: @Sendable (inout ProtobufMessage) -> Void

  /// - Parameter number: counts a file's records from 1.
  func data(number: Int) -> Data {
    var record = ProtobufMessage()
    record.add(1, number)
    record.add(field, build)
    return record.data
  }

  /// The first of a file. No client is too old for what we write.
  static let header = WandBRecord(field: 21) {
    $0.add(1) { version in
      version.add(1, "swift-ltx")
      version.add(2, "0.12.0")
    }
  }

  static func run(_ run: WandBRun, host: String) -> WandBRecord {
    WandBRecord(field: 17) { message in
      message.add(1, run.id)
      if let entity = run.entity { message.add(2, entity) }
      message.add(3, run.project)
      message.add(4) { config in
        for (key, json) in run.configuration { config.add(1) { Self.addItem(to: &$0, key: 1, key, json) } }
      }
      if let name = run.name { message.add(8, name) }
      for tag in run.tags { message.add(10, tag) }
      message.add(13, host)
      message.add(17) { time in
        let seconds = run.start.timeIntervalSince1970
        time.add(1, Int(seconds))
        time.add(2, Int((seconds - seconds.rounded(.down)) * 1e9))
      }
      if run.isResumed {
        message.add(18, true)
        message.add(24, true)
      }
    }
  }

  /// - Parameter items: value as JSON by name.
  static func history(_ items: [(name: String, json: String)], step: Int) -> WandBRecord {
    WandBRecord(field: 2) { message in
      for item in items { message.add(1) { addItem(to: &$0, key: 2, item.name, item.json) } }
      message.add(2) { $0.add(1, step) }
    }
  }

  static func summary(_ items: [(name: String, json: String)]) -> WandBRecord {
    WandBRecord(field: 3) { message in
      for item in items { message.add(1) { addItem(to: &$0, key: 2, item.name, item.json) } }
    }
  }

  /// A file below `files/` that belongs to the run.
  static func file(_ path: String, isMedia: Bool) -> WandBRecord {
    WandBRecord(field: 6) { message in
      message.add(1) { file in
        file.add(1, path)
        file.add(3, isMedia ? 2 : 1)
      }
    }
  }

  static func exit(code: Int, seconds: Int) -> WandBRecord {
    WandBRecord(field: 18) { message in
      message.add(1, code)
      message.add(2, seconds)
    }
  }

  /// - Parameter field: 1 is a plain key, 2 a path of keys, here of one.
  private static func addItem(
    to message: inout ProtobufMessage, key field: Int, _ name: String, _ json: String
  ) {
    message.add(field, name)
    message.add(16, json)
  }
}
