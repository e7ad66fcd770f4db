import DemoData
import DemoJudges
import Foundation
import Generation
import LTX
import Media
import Support

/// Generates clips for held-out captions with a finished model, and lets classifiers judge them.
public struct Evaluation {
  /// The settings of the clips.
  public struct Options: Sendable {
    /// The number of captions.
    public var count = 96
    /// The seed of the captions and of the first clips' noise.
    public var seed: UInt64 = 1
    public var steps = 24
    /// The scale of classifier-free guidance.
    public var guidance = 3.0

    public init() {}
  }

  /// The smallest shares of right answers of a model that is good enough.
  public static let limits: [(name: String, share: Double)] = [
    ("color", 0.9), ("shape", 0.8), ("direction", 0.8), ("pitch", 0.7),
  ]

  /// The clips that are generated with one seed.
  private static let clipsPerSeed = 12

  private let options: Options
  private let models: GenerationModels
  private let folder: String
  private let scenes: [DemoScene]

  /// - Parameters:
  ///   - model: The folder of an assembled model.
  ///   - folder: The folder for clips, numbers and the sheet, which is created if it doesn't exist.
  public init(model: String, folder: String, options: Options = Options()) throws {
    self.options = options
    self.folder = folder
    models = GenerationModels(
      ModelFiles(
        unified: "\(model)/\(TinyCheckpoint.name)",
        textEncoder: "\(model)/\(TinyCheckpoint.textEncoderName)"))
    scenes = DemoWorld(seed: options.seed, part: .heldOut).scenes(0..<options.count)
    try makeFolder("\(folder)/clips")
  }

  /// A clip, and whether classifiers find in it what its caption says.
  public struct Judgment: Sendable {
    public let caption: String
    public let path: String
    /// Whether the clip is right in each attribute.
    public let isRight: [String: Bool]
  }

  /// Generates the clips that don't exist yet, judges all of them, and writes the sheet.
  ///
  /// - Parameter report: Called with each line of progress.
  public func run(report: (String) -> Void = { _ in }) throws -> [Judgment] {
    for start in stride(from: 0, to: scenes.count, by: Self.clipsPerSeed) {
      let range = start..<min(start + Self.clipsPerSeed, scenes.count)
      let missing = range.filter { !isFile(path($0)) }
      guard !missing.isEmpty else { continue }
      let plan = try plan(missing, seed: options.seed + UInt64(start))
      try GenerationPipeline(plan).run()
      report("\(range.upperBound) of \(scenes.count) clips")
    }
    let clips = try scenes.indices.map { try JudgedClip(path: path($0)) }
    let judgments = zip(scenes, clips).map { scene, clip in
      Judgment(caption: scene.caption, path: clip.path, isRight: clip.answers(for: scene))
    }
    try SampleSheet.write(Array(clips.prefix(12)), to: "\(folder)/sheet.png")
    try write(judgments)
    return judgments
  }

  private func path(_ index: Int) -> String { "\(folder)/clips/\(index).mp4" }

  private func plan(_ indices: [Int], seed: UInt64) throws -> GenerationPlan {
    var request = GenerationRequest(prompts: indices.map { scenes[$0].caption })
    request.negativePrompt = ""
    (request.width, request.height) = (DemoScene.side, DemoScene.side)
    (request.frames, request.frameRate) = (DemoScene.frameCount, Double(DemoScene.frameRate))
    (request.steps, request.seed) = (options.steps, seed)
    var guidance = GuidanceChoice()
    (guidance.cfg, guidance.stg, guidance.modality) = (options.guidance, 0, 1)
    guidance.rescale = 0
    (request.guidance.video, request.guidance.audio) = (guidance, guidance)
    let plan = try GenerationPlan(request, models: models, output: "\(folder)/clips/clip.mp4")
    return plan.writing(to: indices.map(path))
  }

  /// The share of right answers for each attribute, in alphabetical order.
  public static func shares(_ judgments: [Judgment]) -> [StageMetric] {
    let names = Set(judgments.flatMap(\.isRight.keys)).sorted()
    return names.map { name in
      let hits = judgments.count { $0.isRight[name] == true }
      return StageMetric(name, Double(hits) / Double(max(judgments.count, 1)))
    }
  }

  /// Compares shares with the limits.
  ///
  /// - Returns: A sentence for each attribute that misses its limit.
  public static func problems(_ shares: [StageMetric]) -> [String] {
    limits.compactMap { name, limit in
      let share = shares.first { $0.name == name }?.value ?? 0
      guard share < limit else { return nil }
      return "\(name) is right in \(percent(share)) of the clips (limit \(percent(limit)))"
    }
  }

  public static func percent(_ share: Double) -> String {
    String(format: "%.1f %%", 100 * share)
  }

  private func write(_ judgments: [Judgment]) throws {
    let clips = judgments.map { judgment -> JSON in
      .object([
        "caption": .string(judgment.caption),
        "right": .array(judgment.isRight.filter(\.value).keys.sorted().map { JSON.string($0) }),
      ])
    }
    let shares = Dictionary(
      uniqueKeysWithValues: Self.shares(judgments).map { ($0.name, JSON($0.value)) })
    let report: [String: JSON] = [
      "shares": .object(shares), "clips": .array(clips), "steps": JSON(options.steps),
      "guidance": JSON(options.guidance), "seed": JSON(options.seed),
    ]
    try AtomicFile.write(JSON.object(report).data(), to: "\(folder)/evaluation.json")
  }
}
