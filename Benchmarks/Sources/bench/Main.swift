import BlockExecution
import Foundation
import LoRAFiles
import Torch

/// The benchmarks. Options:
///
///     bench [--ltx FILE] [--python FILE] [--scripts FOLDER] [--rounds N] [--threads N]
///           [--only start|step|components|captions|leaks|loading|split|reading|preprocess|train|variants|profile]
///           [--component NAME] [--variant PART_OF_ITS_NAME]
///           [--media FOLDER] [--ltx-trainer FOLDER] [--precision float32|bfloat16]
@main
struct Main {
  static func main() {
    do {
      try run(CommandLine.arguments.dropFirst())
    } catch {
      FileHandle.standardError.write(Data("bench: \(error)\n".utf8))
      exit(1)
    }
  }

  private static func run(_ arguments: ArraySlice<String>) throws {
    var options: [String: String] = [:]
    var rest = arguments
    while let name = rest.popFirst() { options[name] = rest.popFirst() ?? "" }
    let only = options["--only"]
    let rounds = options["--rounds"].flatMap { Int($0) } ?? 9
    if let count = options["--threads"].flatMap({ Int($0) }) { Threads.count = count }

    if let path = options["--load"] {
      return try Loading.load(path, options["--dtype"] ?? "", options["--storage"] ?? "")
    }
    if let path = options["--caption"] {
      return try CaptionCase.serve(
        path, dtype: DType(rawValue: options["--dtype"] ?? "") ?? .bfloat16,
        use8Bit: options["--storage"] == "int8")
    }
    if let name = options["--serve"] {
      guard let component = Component(rawValue: name), let model = options["--model"],
        let inputs = options["--inputs"]
      else { throw BenchmarkError("--serve needs the name of a component, --model and --inputs") }
      return try component.serve(model: model, inputs: inputs)
    }

    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "ltx-bench-\(getpid())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer {
      do { try FileManager.default.removeItem(at: folder) } catch {
        report("\(folder.path) can't be removed: \(error)")
      }
    }

