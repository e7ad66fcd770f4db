import Foundation
import Generation
import LTX
import Media
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

/// Audio, references and masks in the cache.
@Suite struct PreprocessingRolesTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture() }

  private func audioEncoder() throws -> AudioEncoder {
    try Checkpoint(path: fixture.model.checkpoint).audioEncoder(dtype: .float32)
  }

  private func latents(_ audio: AudioClip) throws -> Tensor {
    try withoutGrad {
      try audioEncoder()(AudioTensors.waveform(audio), sampleRate: audio.sampleRate).squeeze(0)
    }
  }

  // MARK: Audio

  @Test func audioOfClipsIsCutOrPaddedToTheirFrames() throws {
    try fixture.clip("a.mp4", frames: 20, audio: 2)
    try fixture.clip("short.mp4", frames: 20, audio: 0.3)
    try fixture.clip("mute.mp4", frames: 20)
    try fixture.dataset([("a.mp4", "x"), ("short.mp4", "x"), ("mute.mp4", "x")])
    let report = try fixture.run(fixture.options("64x64x17"))
    #expect(report.failures.isEmpty && report.withoutAudio == 1)
    #expect(report.encoded(.audioLatents) == 2)
    #expect(!fixture.isCached("audio_latents/mute"))

    let found = try fixture.cached("audio_latents/a")
    #expect(found.keys == ["duration", "frequency_bins", "latents", "num_time_steps"])
    #expect(try found.tensor("duration").item() == 17.0 / 25)
    #expect(
      found.entries["duration"]?.dtype == .float64 && found.entries["latents"]?.dtype == .float32)
    let audio = try DecodedAudio.read(path: fixture.file("a.mp4"), maximumSeconds: 17.0 / 25)
      .stereo()
    let wanted = try latents(audio)
    #expect(try fixture.difference(found.tensor("latents"), wanted) < 1e-5)
    #expect(
      try ["num_time_steps", "frequency_bins"].map { Int(try found.tensor($0).item()) }
        == Array(wanted.shape[1...]))

    // A check of the cache knows why the file is missing.
    let incomplete = try CacheChecker(cache: fixture.scratch.path).run().problems.filter {
      $0.kind == .incomplete
    }
    #expect(incomplete.map(\.sample) == ["mute"])
    #expect(incomplete.first?.problem.contains("its clip has no audio track") == true)

    // Padded with silence to the same length, and reported.
    #expect(try fixture.cached("audio_latents/short").tensor("latents").shape == wanted.shape)
    #expect(report.warnings.map(\.sample) == ["short"])
    #expect(report.warnings.first?.reason.contains("early; silence follows") == true)
  }

  @Test func requestedAudioThatIsMissingIsAFailure() throws {
    try fixture.clip("mute.mp4", frames: 9)
    try fixture.dataset([("mute.mp4", "x")])
    var options = try fixture.options()
    options.audio = .required
    for run in ["first", "second"] {
      let report = try fixture.run(options)
      #expect(report.failures.map(\.folder) == [.audioLatents], "\(run) run")
      #expect(
        report.failures.first?.reason.contains("has no audio, but audio is required") == true)
      #expect(fixture.isCached("latents/mute"))
    }
    options.audio = .skipped
    let report = try fixture.run(options)
    #expect(report.failures.isEmpty && report.withoutAudio == 0)
  }

  /// According to the container, the audio starts half a second after the video.
  @Test func audioThatStartsLateKeepsItsOffset() throws {
    try fixture.clip("a.mp4", frames: 20, audio: 2)
    let late = fixture.file("late.mkv")
    try runFFmpeg([
      "-i", fixture.file("a.mp4"), "-itsoffset", "0.5", "-i", fixture.file("a.mp4"), "-map", "0:v",
      "-map",
      "1:a",
      "-c:v", "copy", "-c:a", "pcm_s16le", late,
    ])
    try fixture.dataset([("late.mkv", "x")])
    let report = try fixture.run(fixture.options("64x64x17"))
    #expect(
      report.warnings.first?.reason.contains("s after the video; silence comes before it") == true)
    let audio = try SampleAudioReader().read(late, seconds: 17.0 / 25, start: 0).audio
    #expect(audio.channels[0][..<7500].allSatisfy { $0 == 0 })
    #expect(audio.channels[0][8400...].contains { abs($0) > 0.1 })
    #expect(
      try fixture.difference(fixture.cached("audio_latents/late").tensor("latents"), latents(audio))
        < 1e-5)
    // Upstream reads it from the first sample on.
    let plain = try SampleAudioReader(isCompatible: true).read(late, seconds: 17.0 / 25, start: 0)
      .audio
    #expect(plain.channels[0][..<7500].contains { abs($0) > 0.1 })
  }

  @Test func anAudioColumnReplacesTheClipsAudioForTheClipsDuration() throws {
    try fixture.clip("a.mp4", frames: 20, rate: Rational(20), audio: 2)
    try fixture.audio("own.wav", seconds: 3)
    try fixture.audio("ref.wav", seconds: 0.5)
    try fixture.dataset([
      ["video": "a.mp4", "caption": "x", "audio": "own.wav", "reference_audio": "ref.wav"]
    ])
    var options = try fixture.options("64x64x17")
    #expect(try fixture.run(options).failures.isEmpty)
    let seconds = 17.0 / 20
    let own = try DecodedAudio.read(path: fixture.file("own.wav"), maximumSeconds: seconds).stereo()
    let found = try fixture.cached("audio_latents/a")
    #expect(try fixture.difference(found.tensor("latents"), latents(own)) < 1e-5)
    #expect(try found.tensor("duration").item() == seconds)
    // A reference is cut, but never padded.
    #expect(try fixture.cached("reference_audio_latents/a").tensor("duration").item() == 0.5)
    // In upstream mode, every clip has 25 frames per second.
    options.isCompatible = true
    #expect(try fixture.run(options).failures.isEmpty)
    #expect(try fixture.cached("audio_latents/a").tensor("duration").item() == 17.0 / 25)
  }

  @Test func audioOnlySamplesUseTheLongestDurationThatFits() throws {
    for (name, seconds) in [("a.wav", 1.3), ("b.wav", 0.7), ("c.wav", 0.2)] {
      try fixture.audio(name, seconds: seconds)
    }
    try WAVWriter.write(
      [(0..<20_800).map { $0 < 8000 ? 0.9 : 0 }], sampleRate: 16000, to: fixture.file("mask.wav"))
    try fixture.dataset([
      ["audio": "a.wav", "caption": "x", "audio_mask": "mask.wav"],
      ["audio": "b.wav", "caption": "x", "audio_mask": "mask.wav"],
      ["audio": "c.wav", "caption": "x", "audio_mask": "mask.wav"],
    ])
    var options = try fixture.options("")
    options.audioDurations = [0.5, 1, 2]
    let report = try fixture.run(options)
    #expect(report.failures.map(\.sample) == ["c"])
    #expect(
      report.failures.first?.reason.contains("lasts 0.2 s, but the shortest duration is 0.5 s")
        == true)
    #expect(try fixture.cached("audio_latents/a").tensor("duration").item() == 1)
    #expect(try fixture.cached("audio_latents/b").tensor("duration").item() == 0.5)
    let steps = Int(try fixture.cached("audio_latents/a").tensor("num_time_steps").item())
    let mask = try fixture.cached("audio_masks/a").tensor("mask").array(of: Float.self)
    #expect(mask.count == steps)
    let ones = mask.prefix { $0 == 1 }.count
    // half a second of 0.04 s steps
    #expect(abs(ones - 13) <= 1 && mask[ones...].allSatisfy { $0 == 0 })

    func requireMasksFit() throws {
      for name in ["a", "b"] {
        let steps = Int(try fixture.cached("audio_latents/\(name)").tensor("num_time_steps").item())
        #expect(try fixture.cached("audio_masks/\(name)").tensor("mask").shape == [steps])
      }
    }
    let again = try fixture.run(options)
    #expect(again.upToDate(.audioMasks) == 2 && again.encoded(.audioMasks) == 0)
    #expect(again.upToDate(.audioLatents) == 2 && again.encoded(.audioLatents) == 0)
    options.audioDurations = [0.5, 1, 1.2]
    #expect(try fixture.run(options).encoded(.audioLatents) == 1)
    try requireMasksFit()
    options.audioDurations = []
    #expect(try fixture.run(options).encoded(.audioLatents) == 3)
    try requireMasksFit()
    #expect(try fixture.cached("audio_latents/a").tensor("duration").item() == 1.3)
    #expect(try fixture.run(options).encoded(.audioLatents) == 0)
  }

  // MARK: References and masks

  @Test func referencesSmallerSlowerAndShapedAsTheirClips() throws {
    try fixture.clip("a.mp4", width: 128, height: 256, frames: 17)
    try fixture.clip("r.mp4", width: 256, height: 128, frames: 30, rate: Rational(30))
    try fixture.dataset([["video": "a.mp4", "caption": "x", "reference_video": "r.mp4"]])
    var options = try fixture.options("256x128x17;128x256x17")
    options.referenceDownscale = 2
    options.referenceTemporalScale = 2
    #expect(try fixture.run(options).failures.isEmpty)
    let found = try fixture.cached("reference_latents/a")
    #expect(try found.tensor("latents").shape[1...] == [2, 4, 2])
    #expect(try found.tensor("fps").item() == 15)
    let reader = try VideoReader(path: fixture.file("r.mp4"))
    let frames = try (0..<17).compactMap { _ in try reader.next() }
    let kept = [0] + stride(from: 1, to: 17, by: 2)
    let encoder = try Checkpoint(path: fixture.model.checkpoint).videoEncoder(dtype: .float32)
    let wanted = try withoutGrad {
      try encoder(FrameTensors.pixels(kept.map { frames[$0] }, filling: (64, 128))).squeeze(0)
    }
    #expect(try fixture.difference(found.tensor("latents"), wanted) < 1e-5)

    // Upstream chooses by the shape of the reference itself.
    options.isCompatible = true
    #expect(try fixture.run(options).failures.isEmpty)
    #expect(try fixture.cached("reference_latents/a").tensor("latents").shape[1...] == [2, 2, 4])
  }

  @Test func referencesWithoutAFittingSize() throws {
    try fixture.clip("a.mp4", frames: 17)
    try fixture.dataset([["video": "a.mp4", "caption": "x", "reference_video": "a.mp4"]])
    func error(_ buckets: String, _ change: (inout PreprocessingOptions) -> Void) -> String {
      message {
        var options = try fixture.options(buckets)
        change(&options)
        _ = try PreprocessingPlan(options)
      }
    }
    #expect(error("96x64x17") { $0.referenceDownscale = 2 }.contains("multiples of 64 and 64"))
    #expect(
      error("128x128x9") { $0.referenceTemporalScale = 2 }.contains("multiple of 16, plus 1")
    )
  }

  @Test func masksAreStoredByTheCellsOfTheLatents() throws {
    try fixture.clip("a.mp4", width: 128, height: 64, frames: 17)
    let half = (0..<(128 * 64)).flatMap { [UInt8](repeating: $0 % 128 < 64 ? 255 : 0, count: 3) }
    try RGBFrame(bytes: half, width: 128, height: 64).writePNG(to: fixture.file("mask.png"))
    try fixture.dataset([["video": "a.mp4", "caption": "x", "video_mask": "mask.png"]])
    var options = try fixture.options("64x64x17")
    #expect(try fixture.run(options).failures.isEmpty)
    let mask = try fixture.cached("video_masks/a").tensor("mask")
    #expect(mask.shape == [3, 2, 2])
    #expect(try mask.array(of: Float.self) == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    #expect(try fixture.run(options).upToDate == 1)
    options.overwrite = true
    #expect(try fixture.run(options).encoded(.videoMasks) == 1)
    options.isCompatible = true
    #expect(try fixture.run(options).encoded(.videoMasks) == 1)
    #expect(
      try fixture.run(options).encoded(.videoMasks) == 0,
      "as in upstream, --overwrite skips masks")
  }

  // MARK: Frames

  @Test func aVariableRateBecomesConstantExceptInUpstreamMode() throws {
    // Ten frames at 10 fps, then forty at 40 fps: from the first second on, four times as fast.
    try fixture.clip("even.mp4", frames: 50, rate: Rational(10))
    let path = fixture.file("uneven.mkv")
    try runFFmpeg([
      "-i", fixture.file("even.mp4"), "-vf", "setpts=if(lt(N\\,10)\\,N*0.1\\,1+(N-10)*0.025)/TB",
      "-vsync",
      "vfr",
      "-enc_time_base", "1:1000", "-c:v", "ffv1", path,
    ])
    try fixture.dataset([("uneven.mkv", "x")])
    var options = try fixture.options("64x64x33")
    options.frameRate = 20
    #expect(try fixture.run(options).failures.isEmpty)
    #expect(try fixture.cached("latents/uneven").tensor("fps").item() == 20)
    let reader = try VideoReader(path: path)
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    try #require(frames.count == 50)
    // At 20 fps each of the first ten is shown twice, and every second one of the others.
    let indices = (0..<33).map { $0 < 20 ? $0 / 2 : 10 + ($0 - 20) * 2 }
    let steady = try ClipReader(buckets: options.buckets, frameRate: 20).read(path).pixels
    let wanted = try FrameTensors.pixels(indices.map { frames[$0] }, filling: (64, 64))
    #expect(try fixture.difference(steady, wanted) == 0)

    options.frameRate = nil
    let report = try fixture.run(options)
    #expect(report.failures.isEmpty)
    #expect(report.warnings.first?.reason.contains("its frame rate varies") == true)
    // 33 frames in 1.55 seconds.
    #expect(try fixture.cached("latents/uneven").tensor("fps").item() == 32 / 1.55)
    let plain = try ClipReader(buckets: options.buckets, isCompatible: true).read(path).pixels
    #expect(
      try fixture.difference(plain, FrameTensors.pixels(Array(frames[..<33]), filling: (64, 64)))
        == 0)
  }

  @Test func rotatedClipsAndPixelsThatAreNoSquaresAreShownInTheirTrueShape() throws {
    try fixture.clip("a.mp4", width: 96, height: 64, frames: 9)
    try runFFmpeg([
      "-i", fixture.file("a.mp4"), "-c", "copy", "-metadata:s:v", "rotate=90",
      fixture.file("turned.mp4"),
    ])
    try runFFmpeg([
      "-i", fixture.file("a.mp4"), "-c", "copy", "-aspect", "1:2", fixture.file("narrow.mp4"),
    ])
    try fixture.dataset([("turned.mp4", "x"), ("narrow.mp4", "x")])
    var options = try fixture.options("96x64x9;64x96x9;64x128x9")
    let report = try fixture.run(options)
    #expect(report.failures.isEmpty)
    #expect(try fixture.cached("latents/turned").tensor("latents").shape[1...] == [2, 3, 2])
    #expect(try fixture.cached("latents/narrow").tensor("latents").shape[1...] == [2, 4, 2])
    #expect(report.notes.contains { $0.contains("1 clip was rotated or mirrored") })
    #expect(report.notes.contains { $0.contains("1 clip has non-square pixels") })
    options.isCompatible = true
    #expect(try fixture.run(options).failures.isEmpty)
    #expect(try fixture.cached("latents/turned").tensor("latents").shape[1...] == [2, 2, 3])
    #expect(try fixture.cached("latents/narrow").tensor("latents").shape[1...] == [2, 2, 3])
  }

  // MARK: Batches and shares

  @Test func clipsEncodedTogetherAreAsThoseEncodedAlone() throws {
    for index in 0..<5 {
      try fixture.clip("c\(index).mp4", width: index == 2 ? 200 : 64, frames: 9)
    }
    try fixture.dataset((0..<5).map { ("c\($0).mp4", "x") })
    var options = try fixture.options("64x64x9;96x64x9")
    try fixture.run(options)
    let alone = try (0..<5).map { try fixture.cached("latents/c\($0)").tensor("latents").clone() }
    options.batchSize = 3
    options.overwrite = true
    #expect(try fixture.run(options).encoded(.latents) == 5)
    for index in 0..<5 {
      let together = try fixture.cached("latents/c\(index)").tensor("latents")
      #expect(try fixture.difference(together, alone[index]) < 1e-5)
    }
  }

  @Test func processesShareADatasetWithoutOverlap() throws {
    for index in 0..<5 { try fixture.clip("c\(index).mp4", frames: 9) }
    try fixture.dataset((0..<5).map { ("c\($0).mp4", "caption \($0)") } + [("none.mp4", "x")])
    var rows = 0
    for index in 0..<2 {
      var options = try fixture.options()
      options.share = try WorkShare(environment: [
        "RANK": "\(index)", "WORLD_SIZE": "2", "LOCAL_RANK": "0",
      ])
      let report = try fixture.run(options)
      #expect(
        report.encoded(.latents) == [3, 2][index] && report.encoded(.conditions) == [3, 2][index])
      #expect(report.failures.count == index)
      rows += report.rows
    }
    #expect(rows == 6)
    let files = fixture.scratch.files(below: ".precomputed")
    #expect(
      files.filter { $0.hasPrefix("report") } == ["report-0-of-2.json", "report-1-of-2.json"])
    #expect(files.filter { $0.hasPrefix("latents/") }.count == 5)
    // A single process finds everything up to date.
    #expect(try fixture.run(fixture.options()).upToDate == 5)
  }

  @Test func sharesAreReadFromTheLaunchersEnvironment() throws {
    #expect(try WorkShare(environment: [:]) == .whole)
    #expect(
      try WorkShare(environment: [
        "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1",
      ])
        == WorkShare(index: 3, count: 4))
    #expect(
      try WorkShare(environment: [
        "RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "3", "SLURM_NTASKS": "4",
      ])
      .count == 2)
    // The body of a job script is one process, whatever the job's allocation; srun's steps have as
    // many processes as they state.
    var job = ["SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"]
    #expect(try WorkShare(environment: job) == .whole)
    job["SLURM_STEP_NUM_TASKS"] = "2"
    #expect(try WorkShare(environment: job).count == 2)
    for bad in [
      ["RANK": "2", "WORLD_SIZE": "2"], ["RANK": "x", "WORLD_SIZE": "2"],
      ["RANK": "0", "WORLD_SIZE": "0"],
    ] {
      #expect(message { _ = try WorkShare(environment: bad) }.contains("in the environment"))
    }
  }
}
