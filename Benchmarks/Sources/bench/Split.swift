import Foundation

/// `ltx split` and PySceneDetect on the same films, in turn: frames per second and peak memory, for
/// detection alone and for the whole job. The films are cut from the clips of Scripts/test-media;
/// each is measured at two lengths.
struct SplitCase {
  struct Result: Decodable {
    let frames: Int
    let seconds: Double
    let scenes: Int
    /// Bytes.
    let peak: Int
    var rate: Double { Double(frames) / seconds }
  }

  let ltx: String
  let python: String?
  let scripts: String?
  let folder: URL
  let threads: Int

  private static let films = [
    (name: "480x270", size: "480:270", copies: 4),
    (name: "1920x1080", size: "1920:1080", copies: 1),
  ]

  /// - Parameter rounds: the number of rounds of each side, of which the median is reported.
  func run(rounds: Int, report: (String) -> Void) throws {
    let clips = FileManager.default.currentDirectoryPath + "/.deps/media"
    report(
      "film, job                    ours      PySceneDetect (opencv)  (pyav)     ratio    peak memory ours, opencv"
    )
    for film in Self.films {
      let once = try make(film.size, copies: film.copies, from: clips, name: film.name)
      let long = try repeated(once, 4)
      for (name, path) in [(film.name, once), (film.name + ", 4 times", long)] {
        for job in ["detect", "split"] {
          try compare(path, name: name, job: job, rounds: rounds, report: report)
        }
      }
    }
  }

  private func compare(
    _ film: String, name: String, job: String, rounds: Int, report: (String) -> Void
  ) throws {
    var ours: [Result] = []
    var others: [String: [Result]] = [:]
    for _ in 0..<rounds {
      ours.append(try split(film, job: job))
      guard let python, let scripts else { continue }
      for backend in job == "detect" ? ["opencv", "pyav"] : ["opencv"] {
        let text = try output(
          of: python,
          ["\(scripts)/reference_split.py", film, try emptied("other"), backend, "\(threads)", job])
        let result = try JSONDecoder().decode(Result.self, from: Data(text.utf8))
        guard result.scenes == ours[ours.count - 1].scenes else {
          throw BenchmarkError(
            "\(result.scenes) scenes in PySceneDetect, \(ours[ours.count - 1].scenes) here")
        }
        others[backend, default: []].append(result)
      }
    }
    func rate(_ results: [Result]?) -> Double { results.map { $0.map(\.rate).median } ?? .nan }
    func peak(_ results: [Result]?) -> Int { (results?.map(\.peak).max() ?? 0) >> 20 }
    let opencv = others["opencv"]
    report(
      "\(name), \(job)".padding(toLength: 24, withPad: " ", startingAt: 0)
        + String(
          format: "%8.0f/s %12.0f/s %14.0f/s %9.2f %10d MiB %6d MiB", rate(ours), rate(opencv),
          rate(others["pyav"]), rate(ours) / rate(opencv), peak(ours), peak(opencv)))
  }

  /// Runs the program, including its start.
  private func split(_ film: String, job: String) throws -> Result {
    let out = try emptied("ours")
    let run = try WatchedRun.of(
      ltx, ["split", film, out] + (job == "detect" ? ["--no-split"] : []))
    let lines = try String(contentsOfFile: out + "/scenes.csv", encoding: .utf8).split(
      separator: "\n"
    )
    .dropFirst()
    let frames = lines.last.flatMap {
      Int($0.split(separator: ",", omittingEmptySubsequences: false)[2])
    }
    guard let frames else { throw BenchmarkError("scenes.csv is empty") }
    return Result(frames: frames, seconds: run.seconds, scenes: lines.count, peak: run.peak)
  }

  private func emptied(_ name: String) throws -> String {
    let path = folder.appendingPathComponent(name)
    if FileManager.default.fileExists(atPath: path.path) {
      try FileManager.default.removeItem(at: path)
    }
    try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true)
    return path.path
  }

  /// About 20 s of hard cuts and a fade, with a tone.
  private func make(_ size: String, copies: Int, from clips: String, name: String) throws -> String
  {
    let path = folder.appendingPathComponent("film-\(name).mp4").path
    let scale = "scale=\(size):flags=bicubic,setsar=1,fps=25,format=yuv420p"
    let graph =
      "[0:v]\(scale)[a];[1:v]\(scale)[b];[2:v]\(scale),fade=in:0:20[c];[a][b][c]concat=n=3:v=1[v]"
    try ffmpeg(
      [
        "-i", clips + "/bikes.mp4", "-i", clips + "/bigbuckbunny.mp4", "-i",
        clips + "/carphone_pristine.mp4",
        "-f",
        "lavfi", "-i", "sine=440:r=48000", "-filter_complex", graph, "-map", "[v]", "-map", "3:a",
        "-c:v",
        "libx264",
        "-preset", "veryfast", "-crf", "20", "-c:a", "aac", "-shortest", path,
      ])
    return try repeated(path, copies)
  }

  private func repeated(_ film: String, _ count: Int) throws -> String {
    guard count > 1 else { return film }
    let path = film.replacingOccurrences(of: ".mp4", with: "-\(count).mp4")
    try ffmpeg(["-stream_loop", "\(count - 1)", "-i", film, "-c", "copy", path])
    return path
  }

  private func ffmpeg(_ arguments: [String]) throws {
    _ = try output(of: "/usr/bin/env", ["ffmpeg", "-v", "error", "-nostdin", "-y"] + arguments)
  }

  private func output(of program: String, _ arguments: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw BenchmarkError(
        "\(program) \(arguments.joined(separator: " ")) ended with \(process.terminationStatus)")
    }
    return String(decoding: data, as: UTF8.self)
  }
}
