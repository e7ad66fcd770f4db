import Torch

/// A storage that a pickle names. Its entry exists in the archive and has the expected number of
/// elements.
struct TorchStorage {
  let key: String
  /// The dtype; nil for an untyped storage, whose elements are bytes until a tensor gives their
  /// dtype.
  let dtype: DType?
  /// The byte range within the file.
  let range: Range<Int>
}

/// Creates tensors from the storages of a `.pt` file.
final class TorchStorages {
  /// The limit of copied bytes beyond the file's size. Tensors that can't be views of the file are
  /// copied, and a small file can ask for many copies of one storage, or for a large tensor that
  /// repeats one element.
  private static let extraCopies = 64 << 20

  let file: FileBytes
  private let archive: ZipArchive
  private let folder: String
  private var copyBudget: Int

  init(file: FileBytes, archive: ZipArchive, folder: String) {
    self.file = file
    self.archive = archive
    self.folder = folder
    copyBudget = file.bytes.count + Self.extraCopies
  }

  /// The storage of `count` elements, or of `count` bytes if it has no dtype.
  func storage(_ key: String, _ dtype: DType?, count: Int) throws(TensorFileError) -> TorchStorage {
    guard let entry = archive.entries[folder + "data/" + key] else {
      throw TensorFileError(
        .missingTensor, path: file.path, key: key, "the archive has no such storage")
    }
    guard count >= 0, let size = (dtype ?? .uint8).byteCount(of: [count]), size <= entry.count
    else {
      throw TensorFileError(
        .truncated, path: file.path, key: key,
        "the storage holds \(entry.count) bytes, too few for \(count) elements; fetch or make the file again"
      )
    }
    return TorchStorage(key: key, dtype: dtype, range: entry.lowerBound..<entry.lowerBound + size)
  }

  /// A tensor within a storage; `offset` and `strides` are counted in elements.
  func tensor(
    _ storage: TorchStorage, _ dtype: DType, shape: [Int], strides: [Int], offset: Int
  ) throws -> Tensor {
    func outOfBounds() -> TensorFileError {
      TensorFileError(
        .outOfBounds, path: file.path, key: storage.key,
        "a tensor of shape \(shape), strides \(strides) and offset \(offset) leaves its storage of "
          + "\(storage.range.count) bytes")
    }
    guard shape.count == strides.count, shape.count <= 64, offset >= 0,
      strides.allSatisfy({ $0 >= 0 }),
      let byteCount = dtype.byteCount(of: shape)
    else { throw outOfBounds() }
    guard byteCount > 0 else { return try .empty(shape, dtype: dtype) }

    // The last element that the tensor reaches.
    var last = offset
    for (length, stride) in zip(shape, strides) {
      let (step, tooLarge) = stride.multipliedReportingOverflow(by: length - 1)
      let (sum, stillTooLarge) = last.addingReportingOverflow(step)
      guard !tooLarge, !stillTooLarge else { throw outOfBounds() }
      last = sum
    }
    guard last < storage.range.count / dtype.size else { throw outOfBounds() }

    let start = storage.range.lowerBound + offset * dtype.size
    let address = UInt(bitPattern: file.bytes.baseAddress) + UInt(start)
    let isContiguous = isDense(shape, strides)
    if !isContiguous || address % UInt(dtype.size) != 0 || dtype == .bool {
      copyBudget -= byteCount
      guard copyBudget >= 0 else {
        throw TensorFileError(
          .limit, path: file.path, key: storage.key,
          "the file's repeated tensors take more than \(Self.extraCopies >> 20) MB; save each tensor once"
        )
      }
    }
    guard !isContiguous else { return try file.tensor(dtype, shape, at: start..<start + byteCount) }
    let elements = gather(
      start: start, elementSize: dtype.size, shape: shape, strides: strides, byteCount)
    let copy = elements.withUnsafeBytes { FileBytes(name: file.path, copying: $0) }
    return try copy.tensor(dtype, shape, at: 0..<byteCount)
  }

  /// Whether the elements are contiguous. The stride of a dimension of size 1 doesn't matter.
  private func isDense(_ shape: [Int], _ strides: [Int]) -> Bool {
    var expected = 1
    for (length, stride) in zip(shape, strides).reversed() where length != 1 {
      guard stride == expected else { return false }
      expected *= length
    }
    return true
  }

  /// Copies the elements in order. The caller has checked that all of them are within the file.
  private func gather(
    start: Int, elementSize: Int, shape: [Int], strides: [Int], _ byteCount: Int
  ) -> [UInt8] {
    let runLength = shape.last ?? 1
    let runStride = (strides.last ?? 1) * elementSize
    var index = [Int](repeating: 0, count: max(shape.count - 1, 0))
    return [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, filled in
      let target = UnsafeMutableRawBufferPointer(buffer)
      while filled < byteCount {
        var place = start
        for (position, stride) in zip(index, strides) { place += position * stride * elementSize }
        if runStride == elementSize {
          let run = file.bytes[place..<place + runLength * elementSize]
          UnsafeMutableRawBufferPointer(rebasing: target[filled...]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: run))
          filled += run.count
        } else {
          for _ in 0..<runLength {
            for byte in 0..<elementSize { target[filled + byte] = file.bytes[place + byte] }
            filled += elementSize
            place += runStride
          }
        }
        var dimension = index.count - 1  // step to the next run, the last dimension fastest
        while dimension >= 0 {
          index[dimension] += 1
          if index[dimension] < shape[dimension] { break }
          index[dimension] = 0
          dimension -= 1
        }
      }
    }
  }
}
