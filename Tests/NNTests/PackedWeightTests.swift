import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import NN

/// Weights that are quantized to 4 and 2 bits in memory, against optimum-quanto and bitsandbytes.
@Suite struct PackedWeightTests {
  private static let shapes = [
    "6x256", "5x288", "3x320", "6x160", "6x130", "5x70", "3x5",
  ]
  private static let dtypes = ["float32", "bfloat16"]

  private static func fixture(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: "\(Fixtures.root)/packed/\(name).safetensors")
  }

  private func storage(_ kind: String) -> WeightStorage {
    switch kind {
    case "int4": .quanto(bits: 4, excluding: { _ in false })
    case "int2": .quanto(bits: 2, excluding: { _ in false })
    default: .normalFloat(excluding: { _ in false })
    }
  }

  /// Codes, scales and shifts match bit for bit, and so do the dequantized values.
  @Test(arguments: [4, 2], dtypes)
  func groupsAreThoseOfQuanto(bits: Int, dtype: String) throws {
    let file = try Self.fixture("quanto")
    for shape in Self.shapes {
      let name = "int\(bits)_\(dtype)_\(shape)"
      let weight = try file.tensor("\(name).weight")
      // The smallest piece has one group.
      for piece in [nil, 1, 1000] {
        let quantized = try AffineQuantizer(bits: bits, elementsAtOnce: piece).quantize(weight)
        let matrix = quantized.matrix
        guard case .planar(bits, let shifts) = matrix.coding else {
          Issue.record("\(matrix.coding)")
          return
        }
        #expect(try Tensor.isEqual(matrix.codes, file.tensor("\(name).codes")), "\(name)")
        #expect(
          try Tensor.isEqual(matrix.scales.flatten(), file.tensor("\(name).scale")), "\(name)")
        #expect(try Tensor.isEqual(shifts.flatten(), file.tensor("\(name).shift")), "\(name)")
        #expect(
          try Tensor.isEqual(quantized.dequantized(), file.tensor("\(name).dense")), "\(name)")
      }
    }
  }

  @Test(arguments: dtypes)
  func blocksAreThoseOfBitsandbytes(dtype: String) throws {
    let file = try Self.fixture("nf4")
    for shape in Self.shapes {
      let name = "nf4_\(dtype)_\(shape)"
      let weight = try file.tensor("\(name).weight")
      for piece in [nil, 1, 1000] {
        let quantized = try NormalFloatQuantizer(elementsAtOnce: piece).quantize(
          weight, key: "weight")
        #expect(
          try Tensor.isEqual(quantized.matrix.codes, file.tensor("\(name).codes")), "\(name)")
        #expect(
          try Tensor.isEqual(quantized.matrix.scales, file.tensor("\(name).absmax")), "\(name)")
        #expect(
          try Tensor.isEqual(quantized.dequantized(), file.tensor("\(name).dense")), "\(name)")
      }
    }
  }

  @Test func groupSizesFollowQuantosRule() {
    for (inputs, group) in [
      (4096, 128), (128, 128), (160, 32), (192, 96), (288, 96), (320, 64), (130, 130), (70, 70),
      (1, 1),
    ] {
      #expect(AffineQuantizer.group(inputs: inputs) == group, "\(inputs)")
    }
  }

  /// Rows in pieces of any size give the same int8 and float8.
  @Test func piecesChangeNoValueOfRows() throws {
    let weight = try Generator(seed: 3).normal([37, 50]).to(.bfloat16)
    for type in [DType.int8, .float8E4M3] {
      for arithmetic in [DType.float32, nil] {
        var quantizer = RowQuantizer(elementType: type, arithmetic: arithmetic)
        let whole = try quantizer.quantize(weight, key: "weight")
        quantizer.elementsAtOnce = 120
        let parts = try quantizer.quantize(weight, key: "weight")
        #expect(
          try Tensor.isEqual(
            whole.elements.to(.float32), parts.elements.to(.float32)))
        #expect(try Tensor.isEqual(#require(whole.scale), #require(parts.scale)))
      }
    }
    #expect(QuantizationPiece.elements(on: .cuda(0)) > 32 * QuantizationPiece.elements(on: .cpu))
  }

  /// The output and the gradient of the inputs, under every combination that changes the code path.
  @Test(arguments: ["int4", "int2", "nf4"], dtypes)
  func layersMultiplyByTheLibrarysValues(_ kind: String, dtype: String) throws {
    let recorded = try Self.fixture(kind == "nf4" ? "nf4" : "quanto")
    let scratch = try ScratchFolder()
    for shape in Self.shapes {
      let name = "\(kind)_\(dtype)_\(shape)"
      let weight = try recorded.tensor("\(name).weight")
      let path = scratch.file("\(name).safetensors")
      try writeSafetensors([("l.weight", weight)], to: path)
      let root = Weights(
        try SafetensorsFile(path: path), LoadPolicy(dtype: weight.dtype, storage: storage(kind)))
      let layer = try Linear(root / "l", bias: false)
      #expect(layer.dtype == weight.dtype && [layer.outputs, layer.inputs] == weight.shape)
      #expect(root.slots.count == 3)
      let x = try recorded.tensor("\(name).x").clone().asLeaf()
      let y = try layer(x)
      let gradient = try #require(
        try grad(of: [y], wrt: [x], gradOutputs: [recorded.tensor("\(name).dy")])[0])
      let tolerance = dtype == "float32" ? 1e-6 : 0x1p-7
      try expectEqual(y, recorded.tensor("\(name).y"), within: tolerance, name)
      try expectEqual(gradient, recorded.tensor("\(name).grad.x"), within: tolerance, name)
    }
  }

  /// A trained bias beside a packed weight, and adapters on it.
  @Test(arguments: ["int4", "int2", "nf4"])
  func adaptersAndBiasesAreDifferentiated(_ kind: String) throws {
    let random = try Generator(seed: 5)
    let scratch = try ScratchFolder()
    let path = scratch.file("layer.safetensors")
    let (weight, bias) = (try random.normal([24, 160]), try random.normal([24]))
    try writeSafetensors([("l.weight", weight), ("l.bias", bias)], to: path)
    let file = try SafetensorsFile(path: path)
    var adapters = AdapterSet()
    let (down, up) = (
      try random.normal([4, 160]).asLeaf(), try random.normal([24, 4]).asLeaf()
    )
    adapters.add(LoRAAdapter(down: down, up: up, scale: 0.7), to: "l")
    let layer = try Linear(
      Weights(
        file, LoadPolicy(dtype: .float32, adapters: adapters, storage: storage(kind))) / "l")
    let x = try random.normal([3, 160]).asLeaf()
    let y = try layer(x)
    let dense = try layer.weight
    let wanted = try x.linear(dense, bias) + x.linear(down).linear(up) * 0.7
    try expectEqual(y, wanted, within: 1e-5, "y")
    let dy = try random.normal([3, 24])
    for (found, want) in zip(
      try grad(of: [y], wrt: [x, down, up], gradOutputs: [dy]),
      try grad(of: [wanted], wrt: [x, down, up], gradOutputs: [dy]))
    {
      try expectEqual(#require(found), #require(want), within: 1e-5, "gradient")
    }
    let matrix = try AffineQuantizer(bits: 4).quantize(weight).matrix
    let leaf = try bias.clone().asLeaf()
    let sum = try x.linear(packed: matrix, leaf)
    try expectEqual(
      #require(try grad(of: [sum], wrt: [leaf], gradOutputs: [dy])[0]), dy.sum([0]),
      within: 1e-6, "bias")
  }

  /// Tensors that don't fit the sizes are an error and not a read past their end.
  @Test func aMatrixWhoseTensorsDontFitIsAnError() throws {
    let random = try Generator(seed: 6)
    let matrix = try NormalFloatQuantizer().quantize(random.normal([8, 64]), key: "w").matrix
    for (rows, group) in [(9, 64), (8, 32), (8, 0), (-8, 64)] {
      let wrong = PackedMatrix(
        codes: matrix.codes, scales: matrix.scales, coding: matrix.coding, rows: rows, columns: 64,
        group: group, dtype: .float32)
      #expect(throws: TorchError.self, "\(rows) \(group)") { try wrong.dequantized() }
    }
  }

  /// Memory is measured for the entire process, so this runs in a separate one.
  @Test func onlyPackedBytesStayAndALayersPeakIsItsOwn() async throws {
    await #expect(processExitsWith: .success) {
      let (outputs, inputs, layers) = (512, 1024, 12)
      let path = FileManager.default.temporaryDirectory.appendingPathComponent(
        "\(UUID()).safetensors"
      ).path
      let random = try Generator(seed: 1)
      try writeSafetensors(
        (0..<layers).map {
          ("l\($0).weight", try random.normal([outputs, inputs]).to(.bfloat16))
        }, to: path)
      let elements = outputs * inputs
      for (storage, bytes) in [
        // Codes, and a scale and a shift in float32 for each 128.
        (
          WeightStorage.quanto(bits: 4, excluding: { _ in false }),
          elements / 2 + elements / 128 * 8
        ),
        (
          WeightStorage.quanto(bits: 2, excluding: { _ in false }),
          elements / 4 + elements / 128 * 8
        ),
        (
          WeightStorage.normalFloat(excluding: { _ in false }),
          elements / 2 + elements / 64 * 4 + 2048
        ),
      ] {
        let file = ReleasedPages(try SafetensorsFile(path: path))
        let x = try random.normal([1, 4, inputs]).asLeaf()
        let before = try Device.cpu.memory().liveBytes
        try Device.cpu.resetPeakMemory()
        let root = Weights(file, LoadPolicy(dtype: .float32, storage: storage))
        let built = try (0..<layers).map { try Linear(root / "l\($0)", bias: false) }
        let memory = try Device.cpu.memory()
        #expect(memory.liveBytes - before == layers * bytes)
        #expect(
          storage.byteCount(
            path: "l0", shape: [outputs, inputs], stored: .bfloat16, dtype: .float32) == bytes)
        // One weight in float32, its codes, and intermediate results of a piece.
        #expect(memory.peakBytes - before < layers * bytes + 5 * elements + (8 << 20))
        #expect(file.largestUnreleased.value == 1)
        let y = try built[0](x)
        let run = try Device.cpu.memory().liveBytes
        #expect(run - memory.liveBytes < 64 * outputs, "the graph holds no dense matrix")
        #expect(try grad(of: [y], wrt: [x], gradOutputs: [Tensor.ones(y.shape)])[0] != nil)
      }
      try FileManager.default.removeItem(atPath: path)
    }
  }

  private func expectEqual(
    _ got: Tensor, _ want: Tensor, within tolerance: Double, _ name: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    #expect(got.shape == want.shape, "\(name)", sourceLocation: sourceLocation)
    let largest = try want.to(.float64).abs().max().item()
    let error = try (got.to(.float64) - want.to(.float64)).abs().max().item()
    #expect(error <= tolerance * largest, "\(name)", sourceLocation: sourceLocation)
  }
}

/// A file that counts the weights whose pages have been read and not released.
private final class ReleasedPages: TensorSource {
  final class Count: @unchecked Sendable {
    var value = 0
  }

  private let base: SafetensorsFile
  private nonisolated(unsafe) var open: Set<String> = []
  let largestUnreleased = Count()

  init(_ base: SafetensorsFile) { self.base = base }

  var name: String { base.name }
  var metadata: [String: String] { base.metadata }
  var entries: [String: TensorEntry] { base.entries }

  func tensor(_ key: String) throws -> Tensor {
    open.insert(key)
    largestUnreleased.value = max(largestUnreleased.value, open.count)
    return try base.tensor(key)
  }

  func prepareToRead(_ key: String) { base.prepareToRead(key) }

  func release(_ key: String) {
    open.remove(key)
    base.release(key)
  }

  func file(of key: String) -> String { base.file(of: key) }
}
