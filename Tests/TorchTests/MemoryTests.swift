import Foundation
import Testing
import Torch

/// The statistics cover the entire process, so these tests run in a separate process, one after
/// another.
@Suite(.serialized) struct MemoryTests {
  @Test func liveBytesRiseAndFallExactly() async throws {
    await #expect(processExitsWith: .success) {
      let start = try Device.cpu.memory().liveBytes
      var tensor: Tensor? = try Tensor.zeros([1000], dtype: .float64)
      #expect(try Device.cpu.memory().liveBytes == start + 8000)
      var view = try tensor?.narrow(0, 0, 10)
      tensor = nil
      #expect(try Device.cpu.memory().liveBytes == start + 8000, "a view keeps its storage")
      #expect(try view?.sum().item() == 0)
      view = nil
      #expect(try Device.cpu.memory().liveBytes == start)

      try Device.cpu.resetPeakMemory()
      do {
        let large = try Tensor.zeros([1 << 20], dtype: .uint8)
        #expect(large.count == 1 << 20)
      }
      let small = try Tensor.zeros([100], dtype: .uint8)
      let memory = try Device.cpu.memory()
      #expect(memory.liveBytes == start + 100)
      #expect(memory.peakBytes == start + 1 << 20)
      try Device.cpu.resetPeakMemory()
      #expect(try Device.cpu.memory().peakBytes == start + 100)
      withExtendedLifetime(small) {}
    }
  }

  @Test func failedOperationsLeakNothing() async throws {
    await #expect(processExitsWith: .success) {
      let a = try Tensor.zeros([2, 3])
      let start = try Device.cpu.memory().liveBytes
      for _ in 0..<1000 {
        do { _ = try (a * 2).matmul(a + 1) } catch let error as TorchError {
          #expect(error.kind == .shape)
        }
      }
      do { _ = try Tensor.empty([1 << 50]) } catch let error as TorchError {
        #expect(error.kind == .outOfMemory)
      }
      #expect(try Device.cpu.memory().liveBytes == start)
    }
  }

  @Test func graphsAreFreed() async throws {
    await #expect(processExitsWith: .success) {
      let x = try Tensor.ones([64, 64]).asLeaf()
      func step() throws { _ = try grad(of: [x.matmul(x).tanh().sum()], wrt: [x]) }
      try step()
      let start = try Device.cpu.memory().liveBytes
      for _ in 0..<20 { try step() }
      #expect(try Device.cpu.memory().liveBytes == start)
    }
  }

  @Test func manyThreadsKeepTheBooksRight() async throws {
    await #expect(processExitsWith: .success) {
      let start = try Device.cpu.memory().liveBytes
      DispatchQueue.concurrentPerform(iterations: 8) { thread in
        for round in 0..<300 {
          do {
            let tensor = try Tensor.full([100 + round], Scalar(thread))
            let sum = try tensor.sum().item()
            precondition(sum == Double(thread * (100 + round)))
          } catch {
            preconditionFailure("\(error)")
          }
        }
      }
      #expect(try Device.cpu.memory().liveBytes == start)
    }
  }

  @Test func viewsOfForeignMemoryReleaseTheirOwner() throws {
    let released = Flag()
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 16)
    defer { memory.deallocate() }
    memory.copyBytes(from: (0..<16).map(UInt8.init))
    var tensor: Tensor?
    do {
      let owner = Witness { released.set() }
      tensor = try .view(
        of: UnsafeRawBufferPointer(memory), dtype: .uint8, shape: [4, 4], owner: owner)
    }
    var row = try tensor?.select(0, 1)
    tensor = nil
    #expect(!released.isSet)
    #expect(try row?.array(of: UInt8.self) == [4, 5, 6, 7])
    row = nil
    #expect(released.isSet)

    let unused = Flag()
    #expect(throws: TorchError.self) {
      try Tensor.view(
        of: UnsafeRawBufferPointer(start: nil, count: 0), dtype: .uint8, shape: [1],
        owner: Witness { unused.set() })
    }
    #expect(unused.isSet, "a view that could not be made keeps nothing")
  }

  private final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false
    var isSet: Bool { lock.withLock { value } }
    func set() { lock.withLock { value = true } }
  }
}

@Suite struct RuntimeTests {
  @Test func theVersionIsTheOneWrittenFor() { #expect(LibTorch.version.hasPrefix("2.11.")) }

  /// Waiting threads leave the cores to other processes, unless the user chose otherwise.
  @Test func waitingThreadsSpinBriefly() throws {
    _ = try Tensor.ones([1])
    let value = { (name: String) in getenv(name).map { String(cString: $0) } }
    let policy = ProcessInfo.processInfo.environment["OMP_WAIT_POLICY"]
    #expect(value("GOMP_SPINCOUNT") == (policy == nil ? "1000" : nil))
  }

  @Test func threadCountsAreKept() async throws {
    await #expect(processExitsWith: .success) {
      Threads.count = 3
      #expect(Threads.count == 3)
      Threads.count = 0
      #expect(Threads.count == 1, "at least one")
      let sum = try Tensor.ones([100_000]).sum().item()
      #expect(sum == 100_000)
    }
  }

  @Test func theCUDAAllocatorGrowsItsSegmentsUnlessItIsConfigured() async throws {
    await #expect(processExitsWith: .success) {
      unsetenv("PYTORCH_ALLOC_CONF")
      unsetenv("PYTORCH_CUDA_ALLOC_CONF")
      do { try Device.cuda(0).prepare() } catch let error as TorchError {
        #expect(error.kind == .device)
      }
      #expect(environmentValue("PYTORCH_ALLOC_CONF") == "expandable_segments:True")
    }
    await #expect(processExitsWith: .success) {
      unsetenv("PYTORCH_ALLOC_CONF")
      setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128", 1)
      do { try Device.cuda(0).prepare() } catch let error as TorchError {
        #expect(error.kind == .device)
      }
      #expect(environmentValue("PYTORCH_ALLOC_CONF") == nil, "the user's setting counts")
    }
  }
}

/// The current value of a variable, which `ProcessInfo` may have read earlier.
private func environmentValue(_ name: String) -> String? {
  getenv(name).map { String(cString: $0) }
}
