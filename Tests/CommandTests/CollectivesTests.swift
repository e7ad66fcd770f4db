import Foundation
import TestSupport
import Testing

/// The library that exchanges tensors between GPUs: found, missing, of another version, and when a
/// rank is lost.
@Suite struct CollectivesTests {
  private let prepared: PreparedTraining
  private let shop: Workshop

  init() throws {
    prepared = try PreparedTraining.shared.get()
    shop = try Workshop()
  }

  /// A folder with the pretend GPU and another library for its collectives, or none.
  private func pretendGPU(collectives source: String?) throws -> String {
    let folder = "\(shop.path)/pretend-gpu"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: "\(folder)/libtorch_cuda.so",
      withDestinationPath: "\(PretendGPU.folder.get())/libtorch_cuda.so")
    guard let source else { return folder }
    try shop.write("collectives.c", source)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [
      "clang", "-shared", "-fPIC", "-o", "\(folder)/libCTorchCUDA.so", "\(shop.path)/collectives.c",
    ]
    try process.run()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
    return folder
  }

  private func train(
    _ name: String, _ environment: [String: String], device: String = "cuda"
  ) throws -> Program.Result {
    let config = try prepared.configure(name, steps: 1)
    return try Program.run(
      [
        "launch", "--nproc-per-node", "2", "ltx", "train", config, "--device", device,
        "--threads", "1",
      ], in: shop.path, environment: PretendGPU.environment(count: 2).merging(environment) { $1 })
  }

  @Test func withoutTheLibraryOneNoteSaysWhatIsSlower() throws {
    let folder = try pretendGPU(collectives: nil)
    let result = try train("no-library", ["LD_LIBRARY_PATH": folder])
    #expect(result.status == 0, "\(result.errors)")
    let notes = result.errors.components(separatedBy: "note: GPUs exchange tensors through host")
    #expect(notes.count == 2, "\(result.errors)")
    #expect(result.errors.contains("libCTorchCUDA.so can't be loaded ("), "\(result.errors)")
    #expect(result.errors.contains("Build it with `Scripts/nccl`"), "\(result.errors)")

    let chosen = try train(
      "no-library-wanted", ["LD_LIBRARY_PATH": folder, "LTX_COLLECTIVES": "gloo"])
    #expect(chosen.status == 0 && !chosen.errors.contains("note: GPUs"), "\(chosen.errors)")

    let required = try train(
      "library-needed", ["LD_LIBRARY_PATH": folder, "LTX_COLLECTIVES": "nccl"])
    #expect(required.status == 2)
    #expect(
      required.errors.contains(
        "error: LTX_COLLECTIVES: is nccl in the environment, but NCCL can't be used: on rank 0 ("),
      "\(required.errors)")
  }

  @Test func aLibraryOfAnotherVersionIsRefused() throws {
    let folder = try pretendGPU(
      collectives: """
        const char ctorch_device_collectives_version[] = "interface 0, libtorch 2.10.0";
        const void *const ctorch_device_collectives[] = {0, 0};
        """)
    let result = try train("other-library", ["LD_LIBRARY_PATH": folder])
    #expect(result.status == 0, "\(result.errors)")
    #expect(
      result.errors.contains(
        "\(folder)/libCTorchCUDA.so was built for interface 0, libtorch 2.10.0, but this program "
          + "needs interface 1, libtorch 2.11.0. Build it with `Scripts/nccl`"), "\(result.errors)")
  }

  @Test func theBackendMustExist() throws {
    let unknown = try train("unknown-backend", ["LTX_COLLECTIVES": "mpi"])
    #expect(unknown.status == 2)
    #expect(
      unknown.errors.contains(
        "error: LTX_COLLECTIVES: must be gloo or nccl in the environment (got mpi)"),
      "\(unknown.errors)")
    let cpu = try train("nccl-on-cpu", ["LTX_COLLECTIVES": "nccl"], device: "cpu")
    #expect(cpu.status == 2)
    #expect(cpu.errors.contains("the device is the CPU"), "\(cpu.errors)")
  }

  /// The exchange of the rank that is left runs until it is aborted, as a kernel of NCCL does.
  @Test(arguments: [SIGKILL, SIGSTOP]) func aLostRankEndsTheOther(signal: Int32) throws {
    let name = "lost-gpu-\(signal)"
    let config = try prepared.configure(name, steps: 5000)
    let metrics = "\(prepared.path)/\(name)/metrics.jsonl"
    func steps() -> Int {
      (FileManager.default.contents(atPath: metrics) ?? Data()).count { $0 == UInt8(ascii: "\n") }
    }
    let folders = [0, 1].map { "\(shop.path)/rank\($0)" }
    let processes = try [0, 1].map { rank in
      try FileManager.default.createDirectory(
        atPath: folders[rank], withIntermediateDirectories: true)
      let variables = [
        "RANK": "\(rank)", "WORLD_SIZE": "2", "LOCAL_RANK": "\(rank)", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": signal == SIGKILL ? "29731" : "29732", "LTX_RANK_TIMEOUT": "10",
      ]
      return try Program.start(
        ["train", config, "--device", "cuda", "--threads", "1"], in: shop.path,
        environment: PretendGPU.environment(count: 2).merging(variables) { $1 },
        outputs: folders[rank])
    }
    while processes[0].isRunning, processes[1].isRunning, steps() < 3 { usleep(5000) }
    kill(processes[1].processIdentifier, signal)
    processes[0].waitUntilExit()
    kill(processes[1].processIdentifier, SIGKILL)
    processes[1].waitUntilExit()
    let errors = try String(contentsOfFile: "\(folders[0])/stderr.txt", encoding: .utf8)
    #expect(processes[0].terminationStatus == 1, "\(errors)")
    let sentences = errors.components(separatedBy: "error: ").dropFirst()
    #expect(sentences.count == 1, "\(errors)")
    #expect(
      errors.contains("error: rank 1 on ") && errors.contains("is gone or hangs"), "\(errors)")
  }

  private static let project = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path

  /// A libtorch with CUDA, for which the library can be built.
  private static let cudaTorch: String? = {
    let own = ProcessInfo.processInfo.environment["LTX_TEST_CUDA_TORCH"]
    return [own, project + "/.deps/torch"].compactMap { $0 }.first {
      FileManager.default.fileExists(atPath: $0 + "/lib/libtorch_cuda.so")
    }
  }()

  @Test(
    .enabled(
      if: cudaTorch != nil, "needs a libtorch with CUDA, in .deps/torch or LTX_TEST_CUDA_TORCH"))
  func theLibraryForNCCLIsBuiltAndLoaded() throws {
    let torch = try #require(Self.cudaTorch)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Self.project + "/Scripts/nccl")
    process.arguments = ["--torch", torch, "--output", "\(shop.path)/lib"]
    try process.run()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
    let result = try Program.run(
      ["doctor"], in: shop.path,
      environment: ["LD_LIBRARY_PATH": "\(shop.path)/lib:\(torch)/lib"])
    let check = result.output.split(separator: "\n").first { $0.contains(" collectives ") }
    #expect(
      check?.wholeMatch(of: /ok +collectives +NCCL 2\.\d+\.\d+ exchanges tensors between GPUs/)
        != nil,
      "\(result.output)\(result.errors)")
  }
}
