import Foundation
import HTTP
import Support
import Synchronization

/// Records a run for Weights & Biases. Everything is stored in a folder that `wandb sync` accepts;
/// online, a thread also sends it.
///
/// The values of a step form one row, as in `wandb.log`. A row is complete when the next step or
/// the end of the run arrives.
public final class WandBTracker: RunTracker {
  public struct Options: Sendable {
    public var project: String
    /// A user or team; nil for the key's own.
    public var entity: String?
    public var name: String?
    public var tags: [String]
    /// A JSON object; each member is a column.
    public var configuration: Data
    /// The parent of the folder `wandb`.
    public var folder: String
    /// The `runID` of the start that this one resumes.
    public var resumeID: String?

    public init(
      project: String, entity: String? = nil, name: String? = nil, tags: [String] = [],
      configuration: Data,
      folder: String, resumeID: String? = nil
    ) {
      self.project = project
      self.entity = entity
      self.name = name
      self.tags = tags
      self.configuration = configuration
      self.folder = folder
      self.resumeID = resumeID
    }
  }

  public let name = "Weights & Biases"
  /// Stored in the training state, so that a resumed run continues in the same place.
  public let runID: String
  /// The web page of the run; nil offline.
  public let page: String?
  /// The folder for `wandb sync`.
  public let folder: String

  private struct State: ~Copyable {
    let files: WandBRunFolder
    var step: Int?
    var row: [String: JSON] = [:]
    var summary: [String: JSON] = [:]
  }

  private let state: Mutex<State>
  private let sender: WandBSender?
  private let start: Date
  private let earlierRuntime: Double
  /// The last step that the server has; a run resumed from a checkpoint repeats some steps.
  private let lastSentStep: Int
  /// The last step in the folders of earlier offline starts; `wandb sync` would treat repeated
  /// steps as new ones.
  private let lastKeptStep: Int

  /// Begins a run; returns nil with `WANDB_MODE=disabled`. Online, it contacts the server first, so
  /// that a wrong key or address is reported before training.
  ///
  /// - Parameter notice: shows the user a line; also called from another thread.
  /// - Throws: `Issue`.
  public static func start(
    _ options: Options, environment: [String: String] = ProcessInfo.processInfo.environment,
    notice: @escaping @Sendable (String) -> Void
  ) throws -> WandBTracker? {
    let settings = try WandBSettings(environment: environment)
    guard settings.mode != .disabled else { return nil }
    return try WandBTracker(
      options, settings: settings, environment: environment, pace: WandBSender.Pace(),
      notice: notice)
  }

  init(
    _ options: Options, settings: WandBSettings, environment: [String: String],
    pace: WandBSender.Pace,
    notice: @escaping @Sendable (String) -> Void
  ) throws {
    start = Date()
    let run = try WandBRun(options, settings: settings, start: start)
    runID = run.id
    let connection = settings.mode == .online ? try Self.connect(run, settings, environment) : nil
    let parent = settings.folder ?? options.folder
    let isOffline = settings.mode == .offline
    lastKeptStep =
      isOffline && run.isResumed
      ? WandBRunFolder.lastStep(of: run.id, in: parent) ?? Int.min : Int.min
    let files = try WandBRunFolder(run, in: parent, isOffline: isOffline)
    folder = files.path
    earlierRuntime = connection?.earlier.runtime ?? 0
    lastSentStep = connection?.earlier.lastStep ?? Int.min
    page = connection.map {
      "\(WandBSettings.page(of: settings.baseURL))/\($0.target.entity)/\($0.target.project)/runs/\(run.id)"
    }
    sender = connection.map {
      WandBSender($0.api, target: $0.target, pace: pace, folder: files.path, notice: notice)
    }
    state = Mutex(State(files: files))
  }

  private static func connect(
    _ run: WandBRun, _ settings: WandBSettings, _ environment: [String: String]
  ) throws -> (api: WandBAPI, target: WandBSender.Target, earlier: WandBAPI.EarlierRun) {
    do {
      let api = try WandBAPI(settings, environment: environment)
      let earlier = run.isResumed ? try api.earlier(run, retries: .brief) ?? .init() : .init()
      let place = try api.upsert(run, retries: .brief)
      let target = WandBSender.Target(
        entity: place.entity, project: place.project, run: run.id, firstRow: earlier.rows)
      return (api, target, earlier)
    } catch let failure as HTTPFailure {
      throw Issue(
        [.file(settings.baseURL)], "Weights & Biases can't be reached (\(failure.problem))",
        suggestion:
          "Check the network, or set WANDB_MODE=offline and send the run later by 'wandb sync'.")
    }
  }

