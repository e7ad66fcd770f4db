import Datasets
import Foundation
import Media
import Support

/// The result of a run.
public struct CaptionSummary: Sendable {
  /// The number of clips that got a caption.
  public internal(set) var captioned = 0
  /// The number of clips whose caption somebody else wrote meanwhile, and which is kept.
  public internal(set) var kept = 0
  /// The problems of clips without a caption. The subject begins with the clip's name.
  public internal(set) var failures: [Issue] = []
  /// Captions that exist but deserve a look. The subject begins with the clip's name.
  public internal(set) var warnings: [Issue] = []
  /// Notes about clips, a sentence each.
  public internal(set) var notes: [String] = []
  /// The reason why the run ended early; nil if it didn't.
  public internal(set) var interruption: Issue?
  /// The path of the copy of the captions that were replaced; nil without one.
  public internal(set) var backup: String?
}

/// The progress of a run.
public struct CaptionProgress: Equatable, Sendable {
  /// The number of clips that are finished, with or without a caption.
  public var done: Int
  public var total: Int
  /// The name of the clip that was finished last, or for which tokens arrive.
  public var clip: String
  /// The number of tokens of the caption in progress; nil for models that don't tell.
  public var tokens: Int?
}

/// Captions the clips of a plan.
///
/// Clips are read ahead on threads of their own, while the model answers. The caller's thread cleans
/// and saves each caption as soon as it arrives, so that a run that is killed loses only the answers
/// in progress.
public struct CaptionRun: Sendable {
  public let plan: CaptionPlan
  private let captioner: any Captioner
  private let instructions: CaptionInstructions
  private let workers: Int

  /// The number of failures of the server in a row that end the run.
  private static let failureLimit = 3

  /// - Parameters:
  ///   - workers: The number of requests at a time; at most what the captioner supports.
  public init(
    _ plan: CaptionPlan, _ captioner: any Captioner, instructions: CaptionInstructions,
    workers: Int = 1
  ) {
    self.plan = plan
    self.captioner = captioner
    self.instructions = instructions
    self.workers = max(1, min(workers, captioner.maxConcurrency, plan.clips.count))
  }

  private enum Message: Sendable {
    case tokens(clip: Int, count: Int)
    case answer(clip: Int, Result<ModelAnswer, any Error>)
    case ended
  }

  /// Runs until every clip is finished, or until the model can't be used.
  ///
  /// - Throws: `WritingError` and `Issue` if the captions can't be saved.
  public func run(progress: (CaptionProgress) -> Void = { _ in }) throws -> CaptionSummary {
    var summary = CaptionSummary()
    guard !plan.clips.isEmpty else { return summary }
    if plan.replaced > 0 { summary.backup = try plan.file.backUp() }
    var state = State(file: plan.file, summary: summary, replaces: plan.options.replaces)
    let mailbox = Mailbox<Message>()
    let (clips, captioner, instructions) = (plan.clips, captioner, instructions)
    let reader = ReadAhead(count: clips.count, capacity: workers, threads: min(workers, 4)) {
      number in
      let request = Result { try captioner.request(for: clips[number], instructions) }
      return (number, request)
    }
    let askers = WorkerQueue<Void>(name: "ltx caption", threads: workers, capacity: workers)
    for _ in 0..<workers {
      askers.submit {
        Self.ask(reader, mailbox)
        mailbox.post(.ended)
      }
    }
    var running = workers
    func stop() {
      reader.cancel()
      captioner.cancel()
    }
    defer {
      // After an error, nobody waits for the answers in progress.
      if running > 0 { stop() }
      askers.cancel()
    }
    progress(CaptionProgress(done: 0, total: clips.count, clip: "", tokens: nil))
    while running > 0 {
      switch mailbox.next() {
      case .ended: running -= 1
      case .tokens(let clip, let count):
        progress(
          CaptionProgress(
            done: state.done, total: clips.count, clip: clips[clip].name, tokens: count))
      case .answer(let clip, let result):
        let wasInterrupted = state.summary.interruption != nil
        try state.finish(clips[clip], result)
        progress(
          CaptionProgress(
            done: state.done, total: clips.count, clip: clips[clip].name, tokens: nil))
        // Answers that have arrived by now are still saved.
        if !wasInterrupted, state.summary.interruption != nil { stop() }
      }
    }
    return state.sorted(by: clips)
  }

