import Foundation
import TestSupport
import Testing

/// The libraries that are loaded together with libtorch's CUDA part.
@Suite struct CUDALoadingTests {
  /// Lays out libtorch like NVIDIA's wheels, with links to its files, and a library of built-in
  /// functions of CUDA's run-time compiler that writes `loaded` when it is loaded.
  private static func layOut(in folder: String, builtins: String?) throws {
    let torch = URL(fileURLWithPath: Clips.folder).deletingLastPathComponent()
      .appendingPathComponent("torch").resolvingSymlinksInPath()
    let packages = torch.deletingLastPathComponent()
    let files = FileManager.default
    for part in ["torch/lib", "nvidia/cu13/lib"] {
      let source = packages.appendingPathComponent(part).path
      try files.createDirectory(atPath: "\(folder)/\(part)", withIntermediateDirectories: true)
      for name in try files.contentsOfDirectory(atPath: source)
      where !name.contains("nvrtc") && !name.contains("torch_cuda") {
        try files.createSymbolicLink(
          atPath: "\(folder)/\(part)/\(name)", withDestinationPath: "\(source)/\(name)")
      }
    }
    guard let builtins else { return }
    try Data(
      """
      #include <stdio.h>
      __attribute__((constructor)) static void load(void) {
        FILE *file = fopen("\(folder)/loaded", "a");
        if (file) fclose(file);
      }
      """.utf8
    ).write(to: URL(fileURLWithPath: "\(folder)/builtins.c"))
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [
      "clang", "-shared", "-fPIC", "-o", "\(folder)/nvidia/cu13/lib/\(builtins)",
      "\(folder)/builtins.c",
    ]
    try process.run()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
  }

  private static let hasWheelLayout = FileManager.default.fileExists(
    atPath: Fixtures.root + "/../../.deps/torch/../nvidia/cu13/lib/libcudart.so.13")

  /// NVRTC finds its built-in functions only if they are loaded already (`Sources/CTorch/cuda.cpp`).
  @Test(
    .enabled(if: hasWheelLayout),
    arguments: [
      ("libnvrtc-builtins.so.13.0", true), ("libnvrtc-builtins.so.12.8", false), (nil, false),
    ] as [(String?, Bool)])
  func theBuiltinsOfTheCompilerAreLoaded(_ builtins: String?, isLoaded: Bool) throws {
    let workshop = try Workshop()
    try Self.layOut(in: workshop.path, builtins: builtins)
    let pretendGPU = try PretendGPU.folder.get()
    let result = try Program.run(
      ["doctor", "--device", "cuda"], in: workshop.path,
      environment: ["LD_LIBRARY_PATH": "\(pretendGPU):\(workshop.path)/torch/lib"])
    #expect(result.status == 0, "\(result.output)\(result.errors)")
    #expect(result.output.contains("from \(workshop.path)/torch/lib"), "\(result.output)")
    #expect(FileManager.default.fileExists(atPath: "\(workshop.path)/loaded") == isLoaded)
  }

  @Test(.enabled(if: hasWheelLayout)) func theCPULoadsNoPartOfCUDA() throws {
    let workshop = try Workshop()
    try Self.layOut(in: workshop.path, builtins: "libnvrtc-builtins.so.13.0")
    let result = try Program.run(
      ["tiny-model", "model"], in: workshop.path,
      environment: ["LD_LIBRARY_PATH": "\(workshop.path)/torch/lib"])
    #expect(result.status == 0, "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: "\(workshop.path)/loaded"))
  }
}
