// swift-tools-version: 6.2
// swift-ltx: fine-tune LTX-2 from one Swift binary on libtorch.
// The targets, lowest first, are described in docs/architecture.md; an import never points upward.

import PackageDescription

let package = Package(
  name: "swift-ltx",
  products: [
    .executable(name: "ltx", targets: ["ltx"]),
    .library(name: "Torch", targets: ["Torch"]),
    .library(name: "TensorFiles", targets: ["TensorFiles"]),
    .library(name: "NN", targets: ["NN"]),
    .library(name: "Optimizers", targets: ["Optimizers"]),
    .library(name: "BlockExecution", targets: ["BlockExecution"]),
    .library(name: "LanguageModels", targets: ["LanguageModels"]),
    .library(name: "LTX", targets: ["LTX"]),
    .library(name: "LoRAFiles", targets: ["LoRAFiles"]),
    .library(name: "Media", targets: ["Media"]),
    .library(name: "SceneDetection", targets: ["SceneDetection"]),
    .library(name: "Datasets", targets: ["Datasets"]),
    .library(name: "Captions", targets: ["Captions"]),
    .library(name: "Tracking", targets: ["Tracking"]),
    .library(name: "Training", targets: ["Training"]),
  ],
  dependencies: [
    .package(path: "Sources/CTorch"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // The system: standard streams, files that appear whole, locks, words for errors. Knows nothing
    // of the others.
    .target(name: "Support", dependencies: ["CHashing"]),
    // SHA-256 and CRC-32, optimized in debug builds too.
    .target(name: "CHashing", cSettings: [.unsafeFlags(["-O3"])]),

    // The tensor engine. libCTorch.so is built with every program, and then left out when the
    // program is linked: CTorchLoader loads it at the first tensor operation, so that `ltx --help`
    // does not wait for libtorch.
    .target(
      name: "CTorchLoader",
      dependencies: [.product(name: "CTorch", package: "CTorch")],
      linkerSettings: [
        .unsafeFlags(["-use-ld=lld", "-Xlinker", "--remap-inputs=*/libCTorch.so=/dev/null"])
      ]),
    .target(
      name: "Torch",
      dependencies: ["CTorchLoader", "Support", .product(name: "CTorch", package: "CTorch")]),
    .target(name: "TensorFiles", dependencies: ["Torch", "Support"]),
    .target(name: "NN", dependencies: ["Torch", "TensorFiles", "Support"]),
    .target(name: "Optimizers", dependencies: ["NN", "Support"]),
    .target(name: "BlockExecution", dependencies: ["NN"]),

    // The models.
    .target(name: "LanguageModels", dependencies: ["NN", "BlockExecution", "Support"]),
    .target(name: "LTX", dependencies: ["NN", "BlockExecution", "LanguageModels", "Support"]),
    .target(name: "LoRAFiles", dependencies: ["LTX", "Support"]),

    // Pictures and sound: knows no tensors.
    .systemLibrary(name: "CFFmpeg", pkgConfig: "libavformat"),
    // Loops over pixels, optimized in debug builds too.
    .target(name: "CPixels", cSettings: [.unsafeFlags(["-O3"])]),
    .target(name: "Media", dependencies: ["CFFmpeg", "CPixels", "Support"]),
    .target(name: "SceneDetection", dependencies: ["Media", "Support"]),

    // The work.
    .target(name: "LocalCaptioning", dependencies: ["LanguageModels", "Media", "Support"]),
    .target(name: "Generation", dependencies: ["LTX", "LoRAFiles", "Media", "Support"]),
    .target(name: "Datasets", dependencies: ["Generation", "Support"]),
    // libcurl, loaded at the first request.
    .target(name: "CCurl"),
    .target(name: "HTTP", dependencies: ["CCurl", "Support"]),
    .target(name: "Captions", dependencies: ["Datasets", "HTTP", "Media", "Support"]),
    // The web page on which captions are read and edited.
    .target(
      name: "CaptionReview",
      dependencies: [
        "Captions", "Datasets", "Media", "Support",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ]),
    // A child that ends processes when their launcher is gone, which takes fork().
    .target(name: "CProcess"),
    .target(name: "Tracking", dependencies: ["HTTP", "Media", "Support"]),
    .target(
      name: "Training",
      dependencies: [
        "CProcess", "Datasets", "Optimizers", "Support", "Tracking",
        .product(name: "Yams", package: "Yams"),
      ]),
    .target(name: "Probe", dependencies: ["Captions", "LocalCaptioning", "Training", "Support"]),
    // Whether this machine has what the commands need, and how fast it is.
    .target(name: "Diagnostics", dependencies: ["LTX", "Media", "Support"]),
    // A small world of drawn clips with audio and captions, for the demo and its trained model.
    // Optimized in debug builds too: it computes every pixel.
    .target(
      name: "DemoData", dependencies: ["Media", "Support"],
      swiftSettings: [.unsafeFlags(["-O"])]),
    .executableTarget(
      name: "ltx",
      dependencies: [
        "CaptionReview", "Captions", "DemoData", "LocalCaptioning", "Diagnostics", "Probe",
        "Training",
        "Datasets", "Generation", "LoRAFiles", "SceneDetection", "Media", "Support",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    // Classifiers for decoded clips of the small world. No tensors.
    .target(
      name: "DemoJudges", dependencies: ["DemoData", "Media", "Support"],
      path: "Tools/DemoJudges", swiftSettings: [.unsafeFlags(["-O"])]),
    // The page that `./demo` ends with.
    .target(
      name: "DemoReport", dependencies: ["DemoData", "DemoJudges", "Media", "Support", "Tracking"],
      path: "Tools/DemoReport"),
    .executableTarget(
      name: "demo-report",
      dependencies: [
        "DemoReport", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Tools/demo-report"),
    // The training of the tiny model that comes with the project.
    .target(
      name: "TinyTraining",
      dependencies: [
        "DemoData", "DemoJudges", "Generation", "LTX", "Media", "Optimizers", "Support",
      ],
      path: "Tools/TinyTraining"),
    .executableTarget(
      name: "train-tiny-ltx",
      dependencies: [
        "TinyTraining", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Tools/train-tiny-ltx"),

    .target(name: "TestSupport", dependencies: ["LoRAFiles"], path: "Tests/TestSupport"),
    .target(name: "MediaTestSupport", dependencies: ["Media"], path: "Tests/MediaTestSupport"),
    .target(name: "HTTPTestSupport", path: "Tests/HTTPTestSupport"),
    .testTarget(name: "SupportTests", dependencies: ["Support"]),
    .testTarget(name: "TorchTests", dependencies: ["Torch", "TestSupport"]),
    .testTarget(name: "TensorFilesTests", dependencies: ["TensorFiles", "TestSupport"]),
    .testTarget(name: "NNTests", dependencies: ["NN", "LTX", "Support", "TestSupport"]),
    .testTarget(
      name: "OptimizersTests",
      dependencies: ["Optimizers", "Support", "TensorFiles", "TestSupport"]),
    .testTarget(name: "BlockExecutionTests", dependencies: ["BlockExecution"]),
    .testTarget(name: "LanguageModelsTests", dependencies: ["LanguageModels", "Support"]),
    .testTarget(
      name: "LTXTests", dependencies: ["LTX", "Optimizers", "Support", "TestSupport", "Training"]),
    .testTarget(name: "LoRAFilesTests", dependencies: ["LoRAFiles", "Support", "TestSupport"]),
    .testTarget(
      name: "MediaTests", dependencies: ["Media", "MediaTestSupport", "SceneDetection", "Support"]),
    .testTarget(
      name: "SceneDetectionTests", dependencies: ["SceneDetection", "MediaTestSupport", "Support"]),
    .testTarget(
      name: "LocalCaptioningTests",
      dependencies: ["LocalCaptioning", "MediaTestSupport", "Support"]),
    .testTarget(name: "GenerationTests", dependencies: ["Generation"]),
    .testTarget(
      name: "DatasetsTests", dependencies: ["Datasets", "Training", "TestSupport", "Support"]),
    .testTarget(
      name: "HTTPTests", dependencies: ["HTTP", "HTTPTestSupport", "MediaTestSupport", "Support"]),
    .testTarget(
      name: "CaptionsTests",
      dependencies: ["Captions", "HTTPTestSupport", "MediaTestSupport", "Support", "TestSupport"]),
    .testTarget(
      name: "CaptionReviewTests",
      dependencies: ["CaptionReview", "Captions", "Datasets", "Media", "Support", "TestSupport"]),
    .testTarget(
      name: "TrackingTests", dependencies: ["HTTPTestSupport", "Tracking", "Support"]),
    .testTarget(
      name: "DemoDataTests", dependencies: ["DemoData", "DemoJudges", "Media", "Support"]),
    .testTarget(
      name: "DemoReportTests",
      dependencies: ["DemoReport", "DemoData", "Support", "TestSupport", "Tracking"]),
    .testTarget(name: "TinyTrainingTests", dependencies: ["TinyTraining", "DemoData", "Support"]),
    .testTarget(name: "TrainingTests", dependencies: ["Training", "TestSupport", "Support"]),
    .testTarget(name: "ProbeTests", dependencies: ["Probe", "TestSupport"]),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "ltx", "DemoData", "DemoJudges", "HTTPTestSupport", "Media", "Support", "Training",
        "Tracking", "TestSupport",
        .product(name: "Yams", package: "Yams"),
      ]),
  ]
)
