import Testing

@testable import Training

@Suite struct ConfigurationStrategyTests {
  private func read(_ strategy: String) throws -> TrainingConfiguration {
    try ConfigurationText.read(ConfigurationText.minimal + "training_strategy: \(strategy)\n")
  }

  private func problems(_ strategy: String, _ more: String = "") throws -> [ConfigurationProblems
    .Problem]
  {
    try ConfigurationText.problems(
      ConfigurationText.minimal + "training_strategy: \(strategy)\n\(more)")
  }

  /// The folders that are read and their roles, in the order of the official `get_data_sources`.
  @Test(arguments: [
    ("{}", "latents=latents conditions=conditions"),
    (
      "{with_audio: true, audio_latents_dir: a}",
      "latents=latents conditions=conditions a=audio_latents"
    ),
    (
      "{name: flexible, audio: {is_generated: true, latents_dir: s}}",
      "conditions=conditions s=audio_latents"
    ),
    (
      """
      {name: flexible, audio: {is_generated: false, latents_dir: s, conditions: [{type: mask, mask_dir: am}]},
        video: {is_generated: true, latents_dir: v, conditions: [{type: reference, latents_dir: r}, {type: first_frame}]}}
      """, "conditions=conditions v=video_latents s=audio_latents r=r am=am"
    ),
    (
      """
      {name: flexible, audio: {is_generated: true, latents_dir: x}, video: {is_generated: true, latents_dir: x}}
      """, "conditions=conditions x=audio_latents"
    ),
  ])
  func dataSources(strategy: String, sources: String) throws {
    let found = try read(strategy).trainingStrategy.dataSources
    #expect(found.map { "\($0.folder)=\($0.role)" }.joined(separator: " ") == sources)
  }

  @Test func lossWeights() throws {
    let text = """
      {name: flexible, video_loss_weight: 0, audio_loss_weight: 2.5,
        video: {is_generated: true, latents_dir: v}, audio: {is_generated: true, latents_dir: a}}
      """
    #expect(
      try read(text).trainingStrategy.objective == Objective(videoWeight: 0, audioWeight: 2.5))
    let older = try read("{with_audio: true, audio_loss_weight: 3}")
    #expect(older.trainingStrategy.objective == Objective(audioWeight: 3))
    #expect(try read("{}").trainingStrategy.objective == Objective())
    let unused = try read("{audio_loss_weight: 3}")
    #expect(unused.notices.map(\.key).contains("training_strategy.audio_loss_weight"))
  }

  @Test func olderStrategies() throws {
    let text = try read("{name: text_to_video, first_frame_conditioning_p: 0.5}")
    guard case .textToVideo(let strategy) = text.trainingStrategy else {
      Issue.record("\(text.trainingStrategy)")
      return
    }
    #expect(strategy.firstFrameConditioningP == 0.5)
    #expect(text.notices.map(\.key) == ["training_strategy.name"] && text.notices[0].line == 4)

    let videoText =
      ConfigurationText.minimal
      + "training_strategy: {name: video_to_video, reference_latents_dir: r}\n"
    #expect(try ConfigurationText.problems(videoText).map(\.key) == ["validation"])
    let video = try ConfigurationText.read(videoText + "validation: {interval: null}\n")
    #expect(
      video.trainingStrategy.dataSources == [
        .init(folder: "latents", role: "latents"), .init(folder: "conditions", role: "conditions"),
        .init(folder: "r", role: "ref_latents"),
      ])
    let full = videoText.replacingOccurrences(of: "m.safetensors", with: "m, training_mode: full")
    #expect(
      try ConfigurationText.problems(full + "validation: {interval: null}\n").map(\.key)
        == ["training_strategy"])
    let sample = "validation: {samples: [{prompt: p, conditions: [{type: reference, video: r}]}]}\n"
    _ = try ConfigurationText.read(videoText + sample)
  }

  @Test(arguments: [
    ("{name: flexible}", "training_strategy", "generates nothing"),
    (
      "{name: flexible, video: {is_generated: no, latents_dir: l}}", "training_strategy",
      "generates nothing"
    ),
    ("{name: flex}", "training_strategy.name", "flexible, text_to_video, video_to_video"),
    ("{name: null}", "training_strategy.name", "null"),
    ("text_to_video", "training_strategy", "a section"),
    ("{video: {}}", "training_strategy.video", "not a known key"),
    (
      "{name: flexible, video: {latents_dir: l}}", "training_strategy.video.is_generated",
      "is missing"
    ),
    (
      "{name: flexible, audio: {is_generated: true, latents_dir: l, conditions: [{type: first_frame}]}}",
      "training_strategy.audio", "first_frame, which is only for video"
    ),
    (
      "{name: flexible, video: {is_generated: true, latents_dir: l, conditions: [{type: prefix}]}}",
      "training_strategy.video.conditions[0].temporal_boundary", "is missing"
    ),
    (
      "{name: flexible, video: {is_generated: true, latents_dir: l, conditions: [{type: mask, latents_dir: m, mask_dir: m}]}}",
      "training_strategy.video.conditions[0].latents_dir", "not a known key"
    ),
    (
      "{name: flexible, video: {is_generated: true, latents_dir: l, conditions: [{type: spatial_crop, spatial_region: [0, 0, 0, 9]}]}}",
      "training_strategy.video.conditions[0].spatial_region", "empty region"
    ),
    (
      "{name: flexible, video: {is_generated: true, latents_dir: l, conditions: [{probability: 1}]}}",
      "training_strategy.video.conditions[0].type", "is missing"
    ),
  ])
  func wrong(strategy: String, key: String, message: String) throws {
    let found = try problems(strategy)
    #expect(found.map(\.key) == [key], "\(found)")
    #expect(found.first?.message.contains(message) == true, "\(found)")
  }
}
