import Foundation
import TestSupport
import Testing

@testable import Training

@Suite struct RunFolderTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func pruned(_ steps: [String], keeping kept: Int, upTo step: Int) throws -> [String] {
    let folder = RunFolder(path: scratch.path, prefix: "lora")
    try folder.create()
    for step in steps { try scratch.write("", to: "checkpoints/lora_weights_step_\(step).safetensors") }
    try folder.prune(keeping: kept, upTo: step)
    return try FileManager.default.contentsOfDirectory(atPath: scratch.file("checkpoints")).sorted()
      .map { String($0.dropFirst("lora_weights_step_".count).dropLast(".safetensors".count)) }
  }

  /// Six digits come before five in the alphabet.
  @Test func theNewestByNumberStay() throws {
    #expect(try pruned(["00500", "99999", "100000"], keeping: 2, upTo: 100000) == ["100000", "99999"])
  }

  /// A run that was started over in the folder of a longer one keeps what it has just saved, and removes nothing of the
  /// other's.
  @Test func adaptersOfLaterStepsStay() throws {
    #expect(try pruned(["00010", "00020", "03000"], keeping: 1, upTo: 20) == ["00020", "03000"])
  }

  @Test func otherFilesStay() throws {
    #expect(try pruned(["00010", "mine", "00020"], keeping: 1, upTo: 20) == ["00020", "mine"])
  }
}
