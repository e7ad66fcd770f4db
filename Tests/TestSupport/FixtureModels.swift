import Foundation
import Support
import TensorFiles
import Testing
import Torch

/// The folder `Tests/Fixtures`, which the scripts in `Tests/Oracles` write.
///
/// Models with random weights are not committed. The first use of `root` in a test run draws the
/// missing ones into `Tests/Fixtures/models` from their recipes, which takes a fraction of a second.
public enum Fixtures {
  public static let root: String = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Fixtures").path
    do {
      try writeModels(to: "\(root)/models")
    } catch {
      Testing.Issue.record(error, "Tests/Fixtures/models can't be completed")
    }
    return root
  }()

  /// The folder of the models.
  public static var models: String { "\(root)/models" }

  public static func model(_ name: String) -> String { "\(models)/\(name).safetensors" }

  private static func writeModels(to folder: String) throws {
    for file in try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    where file.hasSuffix(".json") {
      try ModelRecipe(path: "\(folder)/\(file)").write(
        to: "\(folder)/\(file.dropLast(".json".count)).safetensors")
    }
  }
}

/// A model with random weights, as `Tests/Oracles/recipes.py` describes it.
private struct ModelRecipe: Decodable {
  /// The hash of the file that `write(to:)` writes.
  let sha256: String
  /// The configuration in the file's metadata.
  let config: String
  /// Factors of some tensors.
  let scales: [String: Double]
  let shapes: [String: [Int]]

  init(path: String) throws {
    self = try JSONDecoder().decode(Self.self, from: Data(contentsOf: URL(filePath: path)))
  }

  /// Writes the model unless the file exists.
  ///
  /// - Throws: `Issue` if the file is not the one that the fixtures were computed with, because
  ///   this processor or libtorch generates other random numbers.
  func write(to path: String) throws {
    guard try !isWritten(path) else { return }
    let name = URL(filePath: path).deletingPathExtension().lastPathComponent
    let fixedPath = path.replacing(".safetensors", with: ".fixed.safetensors")
    let fixed =
      FileManager.default.fileExists(atPath: fixedPath)
      ? try SafetensorsFile(path: fixedPath) : nil
    let generator = try Generator(seed: seed(of: "models/\(name)"))
    let tensors = try shapes.keys.sorted().map { key in
      let drawn = try drawTensor(key, generator)
      let values =
        fixed?.entries[key] != nil
        ? try fixed?.tensor(key) : try scales[key].map { try drawn * $0 } ?? drawn
      return (key, try (values ?? drawn).to(.bfloat16))
    }
    try writeSafetensors(tensors, metadata: ["config": config], to: path, isDurable: false)
    guard try isWritten(path) else {
      throw Support.Issue(
        [.file(path)], "is not the model that the fixtures were computed with",
        suggestion: "Run the tests with the libtorch that Scripts/bootstrap installs.")
    }
  }

  private func isWritten(_ path: String) throws -> Bool {
    guard FileManager.default.fileExists(atPath: path) else { return false }
    return try SHA256.hex(ofFile: path) == sha256
  }

  /// `checkpoints.random_parameter`, with the same random numbers in the same order.
  private func drawTensor(_ key: String, _ generator: Generator) throws -> Tensor {
    let shape = shapes[key] ?? []
    let normal = try generator.normal(shape)
    let isNorm =
      key.hasSuffix("norm.weight") || key.contains("layernorm.weight")
      || key.contains("_norm.weight")
    if key.hasSuffix("std-of-means") { return try generator.uniform(shape) + 0.5 }
    if key.hasSuffix("timestep_scale_multiplier") { return try .full([], 900) }
    if key.contains("registers") { return try generator.uniform(shape) * 2 - 1 }
    if isNorm { return try normal * 0.3 + 1 }
    if key.contains("scale_shift_table") { return try normal * 0.4 }
    if key.hasSuffix("bias") { return try normal * 0.1 }
    guard shape.count >= 2 else { return try normal * 0.3 }
    return try normal / Double(shape.dropFirst().reduce(1, *)).squareRoot()
  }

  /// `fixtures.seed_of`
  private func seed(of name: String) -> UInt64 {
    var hash = SHA256()
    hash.update(Array(name.utf8))
    return hash.digest().prefix(4).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
