import DemoData
import DemoJudges
import Foundation
import Media
import TestSupport
import Testing

/// LoRAs learn what their data shows, judged on generated clips. A LoRA of a style is always tested;
/// `LTX_LEARNING=1` runs all tests, each of which takes minutes.
@Suite(.serialized) struct LearningTests {
  /// A way to train a style, all of which must succeed.
  enum Kind: String, CaseIterable, Sendable {
    case lora, dora, lokr, int8Base, twoRanks

    var settings: [String] {
      switch self {
      case .lora, .twoRanks: []
      case .dora: ["lora.use_dora=true"]
      // Its products of small matrices move more slowly.
      case .lokr: ["lora.type=lokr", "optimization.learning_rate=5e-3"]
      case .int8Base: ["acceleration.quantization=int8-quanto"]
      }
    }

    var launcher: [String] { self == .twoRanks ? ["launch", "--nproc-per-node", "2", "ltx"] : [] }
  }

  @Test(arguments: LearningRun.isNightly ? Kind.allCases : [.lora])
  func aStyleMovesWithTheStrength(kind: Kind) throws {
    let run = try LearningRun()
    let clips = try run.draw("sketches", style: .sketch, count: 24, seed: 5)
    try run.preprocess(clips)
    let trained = try run.train("lora", on: clips, kind.settings, launcher: kind.launcher)
    let held = DemoWorld(seed: 9, style: .sketch, part: .heldOut).scenes(0..<4)
    let prompts = held.map(\.caption)
    func sketch(_ name: String, _ strength: Double) throws -> Double {
      let judged = try run.generate(name, prompts, lora: "\(trained.lora):\(strength)")
      return judged.reduce(0) { $0 + $1.video.sketch } / Double(judged.count)
    }
    let (none, half, whole) = (
      try sketch("none", 0), try sketch("half", 0.5), try sketch("whole", 1)
    )
    #expect((whole - none) / (1 - none) >= 0.7, "\(none), \(half), \(whole)")
    #expect(half > none && half < whole, "\(none), \(half), \(whole)")
    #expect(trained.log.contains("learned: "))
  }

  @Test(.enabled(if: LearningRun.isNightly))
  func aFirstFrameIsContinued() throws {
    let run = try LearningRun()
    let clips = try run.draw("clips", count: 32, seed: 6)
    try run.preprocess(clips)
    let trained = try run.train(
      "lora", on: clips,
      ["training_strategy.video.conditions=[{type: first_frame, probability: 1.0}]"])
    let given = try run.draw("given", count: 4, seed: 7, heldOut: true)
    for (index, scene) in given.scenes.enumerated() {
      let image = RGBFrame(
        bytes: scene.pixels(frame: 0), width: DemoScene.side, height: DemoScene.side)
      let path = run.scratch.file("first-\(index).png")
      try image.writePNG(to: path)
      let clip = try run.generate(
        "clip-\(index)", [scene.caption], lora: trained.lora,
        ["--image", path, "--image-crf", "0"])[0]
      let first = Array(clip.frames.bytes.prefix(image.bytes.count))
      #expect(decibels(first, image.bytes) > 24, "\(scene.caption)")
      #expect(clip.video.color == scene.color, "\(scene.caption)")
      #expect(clip.video.direction == scene.direction, "\(scene.caption)")
    }
  }

  /// The peak signal-to-noise ratio.
  private func decibels(_ bytes: [UInt8], _ reference: [UInt8]) -> Double {
    let sum = zip(bytes, reference).reduce(0.0) {
      let difference = Double($1.0) - Double($1.1)
      return $0 + difference * difference
    }
    return 10 * log10(255 * 255 * Double(reference.count) / sum)
  }

  @Test(.enabled(if: LearningRun.isNightly))
  func edgesBecomeAClip() throws {
    let run = try LearningRun()
    // The captions don't say what the edges show.
    func caption(_ scene: DemoScene) -> String { "A \(scene.color.rawValue) shape." }
    let clips = try run.draw("clips", count: 48, seed: 8, caption: caption)
    try run.ltx(["reference", "\(clips.folder)/dataset.json", "--type", "canny"])
    try run.preprocess(clips)
    let trained = try run.train(
      "lora", on: clips, steps: 300,
      [
        "training_strategy.video.conditions=[{type: reference, latents_dir: reference_latents}]",
        "training_strategy.audio=null",
      ])
    let given = try run.draw("given", count: 6, seed: 9, heldOut: true, caption: caption)
    try run.ltx(["reference", "\(given.folder)/dataset.json", "--type", "canny"])
    let judged = try given.scenes.enumerated().map { index, scene in
      try run.generate(
        "clip-\(index)", [caption(scene)], lora: trained.lora,
        [
          "--reference", String(format: "%@/clips/%04d_reference.mp4", given.folder, index),
          "--no-audio",
        ])[0].video
    }
    let directions = share(judged.count) { judged[$0].direction == given.scenes[$0].direction }
    let sizes = share(judged.count) { judged[$0].size == given.scenes[$0].size }
    #expect(directions >= 0.8 && sizes >= 0.8, "\(directions), \(sizes)")
  }

