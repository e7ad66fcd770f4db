// swift-tools-version: 6.1
// The benchmarks, a package of their own so that nothing of them is built or linked with `ltx`. Run
// by `make bench`.

import PackageDescription

let package = Package(
  name: "Benchmarks",
  dependencies: [.package(name: "swift-ltx", path: "..")],
  targets: [
    .executableTarget(
      name: "bench",
      dependencies: [
        "Torch", "TensorFiles", "NN", "BlockExecution", "LanguageModels", "LTX", "LoRAFiles",
        "Optimizers",
        "Tracking", "Training", "Media",
      ].map {
        .product(name: $0, package: "swift-ltx")
      })
  ]
)
