import BlockExecution
import LTX
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

/// A plan can move all weights of a block between calls, because the block lists them.
@Suite struct BlockWeightsTests {
  @Test(arguments: ["ltx2_transformer", "ltx23_transformer"])
  func aBlockListsEveryTensorOfItsScope(_ model: String) throws {
    let checkpoint = try Checkpoint(path: Fixtures.model(model))
    for policy in [
      LoadPolicy(), LoadPolicy(dtype: .bfloat16), LoadPolicy(trained: .transformer(["attn1"])),
      LoadPolicy(dtype: .float32, storage: .int8),
    ] {
      let transformer = try checkpoint.transformer(policy)
      for (index, block) in transformer.blocks.blocks.enumerated() {
        let scope = "\(Checkpoint.Prefix.transformer).transformer_blocks.\(index)."
        let keys = checkpoint.source.keys.filter { $0.hasPrefix(scope) }
        let listed = block.weights.map(\.key).filter { !$0.hasSuffix(".weight_scale") }
        #expect(!keys.isEmpty && listed.sorted() == keys)
        #expect(
          Set(block.weights.filter(\.isTrained).map(\.key)) == Set(block.parameters.map(\.key)))
      }
    }
  }

  @Test(arguments: [nil] + BaseQuantization.supported.map(Optional.some))
  func weightsThatWereMovedAwayAndBackGiveTheSameNumbers(_ base: BaseQuantization?) throws {
    let transformer = try LoRAFixture.checkpoint().transformer(
      LoadPolicy(dtype: .float32, storage: base?.storage() ?? .asStored))
    let before = try LoRAFixture.velocity(transformer)
    for block in transformer.blocks.blocks {
      let away = try block.weights.map { try $0.tensor.clone() }
      for slot in block.weights {
        slot.replace(with: try .zeros(slot.tensor.shape, dtype: slot.tensor.dtype))
      }
      #expect(try !Tensor.isEqual(LoRAFixture.velocity(transformer), before))
      for (slot, tensor) in zip(block.weights, away) { slot.replace(with: tensor) }
      #expect(try Tensor.isEqual(LoRAFixture.velocity(transformer), before))
    }
  }

  /// The leaves that training changes are the tensors in the slots.
  @Test func trainedWeightsInSlotsAreTheParameters() throws {
    let transformer = try LoRAFixture.checkpoint().transformer(
      LoadPolicy(dtype: .float32, trained: .transformer(["attn1"])))
    for block in transformer.blocks.blocks {
      let parameters = Dictionary(
        uniqueKeysWithValues: block.parameters.map { ($0.key, $0.tensor) })
      let trained = block.weights.filter(\.isTrained)
      #expect(!trained.isEmpty && trained.count == parameters.count)
      #expect(trained.allSatisfy { $0.tensor === parameters[$0.key] })
    }
  }
}
