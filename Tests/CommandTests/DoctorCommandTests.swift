import Foundation
import TestSupport
import Testing

/// `ltx doctor` without a GPU and on the pretend GPU.
@Suite struct DoctorCommandTests {
  private struct Report: Decodable {
    struct Check: Decodable {
      let name, status, text: String
      let remedy: String?
      let cores, gpus, freeBytes, totalBytes: Int?
      let capability, kernel, maskedKernel, dtype: String?
      let bfloat16: Bool?
      let fits: [String]?
      let bytesPerSecond: Double?
    }

    let ok: Bool
    let checks: [Check]

    subscript(_ name: String) -> Check? { checks.first { $0.name == name } }
  }

  private static func report(_ output: String) throws -> Report {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Report.self, from: Data(output.utf8))
  }

  /// A setting of the pretend GPU, and the report of `ltx doctor` with it.
  private static func doctor(
    _ arguments: [String], bytes: Int? = nil, _ environment: [String: String] = [:]
  ) throws -> (status: Int32, report: Report) {
    let workshop = try Workshop()
    let (result, _) = try PretendGPU.run(
      ["doctor", "--json"] + arguments, in: workshop.path, bytes: bytes, environment: environment)
    return (result.status, try report(result.output))
  }

  /// Whether the libtorch of this clone has no CUDA, which decides what `doctor` finds.
  private static let hasNoCUDA = !FileManager.default.fileExists(
    atPath: Fixtures.root + "/../../.deps/torch/lib/libtorch_cuda.so")

  // MARK: Without a GPU

  @Test func aMachineWithoutAGPUIsFine() throws {
    let workshop = try Workshop()
    let result = try Program.run(["doctor"], in: workshop.path)
    #expect(result.status == 0, "\(result.output)")
    let lines = result.output.split(separator: "\n")
    #expect(lines.count >= 5)
    for line in lines {
      #expect(["ok      ", "note    "].contains(String(line.prefix(8))), "\(line)")
      #expect(!line.hasSuffix("."), "\(line)")
    }
    #expect(lines.contains { $0.hasPrefix("ok      libtorch         2.11.0 from /") })
    guard Self.hasNoCUDA else { return }
    let gpu = try #require(lines.first { $0.hasPrefix("note    GPU ") })
    #expect(gpu.contains("CUDA can't be loaded (libtorch_cuda.so"))
    #expect(
      gpu.hasSuffix(
        "Install libtorch with CUDA with `Scripts/bootstrap --cuda`, or set --device to cpu"))
  }

  @Test func factsAreThoseOfTheSystem() throws {
    let workshop = try Workshop()
    let result = try Program.run(["doctor", "--json"], in: workshop.path)
    let report = try Self.report(result.output)
    #expect(report.ok)
    #expect(report["processor"]?.cores == ProcessInfo.processInfo.activeProcessorCount)
    // The kernel reserves a part of the memory that Foundation counts.
    let memory = Double(try #require(report["memory"]?.totalBytes))
    #expect(abs(memory / Double(ProcessInfo.processInfo.physicalMemory) - 1) < 0.1)
    let attributes = try FileManager.default.attributesOfFileSystem(forPath: workshop.path)
    let free = try #require(attributes[.systemFreeSize] as? Int)
    #expect(abs(try #require(report["disk"]?.freeBytes) - free) < 5_000_000_000)
    let files = try FileManager.default.contentsOfDirectory(atPath: workshop.path)
    #expect(files.allSatisfy { $0.hasPrefix("std") }, "a file is left: \(files)")
  }

  @Test(.enabled(if: hasNoCUDA)) func aGPUThatIsAskedForIsNeeded() throws {
    let workshop = try Workshop()
    let result = try Program.run(["doctor", "--device", "cuda"], in: workshop.path)
    #expect(result.status == 1)
    #expect(result.output.contains("problem GPU "), "\(result.output)")
  }

  @Test func aFolderThatCantBeWrittenIsAProblem() throws {
    let workshop = try Workshop()
    try workshop.write("file", "")
    let result = try Program.run(["doctor", "--output-dir", "file/runs"], in: workshop.path)
    #expect(result.status == 1)
    #expect(
      result.output.contains("problem disk             file/runs can't be created: file is a file"))
  }

  @Test func aMissingLibraryIsAProblemAndNotACrash() throws {
    let workshop = try Workshop()
    // Without libCTorch.so beside it. A hard link has its own folder, unlike a symbolic one.
    let copy = "\(workshop.path)/ltx"
    do {
      try FileManager.default.linkItem(atPath: Program.path, toPath: copy)
    } catch {
      try FileManager.default.copyItem(atPath: Program.path, toPath: copy)  // another file system
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: copy)
    process.arguments = ["doctor"]
    process.currentDirectoryURL = URL(fileURLWithPath: workshop.path)
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 1)
    #expect(
      text.contains("problem libtorch         libCTorch.so: cannot open shared object"), "\(text)")
    #expect(text.contains("Scripts/bootstrap"))
    #expect(text.contains("processor "), "the other checks still run: \(text)")
  }

  // MARK: On the pretend GPU

  @Test func aGPUIsDescribed() throws {
    let (status, report) = try Self.doctor(["--device", "cuda"])
    #expect(status == 0)
    #expect(report.ok)
    let gpu = try #require(report["cuda:0"])
    #expect(gpu.text == "Pretend GPU, compute capability 9.0, 80.0 GB of 80.0 GB free")
    #expect(gpu.freeBytes == 80_000_000_000)
    #expect(report["driver"]?.text.hasSuffix("supports CUDA 13.0, libtorch uses CUDA 13.0") == true)
    #expect(report["cuda:0 dtypes"]?.bfloat16 == true)
    #expect(report["cuda:0 attention"]?.kernel == "flash")
    #expect(report["cuda:0 attention"]?.maskedKernel == "efficient")
    #expect(try #require(report["cuda:0 upload"]?.bytesPerSecond) > 0)
    #expect(report["cuda:0 models"]?.fits?.count == 6)
    #expect(
      report["collectives"]?.text
        == "pretend NCCL exchanges tensors between GPUs, tried on cuda:0")
    #expect(!report.checks.contains { $0.text.contains("`device`") })
  }

  @Test func allGPUsAreCheckedUnlessOneIsNamed() throws {
    let all = try Self.doctor([], ["PRETEND_GPU_COUNT": "3"]).report
    #expect((0..<3).allSatisfy { all["cuda:\($0)"] != nil })
    #expect(all["driver"]?.gpus == 3)
    let one = try Self.doctor(["--device", "cuda:1"], ["PRETEND_GPU_COUNT": "3"]).report
    #expect(one["cuda:1"] != nil && one["cuda:0"] == nil && one["cuda:2"] == nil)
    let none = try Self.doctor(["--device", "cpu"], ["PRETEND_GPU_COUNT": "3"]).report
    #expect(!none.checks.contains { $0.name.hasPrefix("cuda:") })
  }

  @Test func aSmallGPUHoldsOnlyAPart() throws {
    let (status, report) = try Self.doctor([], bytes: 24_000_000_000)
    #expect(status == 0)
    #expect(report["cuda:0 models"]?.status == "note")
    #expect(report["cuda:0 models"]?.fits == ["a LoRA with nf4 and 8-bit AdamW"])
    #expect(
      report["cuda:0 models"]?.text.contains(
        "fits with streamed weights: text features (3.5 GB), a LoRA in bfloat16 (9.2 GB)") == true)
  }

  @Test func anOldGPUComputesInFloat16() throws {
    let (status, report) = try Self.doctor([], ["PRETEND_GPU_CAPABILITY": "7.5"])
    #expect(status == 0)
    let dtypes = try #require(report["cuda:0 dtypes"])
    #expect(dtypes.status == "note" && dtypes.bfloat16 == false)
    #expect(dtypes.remedy?.contains("acceleration.mixed_precision_mode fp16") == true)
    #expect(report["cuda:0 attention"]?.dtype == "float16")
    #expect(report["cuda:0 attention"]?.kernel == "efficient")
  }

  @Test(arguments: [
    (
      ["--device", "cuda"], "PRETEND_GPU_CAPABILITY", "6.1", "cuda:0",
      "has no kernels (found 7.5, 8.0, 8.6, 9.0, 10.0, 12.0)"
    ),
    (
      ["--device", "cuda:3"], "PRETEND_GPU_COUNT", "2", "cuda:3",
      "cuda:3 does not exist (found 2 CUDA GPUs)"
    ),
    (
      ["--device", "cuda"], "PRETEND_GPU_DRIVER", "12040", "GPU",
      "is too old: it supports CUDA 12.4, and libtorch needs CUDA 13.0"
    ),
  ])
  func aGPUThatCantBeUsedIsAProblem(
    arguments: [String], variable: String, value: String, name: String, text: String
  ) throws {
    let (status, report) = try Self.doctor(arguments, [variable: value])
    #expect(status == 1)
    #expect(!report.ok)
    let check = try #require(report[name])
    #expect(check.status == "problem")
    #expect(check.text.contains(text), "\(check.text)")
    #expect(check.remedy != nil)
    #expect(report["disk"] != nil, "the other checks still run")
  }

  // MARK: Measurements

  private struct Line: Decodable {
    let measurement: String
    let error, source, kernel, layer: String?
    let mask: Bool?
    let seconds, forwardAndBackwardSeconds, bytesPerSecond, operationsPerSecond: Double?
    let peakBytes, queries: Int?
  }

  private static func lines(_ output: String) throws -> [Line] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try output.split(separator: "\n").map {
      try decoder.decode(Line.self, from: Data($0.utf8))
    }
  }

  @Test func operationsAreMeasuredAtTheSizeOfTheClip() throws {
    let workshop = try Workshop()
    let (result, report) = try PretendGPU.run(
      ["doctor", "--measure", "--device", "cuda"], in: workshop.path,
      environment: ["PRETEND_GPU_NULL": "1"])
    try #require(result.status == 0, "\(result.output)\(result.errors)")
    let lines = try Self.lines(result.output)
    #expect(lines.allSatisfy { $0.error == nil })
    #expect(
      lines.filter { $0.measurement == "upload" }.map(\.source) == ["pinned", "pageable", "mapped"])
    // Two uploads to learn the time, and four that are measured.
    #expect(report.pinnedBytes >= 6 * 128_000_000)
    #expect(report.pageableBytes >= 12 * 128_000_000)
    let attention = lines.filter { $0.measurement == "attention" }
    // 7 x 17 x 30 latent cells.
    #expect(attention.first?.queries == 3570)
    #expect(attention.filter { $0.mask == false }.allSatisfy { $0.kernel == "flash" })
    #expect(attention.filter { $0.mask == true }.allSatisfy { $0.kernel == "efficient" })
    #expect(attention.count { $0.forwardAndBackwardSeconds != nil } == 7)
    #expect(lines.contains { $0.measurement == "launch" && $0.seconds ?? 0 > 0 })
    #expect(report.devices.allSatisfy { $0.liveBytes == 0 })
  }

  @Test func modelsAreMeasuredIfTheirFilesAreGiven() throws {
    let prepared = try PreparedTraining.shared.get()
    let workshop = try Workshop()
    let (result, _) = try PretendGPU.run(
      [
        "doctor", "--measure", "--device", "cuda", "--size", "64x64x9", "--model-path",
        prepared.model, "--text-encoder-path", prepared.textEncoder,
      ], in: workshop.path)
    try #require(result.status == 0, "\(result.output)\(result.errors)")
    let lines = try Self.lines(result.output)
    #expect(
      lines.map(\.measurement) == [
        "device", "video_vae_encode", "video_vae_decode", "video_vae_decode", "text_encoder",
        "text_encoder",
      ])
    #expect(lines.dropFirst().allSatisfy { $0.peakBytes ?? 0 > 10_000 && $0.seconds ?? 0 > 0 })
  }

  @Test func aMeasurementThatFailsLeavesTheOthers() throws {
    let workshop = try Workshop()
    let (result, _) = try PretendGPU.run(
      ["doctor", "--measure", "--device", "cuda"], in: workshop.path, bytes: 100_000_000,
      environment: ["PRETEND_GPU_NULL": "1"])
    #expect(result.status == 1)
    let lines = try Self.lines(result.output)
    #expect(lines.first { $0.source == "pinned" }?.error?.contains("out of memory") == true)
    #expect(lines.contains { $0.measurement == "launch" && $0.error == nil })
  }

  @Test(arguments: [
    (["--size", "960x544x50"], "--size: must have a width and height divisible by 32"),
    (["--size", "960x544"], "The value '960x544' is invalid for '--size"),
    (["--json"], "--json can't be combined with --measure"),
    (["--device", "cuda:9"], "cuda:9 does not exist (found 1 CUDA GPU). Use cuda:0"),
  ])
  func invalidOptionsAreNamed(_ more: [String], _ text: String) throws {
    let workshop = try Workshop()
    let result = try Program.run(
      ["doctor", "--measure", "--device", "cuda"] + more, in: workshop.path,
      environment: ["LD_LIBRARY_PATH": try PretendGPU.folder.get()])
    #expect(result.status == 2)
    #expect(result.errors.contains(text), "\(result.errors)")
    #expect(result.output.isEmpty)
  }
}
