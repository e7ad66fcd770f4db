import Generation
import LTX
import Testing

@testable import Training

@Suite struct ConfigurationValidationTests {
  private func read(_ validation: String) throws -> TrainingConfiguration {
    try ConfigurationText.read(ConfigurationText.minimal + "validation: \(validation)\n")
  }

  private func problems(_ validation: String) throws -> [ConfigurationProblems.Problem] {
    try ConfigurationText.problems(ConfigurationText.minimal + "validation: \(validation)\n")
  }

  @Test func samples() throws {
    let v = try ConfigurationText.read(ConfigurationText.everything).validation
    #expect(
      v.samples == [
        .init(
          prompt: "first: a prompt",
          conditions: [
            .firstFrame(path: "i.png"),
            .prefix(path: "v.mp4", frames: 9),
            .audioPrefix(path: "a.wav", seconds: 0.5),
            .suffix(path: "v.mp4", frames: 8),
            .crop(path: "v.mp4", region: .init(top: 0, left: 0, bottom: 32, right: 64)),
            .keep(path: "v.mp4", mask: "m.mp4"), .audioKeep(path: "a.wav", mask: "m.pt"),
            .reference(path: "r.mp4", scale: ReferenceScale(space: 2, time: 3), isShown: true),
            .audioReference(path: "r.wav"),
          ], videoDims: .init(width: 64, height: 96, frames: 17), seed: 5),
        .init(
          prompt: "second",
          conditions: [
            .video(path: "v.mp4"),
            .audioReference(path: "r.wav"),
          ]),
        .init(
          prompt: "third",
          conditions: [
            .audio(path: "a.wav"), .suffix(path: "v.mp4"),
          ]),
      ])
    #expect(v.negativePrompt == "bad" && v.videoDims == .init(width: 128, height: 64, frames: 9))
    #expect(v.frameRate == 25 && v.seed == 3 && v.inferenceSteps == 4 && v.interval == 20)
    #expect(
      v.videoCFGScale == 2 && v.audioCFGScale == 3.5 && v.videoSTGScale == 0.5
        && v.audioSTGScale == 0)
    #expect(v.stgBlocks == [1, 2] && v.guidanceRescale == 0.2)
    #expect(v.videoModalityGuidanceScale == 1.5 && v.audioModalityGuidanceScale == 2.5)
    #expect(!v.generateAudio && v.generateVideo && v.skipInitialValidation)
    #expect(v.heldOut == .init(preprocessedDataRoot: "/data/held", count: 4, interval: 10, seed: 6))
  }

  /// Older keys become samples and scales of each modality, and each is reported.
  @Test func olderKeys() throws {
    let c = try read(
      """

        prompts: [a, b]
        images: [a.png, b.png]
        reference_videos: [a.mp4, b.mp4]
        reference_downscale_factor: 2
        include_reference_in_output: true
        guidance_scale: 4
        stg_scale: 0.5
        stg_mode: stg_v
      """)
    #expect(
      c.validation.samples
        == ["a", "b"].map { name in
          .init(
            prompt: name,
            conditions: [
              .firstFrame(path: "\(name).png"),
              .reference(
                path: "\(name).mp4", scale: ReferenceScale(space: 2, time: 1), isShown: true),
            ])
        })
    #expect(c.validation.videoCFGScale == 4 && c.validation.audioCFGScale == 4)
    #expect(c.validation.videoSTGScale == 0.5 && c.validation.audioSTGScale == 0)
    #expect(
      c.notices.map(\.key).sorted()
        == [
          "guidance_scale", "images", "include_reference_in_output", "prompts",
          "reference_downscale_factor",
          "reference_videos", "stg_mode", "stg_scale",
        ].map { "validation.\($0)" })
    #expect(c.notices.first { $0.key == "validation.images" }?.line == 6)
    #expect(
      c.notices.first { $0.key == "validation.guidance_scale" }?.description
        == "validation.guidance_scale (line 10) sets video_cfg_scale and audio_cfg_scale")
    let joint = try read("{stg_scale: 0.25}").validation
    #expect(joint.videoSTGScale == 0.25 && joint.audioSTGScale == 0.25)
    #expect(try read("{stg_mode: stg_v}").validation.audioSTGScale == 0)
    // Samples win, as in the official trainer.
    let both = try read("{prompts: [a], samples: [{prompt: b}]}")
    #expect(both.validation.samples.map(\.prompt) == ["b"])
    #expect(both.notices.map(\.message) == ["has no effect; samples say what is generated"])
  }

  @Test func heldOutInterval() throws {
    #expect(try read("{interval: 7}").validation.heldOutInterval == nil)
    #expect(try read("{interval: 7, held_out: {count: 2}}").validation.heldOutInterval == 7)
    #expect(
      try read("{interval: 7, held_out: {count: 2, interval: 3}}").validation.heldOutInterval == 3)
    #expect(
      try read("{interval: null, held_out: {preprocessed_data_root: h}}").validation.heldOutInterval
        == nil)
  }

  @Test(arguments: [
    ("{guidance_scale: 3, audio_cfg_scale: 2}", "guidance_scale", "audio_cfg_scale is given"),
    ("{stg_mode: stg_v, video_stg_scale: 1}", "stg_mode", "video_stg_scale is given"),
    ("{stg_mode: stg_a}", "stg_mode", "stg_av, stg_v"),
    ("{guidance_scale: 0.5}", "guidance_scale", "at least 1"),
    ("{prompts: [a, b], images: [x]}", "images", "has 1 entries for 2 prompts"),
    ("{reference_videos: [x]}", "reference_videos", "has 1 entries for 0 prompts"),
    ("{samples: [{}]}", "samples[0].prompt", "is missing"),
    ("{samples: [a]}", "samples[0]", "a section"),
    (
      "{samples: [{prompt: p, conditions: [{type: prefix}]}]}", "samples[0].conditions[0]",
      "needs video or audio"
    ),
    (
      "{samples: [{prompt: p, conditions: [{type: mask, video: v}]}]}",
      "samples[0].conditions[0].mask",
      "is missing"
    ),
    (
      "{samples: [{prompt: p, conditions: [{type: video_to_audio, video: v}, {type: audio_to_video, audio: a}]}]}",
      "samples[0].conditions", "nothing is generated"
    ),
    (
      "{samples: [{prompt: p, conditions: [{type: video_to_audio, video: v}, {type: first_frame, image_or_video: i}]}]}",
      "samples[0].conditions", "first_frame of the video"
    ),
    (
      "{samples: [{prompt: p, conditions: [{type: audio_to_video, audio: v}, {type: suffix, audio: i}]}]}",
      "samples[0].conditions", "suffix of the audio"
    ),
    (
      "{samples: [{prompt: p}], generate_video: false, generate_audio: false}", "generate_video",
      "one of them must be true"
    ),
    ("{held_out: {count: -1}}", "held_out.count", "at least 0"),
  ])
  func wrong(validation: String, key: String, message: String) throws {
    let found = try problems(validation)
    #expect(found.map(\.key) == ["validation.\(key)"], "\(found)")
    #expect(found.first?.message.contains(message) == true, "\(found)")
  }
}
