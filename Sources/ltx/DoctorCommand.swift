import ArgumentParser
import Diagnostics
import Foundation
import Support
import Torch

struct DoctorCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Check whether this machine has what training and generation need.",
    discussion: """
      Prints one line per check, with the remedy for a problem: libtorch, the NVIDIA driver, each GPU with its \
      memory, dtypes, attention kernels, copy rate and the models that fit, the processor, memory, FFmpeg's \
      codecs and the disk. A line begins with `ok`, with `note` for something that works with a limit, or with \
      `problem`. A machine without a GPU is fine unless --device names one.

      With --measure, it measures the device on the work of LTX-2.3 instead and prints one JSON object per \
      line: copies, kernel launches, matrix products and attention or, if their files are given, the video VAE \
      and the text encoder. Scripts/gpu-check uses this.

      Exit status: 0 if everything that is needed works, 1 otherwise, 2 if an option can't be used.

      Example:

        ltx doctor --device cuda
      """)

  @Option(help: "The device that has to work: cpu, cuda or cuda:N. (default: all GPUs, if any)")
  var device: Device?

  @Option(
    help: ArgumentHelp("The folder that results would be written to.", valueName: "dir"),
    completion: .directory)
  var outputDir = "."

  @Flag(help: "Print one JSON object with all checks.")
  var json = false

  @Flag(help: "Measure the device instead, as JSON lines.")
  var measure = false

  @Option(
    help: ArgumentHelp("With --measure: the size of the clip, WxHxF.", valueName: "size"))
  var size = ClipSize(width: 960, height: 544, frames: 49)

  @Option(
    help: ArgumentHelp(
      "With --measure: a checkpoint, to measure its video VAE.", valueName: "file"),
    completion: .file())
  var modelPath: String?

  @Option(
    help: ArgumentHelp("With --measure: the text encoder to measure.", valueName: "path"),
    completion: .file())
  var textEncoderPath: String?

  func validate() throws {
    if json, measure {
      throw ValidationError("--json can't be combined with --measure, which prints JSON lines")
    }
    if !measure, modelPath != nil || textEncoderPath != nil {
      throw ValidationError("--model-path and --text-encoder-path need --measure")
    }
  }

  func run() throws {
    let succeeded = try measure ? runMeasurement() : runDiagnosis()
    if !succeeded { throw ExitCode(1) }
  }

  private func runDiagnosis() -> Bool {
    let diagnosis = Diagnosis(device: device, folder: outputDir)
    guard json else {
      return diagnosis.run { print(line(for: $0)) }
    }
    var checks: [JSON] = []
    let works = diagnosis.run { checks.append($0.json(SubjectTable.doctor.message)) }
    print(JSON.object(["ok": .bool(works), "checks": .array(checks)]).text(.pretty))
    return works
  }

  private func line(for check: Check) -> String {
    let status = check.status.rawValue.padding(toLength: 8, withPad: " ", startingAt: 0)
    let name = check.name.padding(
      toLength: max(17, check.name.count + 1), withPad: " ", startingAt: 0)
    return status + name + SubjectTable.doctor.message(check.sentence)
  }

  private func runMeasurement() throws -> Bool {
    let measurement = try checkingInput(.doctor) {
      let device = device ?? .cpu
      try device.prepare()
      return try Measurement(
        device: device, width: size.width, height: size.height, frames: size.frames,
        checkpoint: modelPath, textEncoder: textEncoderPath, folder: outputDir)
    }
    return try working(.doctor) {
      try measurement.run { print(JSON.object($0).text()) }
    }
  }
}

extension SubjectTable {
  fileprivate static let doctor: SubjectTable = [
    ["size"]: "--size", ["dtype"]: "--dtype",
    ["mixedPrecision"]: "acceleration.mixed_precision_mode",
  ]
}

/// `960x544x49`: width, height and frames.
struct ClipSize: ExpressibleByArgument {
  let width, height, frames: Int

  init(width: Int, height: Int, frames: Int) {
    (self.width, self.height, self.frames) = (width, height, frames)
  }

  init?(argument: String) {
    let numbers = argument.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard numbers.count == 3, let width = numbers[0], let height = numbers[1],
      let frames = numbers[2],
      [width, height, frames].allSatisfy({ (1...100_000).contains($0) })
    else { return nil }
    self.init(width: width, height: height, frames: frames)
  }

  var defaultValueDescription: String { "\(width)x\(height)x\(frames)" }
}
