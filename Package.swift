// swift-tools-version: 6.1
// swift-ltx: fine-tune LTX-2 from one Swift binary on libtorch.
// The targets, lowest first, are described in docs/architecture.md; an import never points upward.

import Foundation
import PackageDescription

// libtorch is not a Swift package: `Scripts/bootstrap` downloads it once and links it at `.deps/torch`.
// The link itself is named, not where it leads: SwiftPM caches this manifest, and would not notice a new link.
let torch = Context.packageDirectory + "/.deps/torch"
guard FileManager.default.fileExists(atPath: torch + "/lib/libtorch_cpu.so") else {
  FileHandle.standardError.write(
    Data("error: libtorch is not set up in this clone. Run this, then again:  Scripts/bootstrap\n".utf8))
  exit(1)
}

let libtorchHeaders: [CXXSetting] = [
  .unsafeFlags([
    "-isystem", "\(torch)/include", "-isystem", "\(torch)/include/torch/csrc/api/include",
  ])
]
let libtorchLibraries: [LinkerSetting] = [
  .linkedLibrary("torch_cpu"),
  .linkedLibrary("c10"),
  .linkedLibrary("stdc++"),
  .unsafeFlags([
    "-L\(torch)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(torch)/lib",
    "-Xlinker", "--allow-shlib-undefined",
  ]),
]

let package = Package(
  name: "swift-ltx",
  products: [
    .executable(name: "ltx", targets: ["ltx"]),
    .library(name: "Torch", targets: ["Torch"]),
    .library(name: "LTX", targets: ["LTX"]),
    .library(name: "Training", targets: ["Training"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
  ],
  targets: [
    // The tensor engine.
    .target(
      name: "CTorch", cxxSettings: libtorchHeaders, linkerSettings: libtorchLibraries),
    .target(name: "Torch", dependencies: ["CTorch"]),
    .target(name: "TensorFiles", dependencies: ["Torch"]),
    .target(name: "NN", dependencies: ["Torch", "TensorFiles"]),
    .target(name: "BlockExecution", dependencies: ["NN"]),

    // The models.
    .target(name: "LanguageModels", dependencies: ["NN", "BlockExecution"]),
    .target(name: "LTX", dependencies: ["NN", "BlockExecution", "LanguageModels"]),

    // Pictures and sound: knows no tensors.
    .systemLibrary(name: "CFFmpeg", pkgConfig: "libavformat"),
    .target(name: "Media", dependencies: ["CFFmpeg"]),

    // The work.
    .target(name: "Inference", dependencies: ["LTX", "Media"]),
    .target(
      name: "Training", dependencies: ["Inference", .product(name: "Yams", package: "Yams")]),
    .target(name: "Probe", dependencies: ["Training"]),
    .executableTarget(
      name: "ltx",
      dependencies: [
        "Probe", "Training", "Inference", "Media",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    .testTarget(name: "TorchTests", dependencies: ["Torch"]),
    .testTarget(name: "TensorFilesTests", dependencies: ["TensorFiles"]),
    .testTarget(name: "BlockExecutionTests", dependencies: ["BlockExecution"]),
    .testTarget(name: "LanguageModelsTests", dependencies: ["LanguageModels"]),
    .testTarget(name: "LTXTests", dependencies: ["LTX"]),
    .testTarget(name: "MediaTests", dependencies: ["Media"]),
    .testTarget(name: "InferenceTests", dependencies: ["Inference"]),
    .testTarget(name: "TrainingTests", dependencies: ["Training"]),
    .testTarget(name: "ProbeTests", dependencies: ["Probe"]),
  ],
  cxxLanguageStandard: .cxx17
)
