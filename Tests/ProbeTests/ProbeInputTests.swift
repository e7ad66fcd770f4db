import Foundation
import Probe
import Support
import TensorFiles
import Testing
import Torch

/// Inputs that a component can't use are named, together with the expected ones.
@Suite struct ProbeInputTests {
  private func run(_ component: String, _ tensors: [(key: String, tensor: Tensor)]) throws -> String
  {
    let path = NSTemporaryDirectory() + "probe-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try writeSafetensors(tensors, to: path)
    var options = Probe.Options()
    options.inputs = path
    let error = try #require(throws: Support.Issue.self) { try Probe.run(component, options) }
    return error.description
  }

  @Test func missing() throws {
    let message = try run("positions", [("fps", Tensor([Float(24)]))])
    #expect(message.contains("video_shape is missing"))
    #expect(message.contains("integers (I64)"))
  }

  @Test func unknownName() throws {
    let message = try run(
      "positions",
      [
        ("video_shape", Tensor([1, 4, 2, 1, 1])), ("fps", Tensor([Float(24)])),
        ("fsp", Tensor([Float(24)])),
      ])
    #expect(message.contains("unknown input fsp"))
    #expect(message.contains("fps [1]"))
  }

  @Test func wrongRankAndType() throws {
    #expect(try run("positions", [("video_shape", Tensor([1, 4, 2]))]).contains("shape [3]"))
    #expect(
      try run("positions", [("video_shape", Tensor([Float(1), 4, 2, 1, 1]))]).contains(
        "type float32"))
  }

  @Test func sizesMustAgree() throws {
    let tensors: [(String, Tensor)] = [
      ("sigmas", try Tensor([Float(1), 0])), ("video.noise", try .zeros([1, 6, 4])),
      ("video.positions", try .zeros([1, 3, 5, 2])),
    ]
    let message = try run("denoise", tensors.map { (key: $0.0, tensor: $0.1) })
    #expect(message.contains("video.positions"))
    #expect(message.contains("T = 6"))
  }

  /// Integers that floating-point numbers can't represent are reported exactly.
  @Test func largestInteger() throws {
    #expect(try run("sigmas", [("kind", Tensor([Int.max]))]).contains("kind: is \(Int.max)"))
  }

  /// Meaningless values are rejected before any computation.
  @Test func impossibleNumbers() throws {
    func positions(_ shape: [Int], fps: Float) throws -> String {
      try run("positions", [("video_shape", Tensor(shape)), ("fps", Tensor([fps]))])
    }
    #expect(try positions([1 << 62, 4, 2, 2, 8], fps: 24).contains("video_shape: is"))
    #expect(try positions([1, 4, 2, 2, 8], fps: .infinity).contains("fps is inf"))
    #expect(
      try run("sigmas", [("kind", Tensor([0])), ("steps", Tensor([4])), ("tokens", Tensor([-1]))])
        .contains("tokens: must be positive (got -1)"))
    let condition: [(key: String, tensor: Tensor)] = [
      ("video_shape", try Tensor([1, 4, 2, 2, 2])), ("fps", try Tensor([Float(24)])),
      ("0.latent", try .zeros([1, 4, 1, 1, 1])), ("0.kind", try Tensor([2])),
      ("0.scale", try Tensor([1, Int.min])),
    ]
    #expect(try run("conditioning", condition).contains("0.scale: is"))
    #expect(
      try run("denoise", [("sigmas", Tensor([Float(1), 0])), ("video.noise", .zeros([1, 0, 4]))])
        .contains("video.noise has shape [1, 0, 4]"))
  }

  @Test func ancestralSteps() throws {
    func denoise(_ more: (String, Tensor)...) throws -> String {
      let tensors: [(String, Tensor)] = [
        ("sigmas", try Tensor([Float(1), 0.5, 0])), ("video.noise", try .zeros([1, 6, 4])),
        ("video.positions", try .zeros([1, 3, 6, 2])), ("video.context", try .zeros([1, 2, 8])),
      ]
      return try run("denoise", (tensors + more).map { (key: $0.0, tensor: $0.1) })
    }
    #expect(try denoise(("sampler", Tensor([2]))).contains("sampler: is 2 (expected 0 (Euler)"))
    #expect(
      try denoise(("sampler", Tensor([1])), ("eta", Tensor([Float(1.5)]))).contains("eta: is 1.5"))
    #expect(try denoise(("sampler", Tensor([1]))).contains("video.step_noise is missing"))
    let noise: Tensor = try .zeros([3, 1, 6, 4])
    #expect(
      try denoise(("sampler", Tensor([1])), ("video.step_noise", noise)).contains(
        "steps = 2, the number of steps"))
    #expect(
      try denoise(("video.keyframes_mask", .zeros([1, 5], dtype: .int64))).contains(
        "video.keyframes_mask has shape [1, 5]"))
  }

  @Test func unknownComponent() throws {
    let error = try #require(throws: Support.Issue.self) {
      try Probe.run("transfomer", Probe.Options())
    }
    #expect(error.description.contains("transformer"))
  }
}
