import Foundation
import LoRAFiles
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import NN

/// The error of each format of quantized weights against bfloat16, in dB: no worse than the library
/// that the format comes from, and as docs/checkpoints.md states it.
@Suite struct QuantizationNoiseTests {
  private let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    try FileManager.default.createDirectory(
      atPath: scratch.folder, withIntermediateDirectories: true)
  }

  private struct Recorded: Decodable {
    let decibels: [String: Double]
  }

  /// The rows of the table in the docs: the formats with the dB of weights and of velocities.
  private static func table() throws -> [String: (weights: Double, velocities: Double)] {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("docs/checkpoints.md")
    var rows: [String: (weights: Double, velocities: Double)] = [:]
    for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n") {
      let cells = line.split(separator: "|").map {
        $0.trimmingCharacters(in: .whitespaces)
      }
      guard line.hasPrefix("| `"), cells.count == 5, let weights = Double(cells[3]),
        let velocities = Double(cells[4])
      else { continue }
      rows[cells[0].replacing("`", with: "")] = (weights, velocities)
    }
    return rows
  }

  /// The ratio of signal to noise in dB.
  private func decibels(_ exact: Tensor, _ found: Tensor) throws -> Double {
    let exact = try exact.to(.float64)
    let noise = try (found.to(.float64) - exact).square().sum().item()
    return try 10 * log10(exact.square().sum().item() / noise)
  }

  private func storage(_ name: String) throws -> WeightStorage? {
    try BaseQuantization(rawValue: name)?.storage()
  }

  /// A file with the matrices of the transformer's blocks in a format that ComfyUI reads.
  private func write(_ name: String, _ tensors: [(key: String, tensor: Tensor)]) throws -> String {
    let path = "\(scratch.folder)/\(name).safetensors"
    // NVFP4 encodes values into the tensors of an existing weight.
    let empty = try tensors.flatMap { key, tensor -> [(key: String, tensor: Tensor)] in
      func padded(_ size: Int, _ multiple: Int) -> Int {
        (size + multiple - 1) / multiple * multiple
      }
      let (rows, columns) = (tensor.size(0), tensor.size(1))
      switch name {
      case "nvfp4":
        return [
          (key, try .zeros([rows, columns / 2], dtype: .uint8)),
          (
            "\(key)_scale",
            try Tensor.zeros([padded(rows, 128), padded(columns / 16, 4)]).to(.float8E4M3)
          ), ("\(key)_scale_2", try .ones([])),
        ]
      case "fp8":
        return [(key, try tensor.to(.float8E4M3)), ("\(key)_scale", try .ones([]))]
      default: return [(key, try tensor.to(.int8)), ("\(key)_scale", try .ones([rows, 1]))]
      }
    }
    try writeSafetensors(empty, to: path)
    let index = WeightIndex(try SafetensorsFile(path: path))
    let encoded = try tensors.flatMap { key, tensor in
      try #require(try index.format(of: key)).encode(tensor.to(.float32)).map {
        (key: $0.key, tensor: $0.value)
      }
    }
    let written = "\(scratch.folder)/\(name)-encoded.safetensors"
    try writeSafetensors(encoded, to: written)
    return written
  }

  @Test func weightsAreNoWorseThanTheLibrarys() throws {
    let folder = "\(Fixtures.root)/packed"
    let weight = try SafetensorsFile(path: "\(folder)/noise.safetensors").tensor("weight")
    let recorded = try JSONDecoder().decode(
      Recorded.self, from: Data(contentsOf: URL(filePath: "\(folder)/noise.json")))
    let table = try Self.table()
    let path = "\(scratch.folder)/weight.safetensors"
    try writeSafetensors([("l.weight", weight)], to: path)
    let names = ["int8-quanto", "fp8-quanto", "int4-quanto", "int2-quanto", "nf4"]
    for name in names + ["fp8", "int8", "nvfp4"] {
      let source =
        try names.contains(name) ? path : write(name, [(key: "l.weight", tensor: weight)])
      let weights = Weights(
        try SafetensorsFile(path: source),
        LoadPolicy(
          dtype: names.contains(name) ? .bfloat16 : .float32,
          storage: try storage(name) ?? .asStored))
      let found = try decibels(weight, Linear(weights / "l", bias: false).weight)
      let library = try #require(recorded.decibels[name])
      // The libraries compute some of the formats in bfloat16, others in float32.
      #expect(found > library - 0.005, "\(name): \(found) dB, the library's \(library) dB")
      let stated = try #require(table[name], "\(name) is not in docs/checkpoints.md")
      #expect(abs(stated.weights - found) < 0.06, "\(name): \(found)")
    }
  }

  @Test func velocitiesAreAsFarFromTheUnquantizedOnesAsStated() throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let checkpoint = try Checkpoint(path: files.checkpoint)
    let velocity = try TinyVelocity(Generator(seed: 11))
    let exact = try velocity(checkpoint, .asStored)
    let table = try Self.table()
    #expect(table.count == 8)
    for name in table.keys.sorted() {
      var (own, storage) = (checkpoint, WeightStorage.asStored)
      if let given = try self.storage(name) {
        storage = given
      } else if name == "nvfp4" {
        let source = checkpoint.source
        let keys = source.keys.filter {
          $0.contains("transformer_blocks") && $0.hasSuffix(".weight")
            && source.entries[$0]?.shape.count == 2
            && source.entries[$0]?.shape[1].isMultiple(of: 16) == true
        }
        let encoded = try SafetensorsFile(
          path: write(name, keys.map { (key: $0, tensor: try source.tensor($0)) }))
        let path = "\(scratch.folder)/nvfp4-model.safetensors"
        try writeSafetensors(
          source.keys.filter { encoded.entries[$0] == nil }.map { ($0, try source.tensor($0)) }
            + encoded.keys.map { ($0, try encoded.tensor($0)) },
          metadata: source.metadata, to: path)
        own = try Checkpoint(path: path)
      } else {
        let path = "\(scratch.folder)/\(name)-model.safetensors"
        try CheckpointFusion(checkpoint, loras: [], form: name == "fp8" ? .float8 : .int8).write(
          to: path)
        own = try Checkpoint(path: path)
      }
      let found = try decibels(exact, velocity(own, storage))
      let stated = try #require(table[name])
      // Other processors round differently.
      #expect(abs(stated.velocities - found) < 0.6, "\(name): \(found)")
    }
  }
}
