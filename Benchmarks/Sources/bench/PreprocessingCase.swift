import Foundation
import LTX
import TensorFiles
import Torch

/// `ltx preprocess` and upstream's script on one dataset, as whole processes, and a rerun with
/// nothing to do.
struct PreprocessingCase {
  static let clips = 24
  static let bucket = "256x256x25"
  private static let sources = ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"]

  let ltx: String
  let folder: URL
  private let model: String
  private let dataset: String

  /// Writes the tiny model and cuts the clips: 33 frames of 320x256 with stereo audio.
  ///
  /// - Parameter media: the folder that `Scripts/test-media` links.
  init(ltx: String, media: String, writingTo folder: URL) throws {
    self.ltx = ltx
    self.folder = folder.appendingPathComponent("preprocess")
    try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
    model = self.folder.appendingPathComponent("tiny").path
    dataset = self.folder.appendingPathComponent("dataset.json").path
    try run(ltx, ["tiny-model", model])
    var rows: [[String: String]] = []
    for index in 0..<Self.clips {
      let name = "clip\(index).mp4"
      let start = String(format: "%.2f", 2.5 * Double(index) / Double(Self.clips))
      try run(
        "/usr/bin/env",
        [
          "ffmpeg", "-v", "error", "-y", "-ss", start, "-i", "\(media)/\(Self.sources[index % 3])",
          "-ss",
          start,
          "-i", "\(media)/\(Self.sources[0])", "-map", "0:v", "-map", "1:a", "-vf", "scale=320:256",
          "-frames:v", "33", "-t", "1.4", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset",
          "veryfast",
          "-crf", "18", "-c:a", "aac", "-ac", "2", self.folder.appendingPathComponent(name).path,
        ])
      rows.append(["video": name, "caption": "Clip \(index): a rabbit, a bicycle, a man in a car."])
    }
    try JSONEncoder().encode(rows).write(to: URL(fileURLWithPath: dataset))
  }

  private func arguments(_ dataset: String, _ bucket: String, _ output: String) -> [String] {
    [
      dataset, "--resolution-buckets", bucket, "--model-path",
      "\(model)/\(TinyModel.checkpointName)",
      "--text-encoder-path", "\(model)/\(TinyModel.textEncoderName)", "--output-dir", output,
    ]
  }

  /// Runs both sides in turn, each into an empty folder, and reports the median of the rounds.
  func compare(_ reference: Reference?, rounds: Int, report: (String) -> Void) throws {
    let output = folder.appendingPathComponent("ours").path
    let referenceOutput = folder.appendingPathComponent("theirs").path
    var ours: [WatchedRun] = []
    var theirs: [WatchedRun] = []
    for _ in 0..<rounds {
      try remove(output)
      ours.append(
        try WatchedRun.of(
          ltx,
          ["preprocess", "--compat"] + arguments(dataset, Self.bucket, output) + [
            "--threads", String(Threads.count),
          ]))
      guard let reference else { continue }
      try remove(referenceOutput)
      theirs.append(
        try WatchedRun.of(
          reference.python,
          [
            "\(reference.scripts)/reference_preprocess.py", reference.trainer,
            String(Threads.count),
          ]
            + arguments(dataset, Self.bucket, referenceOutput) + ["--device", "cpu"]))
    }
    report(
      "preprocessing \(Self.clips) clips as \(Self.bucket), start to end, \(Threads.count) threads")
    try report(line("ours", ours, output))
    guard reference != nil else {
      return report(
        "upstream's packages/ltx-trainer is missing; set LTX_TRAINER and PYTHON to compare with it")
    }
    try report(line("upstream", theirs, referenceOutput))
    report(
      String(
        format:
          "ours is %.2f times as fast, in CPU time %.2f; memory ratio %.3f, of all processes %.3f",
        theirs.map(\.seconds).median / ours.map(\.seconds).median,
        theirs.map(\.cpu).median / ours.map(\.cpu).median,
        Double(ours.map(\.peak).max() ?? 0) / Double(theirs.map(\.peak).max() ?? 1),
        Double(ours.map(\.peakOfAll).max() ?? 0) / Double(theirs.map(\.peakOfAll).max() ?? 1)))
    try report(difference(output, referenceOutput))
  }

  private func line(_ name: String, _ runs: [WatchedRun], _ output: String) throws -> String {
    let seconds = runs.map(\.seconds).median
    let files = try ["latents", "conditions", "audio_latents"].map {
      "\(try FileManager.default.contentsOfDirectory(atPath: "\(output)/\($0)").count) \($0)"
    }
    let figures = String(
      format:
        "%6.2f s, %6.2f clips/s, CPU %6.2f s, peak memory %5d MB, of all its processes %5d MB; wrote ",
      seconds, Double(Self.clips) / seconds, runs.map(\.cpu).median,
      (runs.map(\.peak).max() ?? 0) >> 20,
      (runs.map(\.peakOfAll).max() ?? 0) >> 20)
    return name.padding(toLength: 10, withPad: " ", startingAt: 0) + figures
      + files.joined(separator: ", ")
  }

  /// The relative distance between both outputs, over all clips. Both sides compute in bfloat16.
  private func difference(_ ours: String, _ theirs: String) throws -> String {
    var parts: [String] = []
    for (kind, key) in [
      ("latents", "latents"), ("conditions", "video_prompt_embeds"), ("audio_latents", "latents"),
    ] {
      guard FileManager.default.fileExists(atPath: "\(ours)/\(kind)") else {
        parts.append("\(kind): not written")
        continue
      }
      var (error, size) = (0.0, 0.0)
      for index in 0..<Self.clips {
        let a = try SafetensorsFile(path: "\(ours)/\(kind)/clip\(index).safetensors").tensor(key)
        let b = try TorchFile(path: "\(theirs)/\(kind)/clip\(index).pt").tensor(key)
        error += try (a.to(.float64) - b.to(.float64)).square().sum().item()
        size += try b.to(.float64).square().sum().item()
      }
      let relative = (error / size).squareRoot()
      guard relative < 0.05 else {
        throw BenchmarkError("\(kind) differ by \(relative): the two sides must agree")
      }
      parts.append("\(kind) " + String(format: "%.1e", relative))
    }
    return "relative difference of the results: " + parts.joined(separator: ", ")
  }

  /// A second run over 500 cached clips.
  func rerun(rounds: Int, report: (String) -> Void) throws {
    let count = 500
    let many = folder.appendingPathComponent("many")
    try FileManager.default.createDirectory(at: many, withIntermediateDirectories: true)
    let rows = try (0..<count).map { index in
      try FileManager.default.copyItem(
        at: folder.appendingPathComponent("clip\(index % Self.clips).mp4"),
        to: many.appendingPathComponent("clip\(index).mp4"))
      return ["video": "clip\(index).mp4", "caption": "Clip \(index)."]
    }
    let dataset = many.appendingPathComponent("dataset.json").path
    try JSONEncoder().encode(rows).write(to: URL(fileURLWithPath: dataset))
    let words =
      ["preprocess"] + arguments(dataset, "32x32x9", many.appendingPathComponent("cache").path) + [
        "--threads", String(Threads.count),
      ]
    let first = try seconds { try run(ltx, words) }
    let again = try (0..<rounds).map { _ in try seconds { try run(ltx, words) } }.median
    report(
      String(
        format: "%d clips as 32x32x9: first run %.1f s; a rerun with nothing to do %.3f s", count,
        first,
        again))
  }

  private func remove(_ path: String) throws {
    if FileManager.default.fileExists(atPath: path) {
      try FileManager.default.removeItem(atPath: path)
    }
  }
}
