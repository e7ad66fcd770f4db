import BlockExecution
import Foundation
import LTX
import NN
import TestSupport
import Testing
import Torch
import Training

/// On the CPU, streamed weights are pages of the file that leave the process's memory after use.
@Suite struct PagedWeightsTests {
  /// The bytes of a mapped file that are in this process's memory.
  private static func residentBytes(of path: String) throws -> Int {
    let handle = try #require(FileHandle(forReadingAtPath: "/proc/self/smaps"))
    let maps = String(decoding: try handle.readToEnd() ?? Data(), as: UTF8.self)
    var (isOwn, total) = (false, 0)
    for line in maps.split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.first?.contains("-") == true { isOwn = words.last.map(String.init) == path }
      if isOwn, words.first == "Rss:", words.count > 1 { total += (Int(words[1]) ?? 0) * 1024 }
    }
    return total
  }

  /// In a process of its own, because other tests map files too.
  @Test func onlyTheBlocksInUseAreInMemory() async {
    await #expect(processExitsWith: .success) {
      let folder = try ScratchFolder()
      let path =
        URL(fileURLWithPath: folder.path).resolvingSymlinksInPath().path
        + "/model.safetensors"
      var model = TinyTransformer()
      (model.blocks, model.headWidth, model.audioHeadWidth) = (8, 128, 64)
      try model.write(to: path, seed: 1)
      let generator = try Generator(seed: 2)
      func example(_ channels: Int, axes: Int) throws -> ModalityExample {
        let sigma = try generator.uniform([1])
        return try ModalityExample(
          input: ModalityInput(
            latent: generator.normal([1, 6, channels]), timesteps: sigma.unsqueeze(1), sigma: sigma,
            positions: generator.uniform([1, axes, 6, 2]),
            context: generator.normal([1, 5, model.captionWidth])),
          target: generator.normal([1, 6, channels]), lossMask: .ones([1, 6]))
      }
      let batch = try TrainingExample(
        video: example(model.videoChannels, axes: 3), audio: example(model.audioChannels, axes: 1))
      /// The bytes of the blocks, and those in memory after a step.
      func run(_ placements: WeightPlacements) throws -> (blocks: Int, resident: Int) {
        let checkpoint = try Checkpoint(path: path)
        let policy = LoadPolicy(
          dtype: .bfloat16,
          freshAdapters: FreshAdapters(
            targets: ["to_q"], rank: 4, alpha: 4, generator: try Generator(seed: 3)),
          placements: placements)
        let sizes = try checkpoint.transformerSizes(policy)
        checkpoint.source.keys.forEach(checkpoint.source.release)
        let transformer = try checkpoint.transformer(policy)
        let plan = ExecutionPlan(
          blocks: model.blocks, activations: .recompute, autocast: .bfloat16)
        let step = TrainingStep(transformer: transformer, plan: plan)
        #expect(try step(batch).gradients.count == 2 * 6 * model.blocks)
        // The file is mapped as long as the transformer exists.
        let resident = try withExtendedLifetime(transformer) {
          try PagedWeightsTests.residentBytes(of: path)
        }
        return (sizes.blockBytes.reduce(0, +), resident)
      }
      let all = try run(.all(.resident))
      #expect(all.blocks > 40_000_000)
      #expect(all.resident > all.blocks * 9 / 10, "\(all)")
      // Two of eight blocks, and the weights outside of them.
      let paged = try run(.all(.file))
      #expect(paged.resident < all.blocks / 2, "\(paged)")
      #expect(paged.resident > 0, "\(paged)")
    }
  }
}
