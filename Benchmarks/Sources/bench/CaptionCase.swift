import Foundation
import LanguageModels
import TensorFiles
import Torch

/// Captions of a random omni model, here and by `transformers`: the time until the first token, which
/// includes the towers, and the rate of the tokens that follow, one conversation at a time.
struct CaptionCase {
  /// The tokens of an answer.
  private static let tokens = 65

  /// The dtype and storage of the weights.
  private enum Mode: CaseIterable {
    case float32, bfloat16, int8

    var dtype: DType { self == .float32 ? .float32 : .bfloat16 }
    var name: String { self == .int8 ? "--use-8bit" : dtype.rawValue }
  }

  /// One answer.
  private struct Answer: Codable {
    /// Seconds until the first token.
    var prefill: Double
    /// Seconds from the first token to the last.
    var decoding: Double
    /// The CPU seconds of all threads for both.
    var prefillCPU: Double
    var decodingCPU: Double
    var tokens: [Int]
    /// The peak memory of the process so far, in bytes.
    var peak: Int
    /// The memory that the process has beyond that before it loaded the model.
    var weights: Int
  }

  /// The answers of one side, without the first one, which warms up.
  private struct Side {
    private var answers: [Answer] = []

    mutating func add(_ answer: Answer) { answers.append(answer) }

    private var measured: ArraySlice<Answer> { answers.dropFirst() }
    var tokens: [Int] { answers.last?.tokens ?? [] }
    var peak: Int { answers.map(\.peak).max() ?? 0 }
    var weights: Int { answers.first?.weights ?? 0 }
    var prefill: Double { measured.map(\.prefill).median }
    /// Seconds for each token after the first.
    var token: Double { measured.map(\.decoding).median / Double(max(tokens.count - 1, 1)) }
    var prefillCPU: Double { measured.map(\.prefillCPU).median }
    var decodingCPU: Double { measured.map(\.decodingCPU).median }

    func line(_ name: String, prompt: Int) -> String {
      name.padding(toLength: 14, withPad: " ", startingAt: 0)
        + String(
          format: "prefill %7.1f tokens/s, decoding %6.2f tokens/s, peak %5d MB, model %5d MB",
          Double(prompt) / prefill, 1 / token, peak >> 20, weights >> 20)
    }
  }

  let python: String
  let scripts: String
  let threads: Int
  let folder: URL

  /// Compares both sides in turn.
  func run(rounds: Int, report: (String) -> Void) throws {
    for family in ["qwen25", "qwen3"] {
      let model = folder.appendingPathComponent("captions-\(family)").path
      let made = try output(["make", family, model])
      let prompt = try Self.inputs(model, QwenOmniConfiguration(folder: model)).ids[0].count
      report(
        "captions, \(family) of \(made) parameters, a clip with audio of \(prompt) tokens, "
          + "\(threads) threads")
      var modelBytes: [Mode: Int] = [:]
      for mode in Mode.allCases {
        let (ours, theirs) = try compare(model, mode, rounds: rounds)
        report(ours.line(mode.name, prompt: prompt))
        modelBytes[mode] = ours.weights
        guard let theirs else { continue }
        report(theirs.line("transformers", prompt: prompt))
        let equal = zip(ours.tokens, theirs.tokens).prefix { $0 == $1 }.count
        guard mode != .float32 || equal == Self.tokens else {
          throw BenchmarkError(
            "\(family): the answers differ at token \(equal) in float32")
        }
        report(
          String(
            format:
              "              ratio: time of prefill %.3f, of a token %.3f, peak memory %.3f; the "
              + "first %d tokens are equal",
            ours.prefill / theirs.prefill, ours.token / theirs.token,
            Double(ours.peak) / Double(theirs.peak), equal))
      }
      if let whole = modelBytes[.bfloat16], let half = modelBytes[.int8] {
        report(
          String(format: "int8 takes %.3f of bfloat16's memory", Double(half) / Double(whole)))
      }
      try FileManager.default.removeItem(atPath: model)
    }
  }

