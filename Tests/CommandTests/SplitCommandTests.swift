import Foundation
import SceneDetection
import Testing

/// `ltx split`, run as a user runs it: exit statuses, messages, files.
@Suite struct SplitCommandTests {
  private func contents(_ path: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: path).sorted()
  }

  @Test func aFolderOfVideosIsSplitDespiteABadOne() throws {
    let workshop = try Workshop()
    let videos = workshop.path + "/videos"
    try FileManager.default.createDirectory(atPath: videos, withIntermediateDirectories: true)
    let clips = try Clips.all()
    for (clip, name) in [(clips[1], "bikes.mp4"), (clips[3], "carphone.mp4")] {
      try FileManager.default.copyItem(atPath: clip, toPath: videos + "/" + name)
    }
    try Data().write(to: URL(fileURLWithPath: videos + "/broken.mp4"))
    let run = try Program.run(
      [
        "split", "videos", "out", "--no-split", "--stats-file", "stats.csv", "--detector",
        "histogram",
      ],
      in: workshop.path)
    #expect(run.status == 1)
    #expect(run.errors.contains("error: videos/broken.mp4: is empty"))
    #expect(run.errors.contains("error: 1 of 3 videos could not be split"))
    #expect(try contents(workshop.path + "/out") == ["bikes", "carphone"])
    for name in ["bikes", "carphone"] {
      #expect(
        try contents("\(workshop.path)/out/\(name)") == ["scenes.csv", "scenes.html", "stats.csv"])
    }
    let table = try workshop.lines("out/bikes/scenes.csv")
    #expect(table.count == 7 && table[1] == "1,0,30,0.000000,1.200000,")
  }

  @Test func scenesImagesAndStatisticsAreWritten() throws {
    let workshop = try Workshop()
    let run = try Program.run(
      [
        "split", try Clips.all()[1], "out", "--detector", "adaptive", "-d", "3s", "--save-images",
        "1",
        "--stats-file", "stats.csv", "--max-scenes", "2",
      ], in: workshop.path)
    #expect(run.status == 0)
    #expect(run.output.contains("bikes-Scene-002.mp4  frames 30 to 75 (1.200 to 3.000 s)"))
    #expect(
      try contents(workshop.path + "/out") == [
        "bikes-Scene-001-01.jpg", "bikes-Scene-001.mp4", "bikes-Scene-002-01.jpg",
        "bikes-Scene-002.mp4",
        "scenes.csv", "scenes.html",
      ])
    #expect(
      try workshop.lines("stats.csv").first?.hasPrefix("Frame Number,Timecode,adaptive_ratio (w=2)")
        == true)
  }

  @Test func unusableInputEndsWithStatus2() throws {
    let workshop = try Workshop()
    let clip = try Clips.all()[3]
    try FileManager.default.createDirectory(
      atPath: workshop.path + "/empty", withIntermediateDirectories: true)
    try workshop.write("words.mp4", "no film\n")
    for (arguments, words) in [
      (["missing.mp4", "out"], "no such file"),
      (["words.mp4", "out"], "not a readable media file"),
      (["empty", "out"], "holds no video"), (["empty", "./empty"], "holds the videos"),
      ([clip, "words.mp4"], "is a file; name a folder"),
      (
        [clip, "out", "--luma-only", "--detector", "histogram"],
        "--luma-only: has no effect with the detector histogram"
      ),
      (
        [clip, "out", "--frame-skip", "1", "--stats-file", "s.csv"],
        "--stats-file: needs the measurement of every frame. Remove it or --frame-skip."
      ),
      ([clip, "out", "--start", "9s"], "holds no frame in the part asked for"),
      ([clip, "out", "--start", "yesterday"], "--start: \"yesterday\" is not a length"),
      ([clip, "out", "--start", "1", "--skip-start", "1"], "exclude each other"),
      ([clip, "out", "--copy", "--no-split"], "exclude each other"),
      ([clip, "out", "--copy", "--crf", "20"], "--crf and --preset have no effect"),
      ([clip, "out", "--no-split", "--preset", "slow"], "--crf and --preset have no effect"),
      (
        [clip, "out", "--detector", "threshold", "--fade-bias", "-2"],
        "--fade-bias: must be between -1 and 1 (got -2.0)"
      ),
    ] {
      let run = try Program.run(["split"] + arguments, in: workshop.path)
      #expect(run.status == 2, "\(arguments)")
      #expect(run.errors.contains("error: ") && run.errors.contains(words), "\(run.errors)")
      #expect(!FileManager.default.fileExists(atPath: workshop.path + "/out"))
    }
  }
}
