import TensorFiles
import Testing
import Torch

/// Written files are read back. `Tests/Oracles/check_pt_files.py` checks that PyTorch reads them.
@Suite struct TorchFileWriterTests {
  @Test func everyTypeComesBack() throws {
    let scratch = try ScratchFolder()
    let tensors: [(String, Tensor)] = try [
      ("float32", Tensor([1.5, -2, 3, 4, 5, 6] as [Float], shape: [2, 3])),
      ("bfloat16", Tensor([1.5, -2] as [Float]).to(.bfloat16)), ("int64", Tensor([1 << 40, -7])),
      ("float64", Tensor([0.1])), ("uint8", Tensor([1, 2, 3] as [UInt8], shape: [3])),
      ("transposed", Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3]).transpose(0, 1)),
      ("empty", Tensor.zeros([0, 3])), ("scalar", Tensor.full([], 7)),
    ]
    let numbers: [(key: String, value: PickleValue)] = [
      ("small", .int(-3)), ("large", .int(1 << 50)), ("rate", .float(29.97002997002997)),
      ("text", .string("é\n")),
    ]
    let path = scratch("a.pt")
    let metadata = ["content": "x", "prompt": "\"quoted\"\nand é"]
    try writeTorchFile(tensors.map { ($0, .tensor($1)) } + numbers, metadata: metadata, to: path)

    let file = try TorchFile(path: path)
    for (key, wanted) in tensors {
      let found = try file.tensor(key)
      #expect(found.dtype == wanted.dtype && found.shape == wanted.shape, "\(key)")
      #expect(try bytes(found) == bytes(wanted), "\(key)")
    }
    #expect(file.root["small"]?.int == -3 && file.root["large"]?.int == 1 << 50)
    #expect(try file.number("rate") == 29.97002997002997)
    #expect(file.root["text"]?.string == "é\n")
    #expect(file.root.members?.count == tensors.count + numbers.count)
    #expect(try TorchFile.metadata(path: path) == metadata)
    #expect(try scratch.names() == ["a.pt"])
  }

  @Test func filesOfOthersHaveNoMetadata() throws {
    #expect(try TorchFile.metadata(path: PtFixtures.path("latents")) == [:])
  }

  @Test func unsupportedValuesAreNamed() throws {
    let scratch = try ScratchFolder()
    #expect(
      try failure { try writeTorchFile([("list", .list([]))], to: scratch("a.pt")) }?.kind
        == .wrongType)
    #expect(try scratch.names().isEmpty)
    #expect(
      try failure { try writeTorchFile([("a", .int(1))], to: scratch("none/a.pt")) }?.kind
        == .notWritten)
  }
}
