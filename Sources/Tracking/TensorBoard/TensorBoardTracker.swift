import Foundation
import Support
import Synchronization

/// Writes TensorBoard's event files: `events.out.tfevents.<time>.<host>.<process>.<n>`, a new one
/// at each start.
///
/// A resumed run begins its file with an event that invalidates the earlier events of repeated
/// steps. A video is shown as four of its frames and its audio, because TensorBoard does not play
/// video.
public final class TensorBoardTracker: RunTracker {
  public let name = "TensorBoard"
  public let path: String

  private struct State {
    let file: FileHandle
    var length: UInt64 = 0
    /// The captions that were written, by the sample's name.
    var captions: [String: String] = [:]
  }

  private let state: Mutex<State>
  private let now: @Sendable () -> Double

  /// - Parameters:
  ///   - folder: created if it is missing; `tensorboard --logdir` accepts it or a folder above it.
  ///   - step: the step that the run resumes after; 0 for a new run, which invalidates all earlier
  ///     runs in the folder.
  /// - Throws: `Issue` if the file can't be created.
  public convenience init(folder: String, resumingAfter step: Int) throws {
    try self.init(
      folder: folder, resumingAfter: step, host: ProcessInfo.processInfo.hostName,
      process: Int(ProcessInfo.processInfo.processIdentifier)
    ) { Date().timeIntervalSince1970 }
  }

  init(
    folder: String, resumingAfter step: Int, host: String, process: Int,
    now: @escaping @Sendable () -> Double
  ) throws {
    self.now = now
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      path = try Self.newFile(in: folder, time: Int(now()), host: host, process: process)
      try Data().write(to: URL(fileURLWithPath: path), options: .withoutOverwriting)
      state = Mutex(State(file: try FileHandle(forWritingTo: URL(fileURLWithPath: path))))
    } catch {
      throw Issue(
        [.file(folder)], "event files can't be written (\(reason(of: error)))",
        suggestion: "Check the room on the disk and the rights of the folder.")
    }
    let time = now()
    try write([
      TensorBoardEvent(wallTime: time, step: 0, content: .version(writer: "swift-ltx")),
      TensorBoardEvent(wallTime: time, step: step == 0 ? 0 : step + 1, content: .start),
    ])
  }

  /// Creates a file whose name sorts after the existing ones, even if the clock was set back or the
  /// second is the same, because TensorBoard reads files in the order of their names.
  private static func newFile(in folder: String, time: Int, host: String, process: Int) throws
    -> String
  {
    let prefix = "events.out.tfevents."
    let latest = try FileManager.default.contentsOfDirectory(atPath: folder)
      .filter { $0.hasPrefix(prefix) }
      .compactMap { Int($0.dropFirst(prefix.count).prefix { $0 != "." }) }.max()
    let number = String(max(time, latest.map { $0 + 1 } ?? time))
    let padded = String(repeating: "0", count: max(0, 10 - number.count)) + number
    let safeHost = host.map { $0 == "/" ? "_" : String($0) }.joined()
    return "\(folder)/\(prefix)\(padded).\(safeHost).\(process).0"
  }

  public func scalars(_ values: [(name: String, value: Double)], step: Int) throws {
    try write(values.map { .scalar(tag: $0.name, Float($0.value)) }, step: step)
  }

  public func text(_ name: String, _ text: String, step: Int) throws {
    try write([.text(tag: name, text)], step: step)
  }

  public func image(_ name: String, _ data: Data, width: Int, height: Int, step: Int) throws {
    try write([.image(tag: name, data, width: width, height: height)], step: step)
  }

  public func media(_ samples: [ValidationMedia], step: Int) throws {
    for sample in samples {
      let tag = "validation_samples/\(sample.name)"
      let preview = try MediaPreview(sample)
      var values: [TensorBoardEvent.Value] = []
      if let image = preview.image {
        values.append(.image(tag: tag, image.data, width: image.width, height: image.height))
      }
      if let audio = preview.audio {
        values.append(
          .audio(
            tag: tag, audio.data, sampleRate: audio.sampleRate, channels: audio.channels,
            samples: audio.samples))
      }
      // A prompt that stays the same at every validation is written once.
      let isNew =
        state.withLock { $0.captions.updateValue(sample.caption, forKey: sample.name) }
        != sample.caption
      if isNew, !sample.caption.isEmpty {
        values.append(.text(tag: tag + "/prompt", sample.caption))
      }
      try write(values, step: step)
    }
  }

  public func finish(_ outcome: RunOutcome) throws {
    try text("run/outcome", outcome.rawValue, step: 0)
    do {
      try state.withLock { try $0.file.close() }
    } catch {
      throw failure(error)
    }
  }

  private func write(_ values: [TensorBoardEvent.Value], step: Int) throws {
    guard !values.isEmpty else { return }
    try write([TensorBoardEvent(wallTime: now(), step: step, content: .summary(values))])
  }

  private func write(_ events: [TensorBoardEvent]) throws {
    let data = events.map { TFRecord.framed($0.encoded) }.reduce(Data(), +)
    do {
      try state.withLock { state in
        do {
          try state.file.write(contentsOf: data)
          state.length += UInt64(data.count)
        } catch {
          // TensorBoard stops reading at an incomplete record.
          try? state.file.truncate(atOffset: state.length)
          throw error
        }
      }
    } catch {
      throw failure(error)
    }
  }

  private func failure(_ error: any Error) -> Issue {
    Issue(
      [.file(path)], "can't be written (\(reason(of: error)))",
      suggestion: "Check the room on the disk.")
  }
}
