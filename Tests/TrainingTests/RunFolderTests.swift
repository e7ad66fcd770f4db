import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Training

@Suite struct RunFolderTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func pruned(_ steps: [String], keeping kept: Int, upTo step: Int) throws -> [String] {
    let folder = RunFolder(path: scratch.path, prefix: "lora")
    try folder.create()
    for step in steps {
      try scratch.write("", to: "checkpoints/lora_weights_step_\(step).safetensors")
    }
    try folder.prune(keeping: kept, upTo: step)
    return try FileManager.default.contentsOfDirectory(atPath: scratch.file("checkpoints")).sorted()
      .map { String($0.dropFirst("lora_weights_step_".count).dropLast(".safetensors".count)) }
  }

  /// Six digits sort before five alphabetically.
  @Test func theNewestByNumberStay() throws {
    #expect(
      try pruned(["00500", "99999", "100000"], keeping: 2, upTo: 100000) == ["100000", "99999"])
  }

  /// A run that was started over in the folder of a longer one keeps its new checkpoints, and
  /// removes none of the other run's.
  @Test func adaptersOfLaterStepsStay() throws {
    #expect(try pruned(["00010", "00020", "03000"], keeping: 1, upTo: 20) == ["00020", "03000"])
  }

  private func prunedBeside(
    _ best: (step: Int, isExtra: Bool), superseded: (step: Int, isExtra: Bool)? = nil,
    keeping kept: Int
  ) throws -> [String] {
    let folder = RunFolder(path: scratch.path, prefix: "lora")
    try folder.create()
    for step in [10, 15, 20, 25, 30] {
      try scratch.write("", to: "checkpoints/lora_weights_step_000\(step).safetensors")
    }
    func checkpoint(_ item: (step: Int, isExtra: Bool)) -> BestCheckpoint {
      BestCheckpoint(
        .init(step: item.step, loss: 1, seconds: 1), in: folder, validationSet: "",
        isAveraged: false,
        isExtra: item.isExtra)
    }
    try folder.prune(
      keeping: kept, upTo: 30, best: checkpoint(best), superseded: superseded.map(checkpoint))
    return try FileManager.default.contentsOfDirectory(atPath: scratch.file("checkpoints")).sorted()
      .map { String($0.dropFirst("lora_weights_step_000".count).prefix(2)) }
  }

  /// The best checkpoint stays in addition to the newest; one between two regular checkpoints does
  /// not count as one of them.
  @Test func theBestStays() throws {
    #expect(try prunedBeside((10, false), keeping: 2) == ["10", "25", "30"])
    #expect(try prunedBeside((30, false), keeping: 2) == ["25", "30"])
    #expect(try prunedBeside((30, true), keeping: 2) == ["20", "25", "30"])
    #expect(try prunedBeside((30, true), superseded: (25, true), keeping: 2) == ["15", "20", "30"])
    #expect(try prunedBeside((30, false), superseded: (25, false), keeping: 2) == ["25", "30"])
    #expect(try prunedBeside((10, false), superseded: (25, true), keeping: 0).count == 5)
  }

  @Test func otherFilesStay() throws {
    #expect(try pruned(["00010", "mine", "00020"], keeping: 1, upTo: 20) == ["00020", "mine"])
  }

  @Test func statesOfEarlierVersionsAreNamed() throws {
    let path = scratch.file("state.safetensors")
    try writeSafetensors(
      [(key: "step", tensor: Tensor([3] as [Int64]))],
      metadata: ["format": "ltx training state 1", "step": "3"], to: path)
    #expect(message { _ = try TrainingState(path: path) }.contains("of an earlier version of ltx"))
  }
}