    if let ltx = options["--ltx"], only == nil || only == "start" {
      report("ltx --help                                   \(milliseconds(try Start.help(ltx)))")
      report(
        "ltx train, one step, start to end            \(milliseconds(try Start.firstStep(ltx, in: folder)))"
      )
    }
    if only == nil || only == "step" {
      try compare(
        StepCase(writingTo: folder), options["--python"], options["--scripts"], rounds: rounds)
    }
    if only == nil || only == "components" {
      let chosen = options["--component"].flatMap(Component.init).map { [$0] } ?? Component.allCases
      try compare(chosen, options["--python"], options["--scripts"], rounds: rounds, in: folder)
    }
    if only == nil || only == "captions" {
      if let python = options["--python"], let scripts = options["--scripts"],
        try hasModules(["transformers", "safetensors"], python)
      {
        try CaptionCase(
          python: python, scripts: scripts, threads: Threads.count, folder: folder
        ).run(rounds: (rounds + 2) / 3) { report($0) }
      } else {
        report("no Python with transformers; set PYTHON to measure captions")
      }
    }
    if only == nil || only == "leaks" { try leaks(StepCase(writingTo: folder)) }
    if let ltx = options["--ltx"], only == nil || only == "split" {
      let python = try options["--python"].flatMap { try hasSceneDetect($0) ? $0 : nil }
      try SplitCase(
        ltx: ltx, python: python, scripts: options["--scripts"], folder: folder,
        threads: Threads.count
      ).run(rounds: min(rounds, 3)) { report($0) }
    }
    if only == nil || only == "reading" {
      try ReadingCase(folder: folder).run(rounds: min(rounds, 3)) { report($0) }
    }
    if only == nil || only == "loading" { try Loading.run(in: folder) { report($0) } }
    var reference: Reference?
    if let python = options["--python"], let scripts = options["--scripts"],
      let trainer = options["--ltx-trainer"]
    {
      reference = Reference(python: python, scripts: scripts, trainer: trainer)
    }
    if let ltx = options["--ltx"], let media = options["--media"],
      only == nil || only == "preprocess"
    {
      let preprocessing = try PreprocessingCase(ltx: ltx, media: media, writingTo: folder)
      try preprocessing.compare(reference, rounds: (rounds + 2) / 3) { report($0) }
      try preprocessing.rerun(rounds: rounds) { report($0) }
    }
    if let ltx = options["--ltx"], only == nil || only == "train" {
      let training = try TrainingCase(ltx: ltx, threads: Threads.count, writingTo: folder)
      for (precision, recomputing) in [
        (TrainingCase.Precision.float32, false), (.bfloat16, false), (.bfloat16, true),
      ]
      where options["--precision"].map({ $0 == precision.rawValue }) ?? true {
        try training.compare(
          precision, recomputing: recomputing, reference, rounds: (rounds + 2) / 3
        ) {
          report($0)
        }
      }
    }
    if let ltx = options["--ltx"], only == "variants" {
      let training = try TrainingCase(ltx: ltx, threads: Threads.count, writingTo: folder)
      for variant in TrainingCase.Variant.all
      where options["--variant"].map(variant.name.contains) ?? true {
        try training.compare(variant, rounds: (rounds + 2) / 3) { report($0) }
      }
    }
    if only == "profile" {
      let step = try StepCase(writingTo: folder).step()
      let policy = options["--policy"].flatMap(ActivationPolicy.init) ?? .keep
      var results: [StepResult] = []
      for _ in 0..<rounds { results.append(try step(policy, .sample)) }
      report(milliseconds(results.map(\.seconds).median))
    }
  }

  private static func hasReference(_ python: String) throws -> Bool {
    try hasModules(["ltx_core", "peft"], python)
  }

  private static func hasSceneDetect(_ python: String) throws -> Bool {
    try hasModules(["scenedetect", "cv2", "av"], python)
  }

  private static func hasModules(_ names: [String], _ python: String) throws -> Bool {
    guard FileManager.default.isExecutableFile(atPath: python) else { return false }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: python)
    let tests = names.map { "i.find_spec('\($0)')" }.joined(separator: " and ")
    process.arguments = ["-c", "import importlib.util as i; assert \(tests)"]
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus == 0
  }

  /// Compares our step with upstream's, in turn.
  private static func compare(
    _ stepCase: StepCase, _ python: String?, _ scripts: String?, rounds: Int
  ) throws {
    let ours = try stepCase.step()
    let rate = try matrixProductRate()
    report("threads \(Threads.count), matrix products of float32 at \(Int(rate / 1e9)) GFLOP/s")
    guard let python, let scripts, try hasReference(python) else {
      report(
        "no Python with ltx-core; set PYTHON to compare with it (Tests/Oracles/README.md). Our step alone:"
      )
      for activations in ActivationPolicy.allCases {
        _ = try ours(activations, .sample)
        let seconds = try (0..<rounds).map { _ in try ours(activations, .sample).seconds }.median
        report("\(activations.rawValue): \(milliseconds(seconds))")
      }
      return
    }
    let reference = try Responder(
      python,
      [
        "\(scripts)/reference_step.py", stepCase.checkpoint, stepCase.inputs, String(StepCase.rank),
        String(Threads.count),
      ])
    let forward = StepCase.forwardOperations
    // Backward costs twice the forward pass, minus the gradients of frozen weights.
    let operations: [ActivationPolicy: Double] = [.keep: 2 * forward, .recompute: 3 * forward]
    report(
      "one LoRA step           ours      ltx-core   ratio   CPU time ours, ltx-core, ratio   of the matrix rate"
    )
    for (activations, timesteps) in [
      (ActivationPolicy.keep, Timesteps.sample), (.recompute, .sample), (.keep, .token),
      (.recompute, .token),
    ] {
      var a: [StepResult] = []
      var b: [StepResult] = []
      for _ in 0..<(rounds + 1) {
        a.append(try ours(activations, timesteps))
        b.append(
          try reference("\(activations.rawValue) \(Timesteps.token.rawValue)", as: StepResult.self))
        try requireEqual(a[a.count - 1], b[b.count - 1])
      }
      let (x, y) = (a.dropFirst().map(\.seconds).median, b.dropFirst().map(\.seconds).median)
      let (u, v) = (a.dropFirst().map(\.cpu).median, b.dropFirst().map(\.cpu).median)
      let name = activations.rawValue + (timesteps == .token ? ", per token" : "")
      let achieved = operations[activations, default: 0] / x / rate
      report(
        name.padding(toLength: 22, withPad: " ", startingAt: 0), milliseconds(x), milliseconds(y),
        ratio(x / y),
        "        ", milliseconds(u), milliseconds(v), ratio(u / v), "          ", ratio(achieved))
    }
    try reference.end()
  }

  /// Compares each component with upstream's, in separate processes, in turn.
  private static func compare(
    _ components: [Component], _ python: String?, _ scripts: String?, rounds: Int, in folder: URL
  ) throws {
    let hasReference = try python.map(hasReference) ?? false
    report(
      hasReference
        ? "one call of            ours      upstream   ratio   peak memory ours, upstream, ratio"
        : "one call of            ours (set PYTHON to compare with upstream)")
    for component in components {
      let (model, inputs) = try component.write(to: folder)
      let ours = try Responder(
        CommandLine.arguments[0],
        [
          "--serve", component.rawValue, "--model", model, "--inputs", inputs, "--threads",
          String(Threads.count),
        ])
      let name = component.rawValue.padding(toLength: 20, withPad: " ", startingAt: 0)
      guard hasReference, let python, let scripts else {
        let times = try (0...rounds).map { _ in try ours("", as: ComponentResult.self).seconds }
        report(name, milliseconds(Array(times.dropFirst()).median))
        try ours.end()
        continue
      }
      let reference = try Responder(
        python,
        [
          "\(scripts)/reference_components.py", component.rawValue, model, inputs,
          String(Threads.count),
        ])
      var a: [ComponentResult] = []
      var b: [ComponentResult] = []
      for _ in 0...rounds {
        a.append(try ours("", as: ComponentResult.self))
        b.append(try reference("", as: ComponentResult.self))
      }
      try ours.end()
      try reference.end()
      guard let x = a.last, let y = b.last, abs(x.value - y.value) <= 1e-4 * abs(y.value) else {
        throw BenchmarkError(
          "\(component.rawValue): \(a.last?.value ?? .nan) here, \(b.last?.value ?? .nan) in upstream"
        )
      }
      let (u, v) = (a.dropFirst().map(\.seconds).median, b.dropFirst().map(\.seconds).median)
      report(
        name, milliseconds(u), milliseconds(v), ratio(u / v),
        String(format: "%8d MB", x.peak >> 20),
        String(format: "%8d MB", y.peak >> 20), ratio(Double(x.peak) / Double(y.peak)))
    }
  }

  /// Both sides run the same steps, so their losses and gradient norms must agree.
  private static func requireEqual(_ a: StepResult, _ b: StepResult) throws {
    guard abs(a.loss - b.loss) <= 1e-4 * abs(b.loss), abs(a.norm - b.norm) <= 1e-3 * abs(b.norm)
    else {
      throw BenchmarkError(
        "not the same step: loss \(a.loss) and gradient norm \(a.norm) here, \(b.loss) and \(b.norm) in upstream"
      )
    }
  }

  /// Measures the bytes in tensors after step 3 and after step 50.
  private static func leaks(_ stepCase: StepCase) throws {
    let step = try stepCase.step()
    for activations in ActivationPolicy.allCases {
      var live: [Int] = []
      for _ in 0..<50 {
        _ = try step(activations, .sample)
        live.append(try Device.cpu.memory().liveBytes)
      }
      let peak = try Device.cpu.memory().peakBytes
      report(
        "\(activations.rawValue): \(live[2]) bytes in tensors after step 3, \(live[49]) after step 50, peak \(peak >> 20) MB"
      )
      guard live[2] == live[49] else { throw BenchmarkError("tensors leak") }
      try Device.cpu.resetPeakMemory()
    }
  }

  /// Prints a line at once, even if the output is a file.
  private static func report(_ words: String...) {
    FileHandle.standardOutput.write(Data((words.joined(separator: " ") + "\n").utf8))
  }

  private static func milliseconds(_ seconds: Double) -> String {
    String(format: "%7.1f ms", seconds * 1e3)
  }
  private static func ratio(_ value: Double) -> String { String(format: "%5.3f", value) }
}
