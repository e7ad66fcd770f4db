import TensorFiles
import TestSupport
import Testing
import Torch

@testable import NN

/// Layers find their weights in slots, so that weights can be moved between calls.
@Suite struct WeightSlotTests {
  enum Storage: String, CaseIterable, Sendable {
    case dense, trained, float8, convRot, int8InMemory
  }

  private let scratch: ScratchFolder
  private let random: Generator

  init() throws {
    scratch = try ScratchFolder()
    random = try Generator(seed: 3)
  }

  private func weights(_ storage: Storage) throws -> Weights {
    let path = scratch.file("\(storage.rawValue).safetensors")
    let weight = try random.normal([24, 32])
    var tensors: [(key: String, tensor: Tensor)] = [("l.bias", try random.normal([24]))]
    switch storage {
    case .dense, .trained, .int8InMemory: tensors.append(("l.weight", weight))
    case .float8:
      tensors += [
        ("l.weight", try (weight * 100).to(.float8E4M3)),
        ("l.weight_scale", try Tensor([Float(0.01)], shape: [])),
      ]
    case .convRot:
      let (elements, scale) = try QuantizedFile.int8(QuantizedFile.rotated(weight, 16))
      tensors += [
        ("l.weight", elements), ("l.weight_scale", scale),
        ("l.comfy_quant", try QuantizedFile.bytes(QuantizedFile.convRot(16))),
      ]
    }
    try writeSafetensors(tensors, to: path)
    return Weights(
      try SafetensorsFile(path: path),
      LoadPolicy(
        dtype: .float32, trained: storage == .trained ? TrainedWeights(below: "l") : nil,
        storage: storage == .int8InMemory ? .int8 : .asStored))
  }

  @Test(arguments: Storage.allCases)
  func aLinearLayerReadsItsSlotsAtEveryCall(_ storage: Storage) throws {
    let root = try weights(storage)
    let layer = try Linear(root / "l")
    let slots = root.slots
    let isQuantized = ![.dense, .trained].contains(storage)
    #expect(
      Set(slots.map(\.key))
        == (isQuantized ? ["l.weight", "l.weight_scale", "l.bias"] : ["l.weight", "l.bias"]))
    #expect(slots.allSatisfy { $0.isTrained == (storage == .trained) })
    let x = try random.normal([3, 32])
    let before = try layer(x)
    for slot in slots {
      let (own, copy) = (slot.tensor, try slot.tensor.detach().clone())
      let other = try Tensor.ones(own.shape).to(own.dtype)
      slot.replace(with: slot.isTrained ? try other.asLeaf() : other)
      #expect(try !Tensor.isEqual(layer(x), before), "\(slot.key)")
      slot.replace(with: slot.isTrained ? try copy.asLeaf() : copy)
      #expect(slot.tensor !== own)
      #expect(try Tensor.isEqual(layer(x), before), "\(slot.key)")
    }
  }

  @Test func aNormReadsItsSlotAtEveryCall() throws {
    let path = scratch.file("norm.safetensors")
    try writeSafetensors([("n.weight", random.normal([32]))], to: path)
    let root = Weights(try SafetensorsFile(path: path), LoadPolicy(dtype: .float32))
    let norm = try RMSNorm(root / "n", width: 32, eps: 1e-6)
    let slot = try #require(root.slots.first)
    let x = try random.normal([3, 32])
    let (before, copy) = (try norm(x), try slot.tensor.clone())
    slot.replace(with: try .zeros([32]))
    #expect(try norm(x).abs().max().item() == 0)
    slot.replace(with: copy)
    #expect(try Tensor.isEqual(norm(x), before))
  }

  /// A view of a checkpoint must not keep the weights of layers that are gone in memory.
  @Test func aViewListsTheSlotsOfLayersThatStillExist() throws {
    let root = try weights(.dense)
    var layer: Linear? = try Linear(root / "l")
    #expect(root.slots.count == 2 && layer != nil)
    layer = nil
    #expect(root.slots.isEmpty)
  }

  @Test func aSlotAcceptsTheSameWeightOnly() async {
    await #expect(processExitsWith: .failure) {
      let slot = WeightSlot(key: "l.weight", tensor: try .ones([2, 3]))
      slot.replace(with: try .ones([3, 2]))
    }
    await #expect(processExitsWith: .failure) {
      let slot = WeightSlot(key: "l.weight", tensor: try Tensor.ones([2]).asLeaf())
      slot.replace(with: try .ones([2]))
    }
  }
}
