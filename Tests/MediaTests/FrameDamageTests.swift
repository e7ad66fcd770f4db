import CFFmpeg
import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Decoders' messages on damaged frames are reported.
@Suite struct FrameDamageTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Frames with much detail, so that packets are large.
  private func make(_ name: String, _ options: [String]) throws {
    try ffmpeg(
      ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=1,noise=alls=20:allf=t"]
        + options + [
          name
        ],
      in: folder)
  }

  /// The positions of the video's packets in the file.
  private func packets(_ name: String) throws -> [(place: Int, size: Int)] {
    let reader = try PacketReader(file: folder.file(name), kind: AVMEDIA_TYPE_VIDEO)
    var result: [(Int, Int)] = []
    while let packet = try reader.next() {
      result.append((Int(packet.pointee.pos), Int(packet.pointee.size)))
    }
    return result
  }

  /// Overwrites the last 80 % of some packets, numbered as in the file, with noise.
  private func damage(_ name: String, as other: String, packets range: ClosedRange<Int>) throws {
    var data = try Data(contentsOf: URL(fileURLWithPath: folder.file(name)))
    var state: UInt64 = 7
    for packet in try packets(name)[range] {
      for place in (packet.place + packet.size / 5)..<(packet.place + packet.size) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        data[place] = UInt8(truncatingIfNeeded: state >> 33)
      }
    }
    try data.write(to: URL(fileURLWithPath: folder.file(other)))
  }

  private func found(_ name: String, upTo count: Int = .max) throws -> (
    damage: FrameDamage?, frames: Int
  ) {
    let reader = try VideoReader(path: folder.file(name))
    var frames = 0
    while frames < count, try reader.next() != nil { frames += 1 }
    return (try reader.damage(), frames)
  }

  /// Without reordered frames, so that packet and frame numbers match.
  @Test(arguments: [
    "a.mp4 -c:v libx264 -bf 0 -g 12 -pix_fmt yuv420p",
    "a.mkv -c:v libx264 -bf 0 -g 12 -pix_fmt yuv420p",
    "a.avi -c:v mpeg4 -bf 0 -g 12 -q:v 3", "a.mkv -c:v mpeg2video -bf 0 -g 12 -q:v 3",
    "a.avi -c:v mjpeg -q:v 3 -pix_fmt yuvj420p", "a.mkv -c:v ffv1 -level 3 -slicecrc 1",
    "a.mov -c:v prores_ks",
  ])
  func damagedFramesAreNamed(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try make(words[0], Array(words.dropFirst()))
    #expect(try found(words[0]).damage == nil, "whole")
    try damage(words[0], as: "b" + words[0], packets: 3...6)
    let (damage, frames) = try found("b" + words[0])
    let report = try #require(damage)
    // Each of the frames is reported, as damaged or as missing.
    let lost = 25 - frames
    #expect(report.damaged.count + lost >= 4 && report.damaged.count + lost <= 9, "\\(report)")
    #expect(
      report.damaged.allSatisfy { (2...11).contains($0) }
        && report.missingAfter.allSatisfy { (1...7).contains($0) })
    #expect(!report.description.isEmpty)
    // Frames before the damage are intact.
    #expect(try found("b" + words[0], upTo: 3).damage == nil)
  }

  /// HEVC decoders don't notice noise, but miss frames that others are predicted from.
  @Test(arguments: [
    "a.mp4 -c:v libx265 -x265-params bframes=0:keyint=50:log-level=none"
  ])
  func framesWithoutTheirReferencesAreNamed(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try make(words[0], words.dropFirst() + ["-pix_fmt", "yuv420p"])
    try ffmpeg(
      ["-i", words[0], "-c", "copy", "-bsf:v", "noise=drop='eq(n,5)'", "drop.mkv"], in: folder)
    let (damage, frames) = try found("drop.mkv")
    #expect(frames == 24 && damage?.damaged.first == 5, "\(String(describing: damage))")
    #expect(try found("drop.mkv", upTo: 5).damage == nil)
  }

  @Test func splitReportsDamageWithItsScene() throws {
    try make("a.mp4", ["-c:v", "libx264", "-bf", "0", "-g", "12", "-pix_fmt", "yuv420p"])
    try damage("a.mp4", as: "b.mp4", packets: 2...6)
    for output in [SceneSplitter.Output.encoded, .copied, .none] {
      var splitter = SceneSplitter()
      splitter.output = output
      let notes = try splitter.split(folder.file("b.mp4"), into: folder.file("out")).notes
      // The decoder may miss one of the damaged frames: the encoder's output depends on the machine.
      #expect(
        notes.contains { $0.contains(/Damage: frames [23] .*6 are damaged.*[Ss]cene/) },
        "\(notes)")
      #expect(try splitter.split(folder.file("a.mp4"), into: folder.file("whole")).notes.isEmpty)
    }
  }

  @Test(arguments: ["jpg -q:v 2 -pix_fmt yuvj420p", "png", "webp -lossless 1"])
  func imagesThatAreCutOffAreRefusedOrTold(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    let name = "a." + words[0]
    try make(name, ["-frames:v", "1"] + words.dropFirst())
    #expect(try found(name).damage == nil)
    let data = try Data(contentsOf: URL(fileURLWithPath: folder.file(name)))
    try data.prefix(data.count / 2).write(to: URL(fileURLWithPath: folder.file("cut." + words[0])))
    var damage: FrameDamage?
    let error = mediaError { damage = try found("cut." + words[0]).damage }
    #expect(error != nil || damage?.damaged == [0])
  }

  @Test func numbersAreGrouped() {
    func text(_ damaged: [Int], _ missing: [Int] = [], key: Int? = nil) -> String {
      FrameDamage(damaged: damaged, missingAfter: missing, nextKeyframe: key).description
    }
    #expect(text([3], key: 4) == "frame 3 is damaged")
    #expect(
      text([3, 4, 5, 9], key: 25)
        == "frames 3 to 5 and 9 are damaged, and those up to the keyframe 25 may show it")
    #expect(text([], [7]) == "frames are missing after frame 7")
    #expect(
      text([1, 3, 5], [-1]).hasPrefix(
        "frames 1, 3 and 5 are damaged, and those after may show it; frames before"))
  }
}
