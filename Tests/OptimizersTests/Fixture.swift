import Foundation
import NN
import Optimizers
import TensorFiles
import Testing
import Torch

/// A file of `Tests/Fixtures/optimizers`, written by `Tests/Oracles/optimizers.py`.
struct Fixture {
  let file: SafetensorsFile

  init(_ name: String) throws {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent()
    file = try SafetensorsFile(path: tests.path + "/Fixtures/optimizers/\(name).safetensors")
  }

  func tensor(_ key: String) throws -> Tensor { try file.tensor(key) }

  /// A JSON value in the file's metadata.
  func metadata<Value: Decodable>(_ key: String, _ type: Value.Type = Value.self) throws -> Value {
    try JSONDecoder().decode(Value.self, from: Data(#require(file.metadata[key]).utf8))
  }

  /// The tensors below a prefix, by the rest of the key.
  func keys(below prefix: String) -> [String] {
    file.entries.keys.filter { $0.hasPrefix(prefix + ".") }.map {
      String($0.dropFirst(prefix.count + 1))
    }
    .sorted()
  }
}

/// The largest difference, relative to the largest expected value.
func relativeError(_ found: Tensor, _ wanted: Tensor) throws -> Double {
  guard wanted.count > 0 else { return 0 }
  let difference = try (found.to(.float64) - wanted.to(.float64)).abs().max().item()
  return difference / max(try wanted.to(.float64).abs().max().item(), 1e-30)
}

extension Optimizer {
  /// The state after it was written to a file and read back.
  func stored() throws -> [String: Tensor] {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(
      "\(UUID()).safetensors"
    ).path
    try writeSafetensors(state.map { ($0.key, $0.tensor) }, to: path)
    // if this fails, the system cleans up
    defer { try? FileManager.default.removeItem(atPath: path) }
    let file = try SafetensorsFile(path: path)
    return try Dictionary(
      uniqueKeysWithValues: file.entries.keys.map { ($0, try file.tensor($0).clone()) })
  }
}
