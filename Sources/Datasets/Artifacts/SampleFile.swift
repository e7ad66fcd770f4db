import TensorFiles
import Torch

/// What is wrong with a preprocessed dataset.
public struct DatasetError: Error, CustomStringConvertible, Sendable {
  public let path: String
  public let problem: String

  public init(path: String, problem: String) {
    self.path = path
    self.problem = problem
  }

  public var description: String { "\(path): \(problem)" }
}

/// A file of a sample in either format. Looking at names, shapes, numbers and bytes of a
/// safetensors file runs no tensor operation, which would load libtorch first. (A `.pt` file is
/// unpickled, and that does.)
public struct SampleFile: Sendable {
  /// How a tensor is stored.
  struct Array: Sendable {
    let shape: [Int]
    let dtype: DType
  }

  private enum Content: Sendable {
    case safetensors(SafetensorsFile)
    case torch(TorchFile)
  }

  public let path: String
  /// What the file was made from, as far as it says; the official trainer's says nothing.
  public let metadata: [String: String]
  /// The tensors by name; numbers that `.pt` keeps as they are not among them.
  let arrays: [String: Array]
  private let content: Content

  /// - Throws: `TensorFileError` that tells what is wrong with the file.
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

  /// A number that is stored as a one-element tensor or, in `.pt`, as it is; nil where it is not
  /// there.
  ///
  /// - Throws: `DatasetError` for a tensor of several elements.
  public func number(_ key: String) throws -> Double? {
    guard let array = arrays[key] else {
      guard case .torch(let file) = content, has(key) else { return nil }
      return try file.number(key)
    }
    guard array.shape.reduce(1, *) == 1 else {
      throw DatasetError(
        path: path, problem: "\(key) has shape \(array.shape); expected one number")
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

  /// Lends the elements of a tensor in order.
  func withBytes<R>(of key: String, _ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    switch content {
    case .safetensors(let file): try file.withUnsafeBytes(of: key, body)
    case .torch(let file): try file.tensor(key).contiguous().withUnsafeBytes(body)
    }
  }

  /// How many elements of a mask are not 0.
  func count(nonZeroIn key: String) throws -> Int {
    guard let array = arrays[key] else { return 0 }
    let size = array.dtype.size
    return try withBytes(of: key) { bytes in
      stride(from: 0, to: bytes.count, by: size).count { start in
        bytes[start..<start + size].contains { $0 != 0 }
      }
    }
  }

  private func missing(_ key: String) -> DatasetError {
    DatasetError(path: path, problem: "\(key) is missing")
  }
}
