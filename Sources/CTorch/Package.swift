// swift-tools-version: 6.1
// CTorch is a package of its own so that it is built as a dynamic library, libCTorch.so, which programs load at the
// first tensor operation and not when they start (docs/decisions.md): SwiftPM links a package's own targets
// statically, and builds a dynamic library along with a program only where another package offers it.

import Foundation
import PackageDescription

// libtorch is not a Swift package: `Scripts/bootstrap` downloads it once and links it at `.deps/torch`.
// The link itself is named, not where it leads: SwiftPM caches this manifest, and would not notice a new link.
let root = URL(fileURLWithPath: Context.packageDirectory).deletingLastPathComponent().deletingLastPathComponent()
let torch = root.path + "/.deps/torch"
guard FileManager.default.fileExists(atPath: torch + "/lib/libtorch_cpu.so") else {
  FileHandle.standardError.write(
    Data("error: libtorch is not set up in this clone. Run this, then again:  Scripts/bootstrap\n".utf8))
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
        .unsafeFlags(["-isystem", "\(torch)/include", "-isystem", "\(torch)/include/torch/csrc/api/include"])
      ],
      linkerSettings: [
        .linkedLibrary("torch_cpu"),
        .linkedLibrary("c10"),
        .linkedLibrary("stdc++"),
        .unsafeFlags([
          "-L\(torch)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(torch)/lib",
          "-Xlinker", "--allow-shlib-undefined",
        ]),
      ])
  ],
  cxxLanguageStandard: .cxx17
)