  private func compare(
    _ model: String, _ mode: Mode, rounds: Int
  ) throws -> (ours: Side, theirs: Side?) {
    let ours = try Responder(
      URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path,
      [
        "--caption", model, "--dtype", mode.dtype.rawValue, "--storage",
        mode == .int8 ? "int8" : "", "--threads", String(threads),
      ])
    let theirs =
      mode == .int8
      ? nil
      : try Responder(
        python,
        [
          "\(scripts)/reference_captions.py", "serve", model, mode.dtype.rawValue,
          String(Self.tokens), String(threads),
        ])
    var (a, b) = (Side(), Side())
    for _ in 0...rounds {
      a.add(try ours("", as: Answer.self))
      if let theirs { b.add(try theirs("", as: Answer.self)) }
    }
    try ours.end()
    try theirs?.end()
    return (a, theirs == nil ? nil : b)
  }

  private func output(_ arguments: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: python)
    process.arguments = ["\(scripts)/reference_captions.py"] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw BenchmarkError("reference_captions.py ended with \(process.terminationStatus)")
    }
    return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// The other process: answers each line of standard input with one caption.
  static func serve(_ folder: String, dtype: DType, use8Bit: Bool) throws {
    let warm = try Tensor.ones([64, 64])
    _ = try warm.linear(warm)
    let before = try ProcessMemory.bytes("VmRSS")
    let model = try QwenOmniModel(folder: folder, device: .cpu, dtype: dtype, use8Bit: use8Bit)
    let inputs = try inputs(folder, model.configuration)
    let options = GenerationOptions(
      limit: tokens, repetitionPenalty: 1.05, ends: Set(model.configuration.tokens.ends), pad: 0)
    while readLine() != nil {
      var moments = [ContinuousClock.now]
      var cpu = [ProcessTime.now]
      let answer = try model.generate(inputs, options) { _ in
        moments.append(.now)
        cpu.append(ProcessTime.now)
      }
      let report = Answer(
        prefill: (moments[1] - moments[0]) / .seconds(1),
        decoding: (moments[moments.count - 1] - moments[1]) / .seconds(1),
        prefillCPU: cpu[1] - cpu[0], decodingCPU: cpu[cpu.count - 1] - cpu[1],
        tokens: answer.tokens[0], peak: try ProcessMemory.peak(),
        weights: try ProcessMemory.bytes("VmRSS") - before)
      FileHandle.standardOutput.write(try JSONEncoder().encode(report) + Data("\n".utf8))
    }
  }

  /// The tensors of `inputs.safetensors`.
  private static func inputs(
    _ folder: String, _ configuration: QwenOmniConfiguration
  ) throws -> CaptionInputs {
    let file = try SafetensorsFile(path: "\(folder)/inputs.safetensors")
    func integers(_ key: String) throws -> [Int] { try file.tensor(key).array() }
    let (ids, mask) = (try integers("input_ids"), try integers("attention_mask"))
    let seconds: [Float] = try file.tensor("video_second_per_grid").array()
    var media = MediaInputs()
    media.pixelValuesVideos = try file.tensor("pixel_values_videos")
    media.videoGrids = [try integers("video_grid_thw")]
    media.inputFeatures = try file.tensor("input_features")
    media.featureMask = try file.tensor("feature_attention_mask")
    let frames = [try integers("feature_attention_mask").count]
    let (positions, delta) = try QwenOmniPositions.positions(
      ids: [ids], mask: [mask], imageGrids: [], videoGrids: media.videoGrids,
      secondsPerGrid: seconds, audioFrames: frames, isInterleaved: false,
      configuration: configuration)
    return CaptionInputs(
      ids: [ids], mask: [mask], positions: positions, delta: delta, media: media,
      secondsPerGrid: seconds, audioFrames: frames, isInterleaved: false)
  }
}
