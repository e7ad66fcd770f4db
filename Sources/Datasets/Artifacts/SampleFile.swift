import Support
import TensorFiles
import Torch

/// A file of a sample in either format. Reading names, shapes, numbers and bytes of a safetensors
/// file runs no tensor operation and so does not load libtorch. Unpickling a `.pt` file does.
public struct SampleFile: Sendable {
  /// The shape and dtype of a tensor.
  struct Array: Sendable {
    let shape: [Int]
    let dtype: DType
  }

  private enum Content: Sendable {
    case safetensors(SafetensorsFile)
    case torch(TorchFile)
  }

  public let path: String
  /// The record of the file's inputs; empty in files of the official trainer.
  public let metadata: [String: String]
  /// The tensors by name, without the Python numbers of a `.pt` file.
  let arrays: [String: Array]
  private let content: Content

  /// - Throws: `TensorFileError` for a file that can't be read.
  public init(path: String) throws {
    self.path = path
    if path.hasSuffix(".pt") {
      let file = try TorchFile(path: path)
      metadata = try TorchFile.metadata(path: path)
      var arrays: [String: Array] = [:]
      for (key, value) in file.root.members ?? [] {
        if let name = key.string, let tensor = value.tensor {
          arrays[name] = Array(shape: tensor.shape, dtype: tensor.dtype)
        }
      }
      self.arrays = arrays
      content = .torch(file)
    } else {
      let file = try SafetensorsFile(path: path)
      metadata = file.metadata
      arrays = file.entries.mapValues { Array(shape: $0.shape, dtype: $0.dtype) }
      content = .safetensors(file)
    }
  }

  public func has(_ key: String) -> Bool {
    if arrays[key] != nil { return true }
    guard case .torch(let file) = content else { return false }
    return file.root[key].map { !$0.isNone } ?? false
  }

  /// The names of all tensors, in alphabetical order.
  public var tensorNames: [String] { arrays.keys.sorted() }

  public func tensor(_ key: String) throws -> Tensor {
    guard has(key) else { throw missing(key) }
    switch content {
    case .safetensors(let file): return try file.tensor(key)
    case .torch(let file): return try file.tensor(key)
    }
  }

  public func tensorShape(_ key: String) throws -> [Int] {
    guard let array = arrays[key] else { throw missing(key) }
    return array.shape
  }

  /// Returns a number stored as a one-element tensor or, in `.pt`, as a Python number; nil if it is
  /// missing.
  ///
  /// - Throws: `Issue` for a tensor of several elements.
  public func number(_ key: String) throws -> Double? {
    guard let array = arrays[key] else {
      guard case .torch(let file) = content, has(key) else { return nil }
      return try file.number(key)
    }
    guard array.shape.reduce(1, *) == 1 else {
      throw Issue([.file(path)], "\(key) must be one number (got shape \(array.shape))")
    }
    return try withBytes(of: key) { bytes in
      switch array.dtype {
      case .int64: Double(bytes.loadUnaligned(as: Int64.self))
      case .int32: Double(bytes.loadUnaligned(as: Int32.self))
      case .float64: bytes.loadUnaligned(as: Double.self)
      case .float32: Double(bytes.loadUnaligned(as: Float.self))
      default: try tensor(key).to(.float64).item()
      }
    }
  }

  /// Calls the closure with the bytes of a tensor's elements in order.
  func withBytes<R>(of key: String, _ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    switch content {
    case .safetensors(let file): try file.withUnsafeBytes(of: key, body)
    case .torch(let file): try file.tensor(key).contiguous().withUnsafeBytes(body)
    }
  }

  /// Returns the number of nonzero elements of a mask.
  func count(nonZeroIn key: String) throws -> Int {
    guard let array = arrays[key] else { return 0 }
    let size = array.dtype.size
    return try withBytes(of: key) { bytes in
      stride(from: 0, to: bytes.count, by: size).count { start in
        bytes[start..<start + size].contains { $0 != 0 }
      }
    }
  }

  private func missing(_ key: String) -> Issue {
    Issue([.file(path)], "\(key) is missing")
  }
}
