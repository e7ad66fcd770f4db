import Foundation
import LTX
import Media
import TensorFiles
import TestSupport
import Testing

@testable import Datasets
@testable import Training

/// Silence is reported wherever a dataset is inspected, and audio tracks are chosen, in datasets
/// that `ltx preprocess` makes.
@Suite struct SilentAudioTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture() }

  /// A clip of 20 frames whose audio is multiplied by `volume`.
  private func clip(_ name: String, volume: Double) throws {
    try runFFmpeg([
      "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=0.8", "-f", "lavfi", "-i",
      "aevalsrc=\(volume)*sin(440*2*PI*t):s=16000:d=0.8", "-c:v", "libx264", "-c:a", "pcm_f32le",
      fixture.file(name),
    ])
  }

  private var both: PerModality<ModalityStrategy?> {
    PerModality<ModalityStrategy?>(
      video: ModalityStrategy(isGenerated: true, latentsFolder: "latents"),
      audio: ModalityStrategy(isGenerated: true, latentsFolder: "audio_latents"))
  }

  @Test func silenceIsReportedByEveryCommandThatReadsTheCache() throws {
    try clip("loud.mkv", volume: 0.3)
    try clip("mute.mkv", volume: 0)
    try clip("quiet.mkv", volume: 0.0001)
    try fixture.dataset([("loud.mkv", "a"), ("mute.mkv", "b"), ("quiet.mkv", "c")])
    let options = try fixture.options("64x64x17")
    let report = try fixture.run(options)
    #expect(
      report.warnings.map(\.reason) == [
        "\(fixture.file("mute.mkv")): its audio is digital silence",
        "\(fixture.file("quiet.mkv")): its audio is nearly silent (-83.0 dBFS RMS)",
      ])
    let note =
      "the audio of 2 of 3 samples is silent (digital silence, or below -70 dBFS RMS), such as mute; training audio on "
      + "them teaches silence. Check the source files, or remove the samples"
    #expect(report.notes.contains(note) && report.withSilentAudio == 2)
    let again = try fixture.run(options)
    #expect(again.notes.contains(note) && again.upToDate == 3)

    let metadata = try fixture.cached("audio_latents/mute").metadata
    #expect(metadata["audio_peak_dbfs"] == "-inf" && metadata["audio_rms_dbfs"] == "-inf")
    #expect(try fixture.cached("audio_latents/loud").metadata["audio_peak_dbfs"] == "-10.46")

    let checked = try CacheChecker(cache: fixture.scratch.path).run()
    #expect(checked.problems.map(\.kind) == [.silence, .silence])
    #expect(checked.problems.map(\.sample) == ["mute", "quiet"] && checked.notes.contains(note))
    let statistics = try DatasetStatistics(cache: fixture.scratch.path)
    #expect(
      statistics.silentAudio == 2 && statistics.measuredAudio == 3
        && statistics.notes.contains(note))

    let cache = fixture.file(".precomputed")
    #expect(try PrecomputedDataset(root: cache, strategies: both).silentAudio.note == note)
    let video = PerModality<ModalityStrategy?>(video: both.video, audio: nil)
    #expect(try PrecomputedDataset(root: cache, strategies: video).silentAudio.note == nil)
  }

  @Test func allSamplesSilent() throws {
    try clip("a.mkv", volume: 0)
    try clip("b.mkv", volume: 0)
    try fixture.dataset([("a.mkv", "a"), ("b.mkv", "b")])
    let report = try fixture.run(fixture.options("64x64x17"))
    #expect(report.notes.contains { $0.hasPrefix("the audio of all 2 samples is silent") })
  }

  @Test func cachesOfOtherToolsAreJudgedByTheirMediaFiles() throws {
    try clip("mute.mkv", volume: 0)
    try fixture.dataset([("mute.mkv", "a")])
    try fixture.run(fixture.options("64x64x17"))
    let path = fixture.file(".precomputed/audio_latents/mute.safetensors")
    let file = try fixture.cached("audio_latents/mute")
    let tensors = try file.entries.keys.map { (key: $0, tensor: try file.tensor($0)) }
    try writeSafetensors(tensors, metadata: [:], to: path, isDurable: false)
    #expect(try DatasetStatistics(cache: fixture.scratch.path).silentAudio == 1)
  }

  @Test func aTrackIsChosenAndAChangeOfItEncodesAudioAgain() throws {
    try runFFmpeg([
      "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=0.8", "-f", "lavfi", "-i",
      "aevalsrc=0:s=16000:d=0.8", "-f", "lavfi", "-i", "sine=440:sample_rate=16000:duration=0.8",
      "-map", "0",
      "-map",
      "1", "-map", "2", "-c:v", "libx264", "-c:a", "pcm_s16le", "-disposition:a:0", "0",
      "-disposition:a:1",
      "default", fixture.file("two.mkv"),
    ])
    try fixture.dataset([("two.mkv", "a")])
    var options = try fixture.options("64x64x17")
    var report = try fixture.run(options)
    #expect(report.warnings.count == 1 && report.withSilentAudio == 0)
    #expect(report.warnings.first?.reason.contains("track 2, marked default, is used") == true)
    options.audioTrack = .number(1)
    report = try fixture.run(options)
    #expect(
      report.encoded(.audioLatents) == 1 && report.encoded(.latents) == 0
        && report.withSilentAudio == 1)
    options.audioTrack = .number(3)
    report = try fixture.run(options)
    #expect(report.failures.map(\.folder) == [.audioLatents])
    #expect(
      report.failures.first?.reason.contains(
        "has no audio track 3 (found 1: pcm_s16le, 16000 Hz, 1 channel; 2: pcm_s16le, 16000 Hz, 1 channel, default)"
      )
        == true)
    // The first track, like upstream.
    options.audioTrack = .automatic
    options.isCompatible = true
    #expect(try fixture.run(options).withSilentAudio == 1)
  }

  @Test func gapsAreReportedAndFilledWithSilence() throws {
    try clip("whole.mkv", volume: 0.3)
    try runFFmpeg([
      "-i", fixture.file("whole.mkv"), "-c:v", "copy", "-c:a", "flac", "-frame_size", "320",
      fixture.file("flac.mkv"),
    ])
    try runFFmpeg([
      "-i", fixture.file("flac.mkv"), "-c", "copy", "-bsf:a",
      "noise=amount=0:drop='between(n\\,10\\,24)'",
      fixture.file("gap.mkv"),
    ])
    try fixture.dataset([("gap.mkv", "a")])
    let report = try fixture.run(fixture.options("64x64x17"))
    #expect(
      report.warnings.map(\.reason) == [
        "\(fixture.file("gap.mkv")): its audio has a gap of 0.30 s at 0.20 s, filled with silence"
      ])
    let gap = try SampleAudioReader().read(fixture.file("gap.mkv"), seconds: 0.68, start: 0).audio
      .channels[0]
    var whole = try SampleAudioReader().read(fixture.file("flac.mkv"), seconds: 0.68, start: 0)
      .audio
      .channels[0]
    for i in 3200..<8000 { whole[i] = 0 }
    #expect(gap == whole)
  }
}
