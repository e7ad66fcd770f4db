import Foundation
import Testing
import Torch

/// The `TorchError` that `body` must throw.
func torchFailure(_ body: () throws -> Void) throws -> TorchError {
  let error = #expect(throws: TorchError.self, performing: body)
  return try #require(error)
}

@Suite struct TorchErrorTests {
  let matrix: Tensor
  let floats: Tensor
  let longs: Tensor

  init() throws {
    matrix = try .zeros([2, 3])
    floats = try .zeros([4])
    longs = try .zeros([4], dtype: .int64)
  }

  private func expect(
    _ kind: TorchError.Kind, _ operation: String, location: SourceLocation = #_sourceLocation,
    _ body: () throws -> Void
  ) throws {
    let error = try torchFailure(body)
    #expect(error.kind == kind, "\(error)", sourceLocation: location)
    #expect(error.operation.hasPrefix(operation), "\(error)", sourceLocation: location)
    #expect(!error.message.isEmpty, sourceLocation: location)
    #expect(!error.message.contains("frame #"), "the backtrace stays out", sourceLocation: location)
    #expect(
      !error.message.contains("registered at"), "so does the list of kernels",
      sourceLocation: location)
  }

  @Test func shapes() throws {
    try expect(.shape, "matmul") { _ = try matrix.matmul(matrix) }
    try expect(.shape, "matmul") { _ = try floats.matmul(Tensor.zeros([3])) }
    try expect(.shape, "matmul") {
      _ = try Tensor.zeros([2, 2, 3]).matmul(Tensor.zeros([3, 3, 2]))
    }
    try expect(.shape, "linear") { _ = try matrix.linear(Tensor.zeros([5, 4])) }
    try expect(.shape, "add") { _ = try matrix + floats }
    try expect(.shape, "add_") { try floats.add_(matrix) }
    try expect(.shape, "reshape") { _ = try matrix.reshape([4]) }
    try expect(.shape, "reshape") { _ = try matrix.reshape([-1, 4]) }
    try expect(.shape, "expand") { _ = try matrix.expand([2, 5]) }
    try expect(.shape, "permute") { _ = try matrix.permute([0]) }
    try expect(.shape, "permute") { _ = try matrix.permute([0, 0]) }
    try expect(.shape, "transpose") { _ = try matrix.transpose(0, 2) }
    try expect(.shape, "select") { _ = try matrix.select(0, 2) }
    try expect(.shape, "select") { _ = try matrix.select(5, 0) }
    try expect(.shape, "narrow") { _ = try matrix.narrow(1, 2, 2) }
    try expect(.shape, "index_select") { _ = try floats.indexSelect(0, Tensor([9] as [Int])) }
    try expect(.shape, "gather") { _ = try floats.gather(0, Tensor([4] as [Int])) }
    try expect(.shape, "embedding") { _ = try Tensor.embedding(matrix, Tensor([2] as [Int])) }
    try expect(.shape, "cat") { _ = try Tensor.cat([matrix, floats.reshape([2, 2])]) }
    try expect(.shape, "stack") { _ = try Tensor.stack([matrix, floats]) }
    try expect(.shape, "split") { _ = try floats.split(sizes: [1, 2]) }
    try expect(.shape, "sum") { _ = try matrix.sum([2]) }
    try expect(.shape, "softmax") { _ = try matrix.softmax(2) }
    try expect(.shape, "layer_norm") { _ = try matrix.layerNorm([4]) }
    try expect(.shape, "rms_norm") { _ = try matrix.rmsNorm([4]) }
    try expect(.shape, "group_norm") { _ = try matrix.groupNorm(2) }
    try expect(.shape, "conv2d") {
      _ = try Tensor.zeros([1, 3, 4, 4]).conv2d(Tensor.zeros([2, 4, 1, 1]))
    }
    try expect(.shape, "conv3d") { _ = try matrix.conv3d(Tensor.zeros([2, 4, 1, 1, 1])) }
    try expect(.shape, "scaled_dot_product_attention") {
      _ = try Tensor.scaledDotProductAttention(
        Tensor.zeros([1, 1, 2, 4]), Tensor.zeros([1, 1, 2, 3]), Tensor.zeros([1, 1, 2, 3]))
    }
    try expect(.shape, "item") { _ = try matrix.item() }
    try expect(.shape, "copy_") { try floats.copy_(Tensor.zeros([3])) }
    try expect(.shape, "data") { _ = try matrix.transpose(0, 1).withUnsafeBytes { $0.count } }
    try expect(.shape, "empty") { _ = try Tensor.empty([-1]) }
    try expect(.shape, "empty") { _ = try Tensor.empty([1 << 40, 1 << 40]) }
    try expect(.shape, "copy_to") {
      var bytes = [UInt8](repeating: 0, count: 3)
      try bytes.withUnsafeMutableBytes { try floats.copyBytes(to: $0) }
    }
  }

  @Test func elementTypes() throws {
    try expect(.dtype, "matmul") { _ = try matrix.matmul(Tensor.zeros([3, 2], dtype: .float64)) }
    try expect(.dtype, "linear") { _ = try matrix.linear(Tensor.zeros([5, 3], dtype: .bfloat16)) }
    try expect(.dtype, "add_") { try longs.add_(floats) }
    try expect(.dtype, "index_select") { _ = try floats.indexSelect(0, floats) }
    try expect(.dtype, "gather") { _ = try floats.gather(0, floats) }
    try expect(.dtype, "embedding") { _ = try Tensor.embedding(matrix, floats) }
    try expect(.dtype, "mean") { _ = try longs.mean() }
    try expect(.dtype, "softmax") { _ = try longs.softmax(0) }
    try expect(.dtype, "layer_norm") { _ = try longs.layerNorm([4]) }
    try expect(.dtype, "masked_fill") { _ = try floats.maskedFill(longs, 0) }
    try expect(.dtype, "where") { _ = try Tensor.select(where: floats, floats, else: floats) }
    try expect(.dtype, "add") {
      let eights = try floats.to(.float8E4M3)
      _ = try eights + eights
    }
    try expect(.dtype, "requires_grad") { _ = try longs.asLeaf() }
    try expect(.dtype, "conv2d") {
      _ = try Tensor.zeros([1, 3, 4, 4]).conv2d(Tensor.zeros([2, 3, 1, 1], dtype: .float64))
    }
    try expect(.dtype, "scaled_dot_product_attention") {
      let query = try Tensor.zeros([1, 1, 2, 4])
      _ = try Tensor.scaledDotProductAttention(query, query.to(.float64), query.to(.float64))
    }
  }

  @Test func outOfMemoryLeavesEverythingUsable() throws {
    let before = try Device.cpu.memory().liveBytes
    for _ in 0..<3 {
      try expect(.outOfMemory, "empty") { _ = try Tensor.empty([1 << 50], dtype: .uint8) }
      try expect(.outOfMemory, "full") { _ = try Tensor.zeros([1 << 47], dtype: .float64) }
      try expect(.outOfMemory, "contiguous") {
        _ = try Tensor.scalar(1).expand([1 << 48]).contiguous()
      }
    }
    #expect(
      try Device.cpu.memory().liveBytes - before < 1 << 30, "what was not allocated is not counted")
    #expect(try Tensor.ones([1000]).sum().item() == 1000)
  }

  @Test func devices() throws {
    #expect(try Device("cpu") == .cpu)
    #expect(try Device("cuda") == .cuda(0))
    #expect(try Device("cuda:7") == .cuda(7))
    for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:999", "cpu:0", "cuda:0:0"] {
      try expect(.device, "device") { _ = try Device(text) }
    }
    try expect(.device, "") { try Device.cuda(127).prepare() }
    try expect(.device, "") { _ = try Generator(seed: 0, device: .cuda(127)) }
  }

  @Test func withoutAGPUNothingCanGoThere() throws {
    do {
      try Device.cuda(0).prepare()
    } catch let error as TorchError {
      #expect(error.kind == .device)
      try expect(.device, "empty") { _ = try Tensor.empty([1], device: .cuda(0)) }
      try expect(.device, "to") { _ = try floats.to(.cuda(0)) }
      try expect(.device, "memory") { _ = try Device.cuda(0).memory() }
    }
  }

  /// libtorch keeps its devices for the life of a process, so this one is a process of its own. With
  /// a libtorch for CPUs, CUDA is not installed; with one for CUDA, it is loaded too late.
  @Test func aGPUThatIsPreparedTooLateIsAnErrorWithAMend() async throws {
    await #expect(processExitsWith: .success) {
      _ = try Tensor.zeros([1, 3, 4, 4]).conv2d(Tensor.zeros([2, 3, 1, 1]))
      let error = try torchFailure { try Device.cuda(0).prepare() }
      #expect(error.kind == .device, "\(error)")
      #expect(
        error.message.contains("Scripts/bootstrap --cuda")
          || error.message.contains("before the first operation"), "\(error)")
    }
  }

  @Test func threadsGetTheirOwnMessages() throws {
    let failures = Failures()
    DispatchQueue.concurrentPerform(iterations: 16) { thread in
      do {
        for round in 0..<200 {
          let size = 10 + thread * 100 + round % 50
          let tensor = try Tensor.zeros([size])
          do {
            _ = try tensor.reshape([size + 1])
            failures.add("no error")
          } catch let error as TorchError {
            if !error.message.contains("\(size)") || error.kind != .shape {
              failures.add("\(size): \(error)")
            }
          }
          if round % 2 == 0 {
            do {
              _ = try tensor.matmul(Tensor.zeros([size], dtype: .float64))
              failures.add("no error")
            } catch let error as TorchError {
              if error.operation != "matmul" || error.kind != .dtype { failures.add("\(error)") }
            }
          }
        }
      } catch {
        failures.add("\(error)")
      }
    }
    #expect(failures.all == [])
  }

  private final class Failures: @unchecked Sendable {
    private let lock = NSLock()
    private var messages: [String] = []
    var all: [String] { lock.withLock { messages } }
    func add(_ message: String) { lock.withLock { messages.append(message) } }
  }
}