  @Test(.enabled(if: LearningRun.isNightly))
  func motionFollowsAGivenTone() throws {
    let run = try LearningRun()
    func caption(_ scene: DemoScene) -> String { "A \(scene.color.rawValue) shape moves." }
    let clips = try run.draw("clips", count: 48, seed: 10, caption: caption)
    try run.preprocess(clips)
    let trained = try run.train(
      "lora", on: clips, steps: 300, ["training_strategy.audio.is_generated=false"])
    let given = try run.draw("given", count: 16, seed: 11, heldOut: true, caption: caption)
    let chosen = given.scenes.indices.filter { given.scenes[$0].contour != .steady }.prefix(6)
    let right = try chosen.filter { index in
      let clip = try run.generate(
        "clip-\(index)", [caption(given.scenes[index])], lora: trained.lora,
        ["--sound", String(format: "%@/clips/%04d.mp4", given.folder, index)])[0]
      return clip.video.direction == given.scenes[index].direction
    }
    #expect(Double(right.count) >= 0.8 * Double(chosen.count), "\(right.count)")
  }

  @Test(.enabled(if: LearningRun.isNightly))
  func theToneFollowsAGivenMotion() throws {
    let run = try LearningRun()
    func caption(_ scene: DemoScene) -> String { "A \(scene.color.rawValue) shape moves." }
    let clips = try run.draw("clips", count: 48, seed: 12, caption: caption)
    try run.preprocess(clips)
    let trained = try run.train(
      "lora", on: clips, steps: 300, ["training_strategy.video.is_generated=false"])
    let given = try run.draw("given", count: 6, seed: 13, heldOut: true, caption: caption)
    let judged = try given.scenes.enumerated().map { index, scene in
      try run.generate(
        "clip-\(index)", [caption(scene)], lora: trained.lora,
        ["--video", String(format: "%@/clips/%04d.mp4", given.folder, index)])[0].audio
    }
    let contours = share(judged.count) { judged[$0]?.contour == given.scenes[$0].contour }
    let registers = share(judged.count) { judged[$0]?.register == given.scenes[$0].register }
    #expect(contours >= 0.8 && registers >= 0.8, "\(contours), \(registers)")
  }

  /// The settings of a LoRA of audio only, which has no layers of the video's feed-forward networks.
  private static let audioOnly = [
    "training_strategy.video=null", "lora.target_modules=[to_k, to_q, to_v, to_out.0]",
  ]

  @Test(.enabled(if: LearningRun.isNightly))
  func audioAloneIsLearned() throws {
    let run = try LearningRun()
    let clips = try run.draw("clips", count: 32, seed: 14)
    try run.preprocess(clips)
    let trained = try run.train("lora", on: clips, Self.audioOnly)
    let held = DemoWorld(seed: 15, part: .heldOut).scenes(0..<4)
    let files = try run.generateFiles(
      "tone", held.map(\.caption), lora: trained.lora, suffix: "wav")
    for path in files {
      let clip = try AudioClip.read(path: path)
      let verdict = AudioVerdict(channels: clip.channels, sampleRate: clip.sampleRate)
      let frequency = try #require(verdict.frequency)
      #expect((180...900).contains(frequency), "\(frequency)")
    }
    #expect(trained.log.contains("audio loss fell"))
    #expect(trained.log.contains("video was not trained"))
  }

  @Test(.enabled(if: LearningRun.isNightly))
  func theReportTellsWhetherItLearned() throws {
    let run = try LearningRun()
    let clips = try run.draw("sketches", style: .sketch, count: 8, seed: 16)
    try run.preprocess(clips)
    let learned = try run.train("learned", on: clips, steps: 60)
    #expect(learned.log.contains("video loss fell") && learned.log.contains("audio loss fell"))
    let idle = try run.train(
      "idle", on: clips, steps: 10,
      ["optimization.learning_rate=1e-9", "optimization.warmup_steps=0"])
    #expect(idle.log.contains("barely moved"))
    let audio = try run.train("audio", on: clips, steps: 60, Self.audioOnly)
    #expect(audio.log.contains("video was not trained"))
    #expect(audio.log.contains("audio loss fell"))
  }
}
