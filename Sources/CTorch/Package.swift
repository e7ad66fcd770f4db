// swift-tools-version: 6.1
// libCTorch.so, which programs load at the first tensor operation and not when they start
// (docs/decisions.md). It is a package of its own because SwiftPM builds a dynamic library along
// with a program only if it comes from another package; a package's own targets are linked
// statically.

import Foundation
import PackageDescription

// libtorch is not a Swift package: `Scripts/bootstrap` downloads it once and links it at
// `.deps/torch`. The paths go through the link instead of its destination, because SwiftPM caches
// this manifest and would not notice a new destination.
let dependencies = Context.packageDirectory + "/../../.deps"
let torch = dependencies + "/torch"
guard FileManager.default.fileExists(atPath: torch + "/lib/libtorch_cpu.so") else {
  FileHandle.standardError.write(
    Data(
      "error: libtorch is not set up in this clone. Run this, then again:  Scripts/bootstrap\n".utf8
    ))
  exit(1)
}

let package = Package(
  name: "CTorch",
  products: [.library(name: "CTorch", type: .dynamic, targets: ["CTorch"])],
  targets: [
    .target(
      name: "CTorch",
      path: ".",
      exclude: ["Package.swift"],
      cxxSettings: [
        .unsafeFlags([
          "-isystem", "\(torch)/include", "-isystem", "\(torch)/include/torch/csrc/api/include",
        ])
      ],
      linkerSettings: [
        .linkedLibrary("torch_cpu"),
        .linkedLibrary("c10"),
        .linkedLibrary("stdc++"),
        .unsafeFlags([
          "-L\(torch)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(torch)/lib",
          // Where libCTorchCUDA.so is looked for: beside this library, and where Scripts/nccl puts it.
          "-Xlinker", "-rpath", "-Xlinker", "$ORIGIN",
          "-Xlinker", "-rpath", "-Xlinker", "\(dependencies)/lib",
          "-Xlinker", "--allow-shlib-undefined",
        ]),
        // SwiftPM links everything to Swift's runtime. This library contains no Swift code, and a
        // program with its own runtime (--static-swift-stdlib) must not load a second one.
        .unsafeFlags([
          "-use-ld=lld", "-Xlinker", "--remap-inputs=*/libswiftCore.so=/dev/null",
          "-nostartfiles", "-no-toolchain-stdlib-rpath",
        ]),
      ])
  ],
  cxxLanguageStandard: .cxx17
)
