import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch
import Training

@testable import LTX

/// Training results recorded by Tests/Oracles: `Fixtures/training`.
enum TrainingFixture {
  static func path(_ name: String) -> String { "\(Fixtures.root)/training/\(name)" }

  static func tensors(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: path("\(name).safetensors"))
  }

  static func json<Value: Decodable>(_ name: String, _ type: Value.Type) throws -> Value {
    try JSONDecoder().decode(
      type, from: Data(contentsOf: URL(fileURLWithPath: path("\(name).json"))))
  }

  /// A modality of a recorded step; nil if the step doesn't have it.
  static func example(_ name: String, _ inputs: SafetensorsFile) throws -> ModalityExample? {
    guard inputs.contains("\(name).latent") else { return nil }
    func get(_ part: String) throws -> Tensor { try inputs.tensor("\(name).\(part)") }
    let hasTarget = inputs.contains("\(name).target")
    return ModalityExample(
      input: ModalityInput(
        latent: try get("latent"), timesteps: try get("timesteps"), sigma: try get("sigma"),
        positions: try get("positions"), context: try get("context")),
      target: hasTarget ? try get("target") : nil, lossMask: hasTarget ? try get("loss_mask") : nil)
  }

  static func example(_ name: String) throws -> TrainingExample {
    let inputs = try tensors("\(name).inputs")
    return TrainingExample(video: try example("video", inputs), audio: try example("audio", inputs))
  }

  /// Compares the largest difference, relative to the largest expected value.
  static func expectEqual(
    _ got: Tensor?, _ want: Tensor, within tolerance: Double, _ name: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let got = try #require(got, "\(name) is missing", sourceLocation: sourceLocation)
    #expect(got.shape == want.shape, "\(name)", sourceLocation: sourceLocation)
    let distance = try LoRAFixture.distance(got, want)
    #expect(distance <= tolerance, "\(name)", sourceLocation: sourceLocation)
  }
}