  // MARK: RunTracker

  public func scalars(_ values: [(name: String, value: Double)], step: Int) throws {
    try log(values.map { ($0.name, JSON($0.value)) }, step: step)
  }

  public func text(_ name: String, _ text: String, step: Int) throws {
    let escaped = text.replacing("&", with: "&amp;").replacing("<", with: "&lt;")
    let page = Data(
      "<meta charset=\"utf-8\"><pre style=\"white-space: pre-wrap\">\(escaped)</pre>\n".utf8)
    try log(name, WandBMedia(page: page, key: name, step: step), page, step: step)
  }

  public func image(_ name: String, _ data: Data, width: Int, height: Int, step: Int) throws {
    let media = try WandBMedia(image: data, key: name, width: width, height: height, step: step)
    try log(name, media, data, step: step)
  }

  /// Records samples under the official trainer's name, `validation_samples`. If there are several
  /// kinds of files, each kind has its own name.
  public func media(_ samples: [ValidationMedia], step: Int) throws {
    let kinds = Set(samples.map(\.kind))
    for kind in [ValidationMedia.Kind.video, .audio, .image] where kinds.contains(kind) {
      let group = try samples.filter { $0.kind == kind }.map {
        ($0.path, try WandBMedia($0, step: step))
      }
      try state.withLock { state in
        for (path, media) in group { try state.files.addMedia(from: path, as: media.name) }
        for (_, media) in group {
          sender?.add(file: media.name, at: state.files.filePath(media.name))
        }
      }
      let name = kinds.count == 1 ? "validation_samples" : "validation_samples_\(kind.rawValue)"
      try log([(name, WandBMedia.list(group.map(\.1), kind: kind))], step: step)
    }
  }

  public func finish(_ outcome: RunOutcome) throws {
    let code = outcome == .success ? 0 : outcome == .failed ? 1 : 255
    // The end is reported to the server even if the disk is full.
    defer { sender?.finish(exitCode: code) }
    try state.withLock { state in
      try commitRow(&state)
      try state.files.finish(exitCode: code, summary: summary(of: state).data())
      for name in WandBRunFolder.ownFiles {
        sender?.add(file: name, at: state.files.filePath(name))
      }
    }
  }

  // MARK: Rows

  private func log(_ name: String, _ media: WandBMedia, _ data: Data, step: Int) throws {
    try state.withLock { state in
      try state.files.addMedia(data, as: media.name)
      sender?.add(file: media.name, at: state.files.filePath(media.name))
    }
    try log([(name, .object(media.entry))], step: step)
  }

  private func log(_ values: [(name: String, value: JSON)], step: Int) throws {
    try state.withLock { state in
      if let open = state.step, open != step { try commitRow(&state) }
      state.step = step
      for (name, value) in values { state.row[name] = value }
      state.row["_timestamp"] = JSON(Date().timeIntervalSince1970)
      state.row["_runtime"] = JSON(earlierRuntime + Date().timeIntervalSince(start))
    }
  }

  private func commitRow(_ state: inout State) throws {
    guard let step = state.step, !state.row.isEmpty else { return }
    var row = state.row
    row["_step"] = JSON(step)
    state.row = [:]
    state.step = nil
    state.summary.merge(row) { $1 }
    let items = row.sorted { $0.key < $1.key }.map { ($0.key, $0.value.text()) }
    // Sending comes first, so that the server gets the row even if the disk is full.
    if let sender, step > lastSentStep {
      sender.add(row: JSON.object(row).text(), summary: summary(of: state).text())
    }
    guard step > lastKeptStep else { return }
    try state.files.append(.history(items, step: step))
    try state.files.append(.summary(items))
    // Offline, the next start reads from it which steps have been recorded.
    if sender == nil {
      try state.files.write(summary(of: state).data(), to: WandBRunFolder.summaryFile)
    }
  }

  private func summary(of state: borrowing State) -> JSON {
    var values = state.summary
    values["_wandb"] = [
      "runtime": JSON(Int(earlierRuntime + Date().timeIntervalSince(start)))
    ]
    return .object(values)
  }
}