  /// Asks the model about one clip after another, until all have been taken.
  private static func ask(
    _ reader: ReadAhead<(Int, Result<CaptionRequest, any Error>)>, _ mailbox: Mailbox<Message>
  ) {
    // The jobs of the reader throw no errors themselves.
    while let (clip, request) = try? reader.next() {
      let answer = Result {
        try request.get().answer { mailbox.post(.tokens(clip: clip, count: $0)) }
      }
      mailbox.post(.answer(clip: clip, answer))
      if case .failure(let error as CaptionFailure) = answer, error.scope == .run {
        reader.cancel()
      }
    }
  }

  /// The state of the run, on the caller's thread.
  private struct State {
    var file: CaptionFile
    var summary: CaptionSummary
    let replaces: Bool
    var done = 0
    private var serverFailures = 0

    init(file: CaptionFile, summary: CaptionSummary, replaces: Bool) {
      (self.file, self.summary, self.replaces) = (file, summary, replaces)
    }

    mutating func finish(_ clip: MediaClip, _ result: Result<ModelAnswer, any Error>) throws {
      done += 1
      switch result {
      case .success(let answer):
        serverFailures = 0
        try save(answer, of: clip)
      case .failure where summary.interruption != nil:
        done -= 1  // a rerun asks again
      case .failure(let error):
        let failure = error as? CaptionFailure
        let issue = Issue(describing: error)
        switch failure?.scope {
        case .run:
          summary.interruption = issue
          done -= 1
        case .server:
          serverFailures += 1
          fail(clip, issue)
          if serverFailures == CaptionRun.failureLimit { summary.interruption = issue }
        case .clip, nil: fail(clip, issue)
        }
      }
    }

    private mutating func save(_ answer: ModelAnswer, of clip: MediaClip) throws {
      summary.notes += answer.notes.map { "\(clip.name): \($0)" }
      let caption = CaptionText.cleaned(answer.text)
      guard !caption.isEmpty else {
        return fail(clip, Issue("the answer is empty"))
      }
      guard !CaptionQuality.isRefusal(caption) else {
        return fail(
          clip,
          Issue(
            "the model refuses: \(caption.prefix(200))", suggestion: "Write the caption by hand."))
      }
      switch try file.add(caption, of: clip, replaces: replaces) {
      case .kept: summary.kept += 1
      case .written:
        summary.captioned += 1
        if answer.isCut {
          summary.warnings.append(
            Issue(
              [.file(clip.name)],
              "the limit on tokens ended the answer, so its caption is truncated",
              suggestion: "Raise `maxTokens`, and remove the caption to make it again."))
        }
      }
    }

    private mutating func fail(_ clip: MediaClip, _ issue: Issue) {
      // The user knows the clip by the name in the file of captions.
      let rest =
        issue.subject.first == .file(clip.path) ? issue.subject.dropFirst() : issue.subject[...]
      summary.failures.append(
        Issue([.file(clip.name)] + rest, issue.problem, suggestion: issue.suggestion))
    }

    /// The summary with its lists in the order of the clips.
    func sorted(by clips: [MediaClip]) -> CaptionSummary {
      let places = Dictionary(
        clips.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
      func place(_ issue: Issue) -> Int { issue.file.flatMap { places[$0] } ?? .max }
      var summary = summary
      summary.failures.sort { place($0) < place($1) }
      summary.warnings.sort { place($0) < place($1) }
      return summary
    }
  }
}
