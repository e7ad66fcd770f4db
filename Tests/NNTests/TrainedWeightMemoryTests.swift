import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@Suite struct TrainedWeightMemoryTests {
  /// A file's pages can't be written to: trained tensors have their own memory, even if nothing had
  /// to be converted.
  @Test func trainedWeightsAreNoPartOfTheFile() throws {
    let scratch = try ScratchFolder()
    let path = scratch.file("model.safetensors")
    try writeSafetensors([(key: "net.weight", tensor: .ones([2, 3]))], to: path)
    let file = try SafetensorsFile(path: path)
    let weights = Weights(
      file,
      LoadPolicy(
        dtype: .float32, trained: TrainedWeights(patterns: nil, below: "net", dtype: .float32)))
    let weight = try (weights / "net").tensor("weight")
    #expect(weight.requiresGrad)
    #expect(!weight.sharesStorage(with: try file.tensor("net.weight")))
    try withoutGrad { _ = try weight.copy_(.zeros([2, 3])) }
    #expect(try file.tensor("net.weight").sum().item() == 6)
    // Two views of a file are recognized as the same memory.
    #expect(try file.tensor("net.weight").sharesStorage(with: file.tensor("net.weight")))
  }
}
