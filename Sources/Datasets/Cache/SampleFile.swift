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

/// A file of a sample in either format.
public struct SampleFile: Sendable {
  private enum Content: Sendable {
    case safetensors(SafetensorsFile)
    case torch(TorchFile)
  }

  private let path: String
  private let content: Content

  public init(path: String) throws {
    self.path = path
    if path.hasSuffix(".pt") {
      metadata = try TorchFile.metadata(path: path)
      content = .torch(try TorchFile(path: path))
    } else {
      let file = try SafetensorsFile(path: path)
      metadata = file.metadata
      content = .safetensors(file)
    }
  }

  /// What the file was made from, as far as it says; the official trainer's says nothing.
  public let metadata: [String: String]

  public func has(_ key: String) -> Bool {
    switch content {
    case .safetensors(let file): file.entries[key] != nil
    case .torch(let file): file.root[key].map { !$0.isNone } ?? false
    }
  }

  /// The names of all tensors, in alphabetical order.
  public var tensorNames: [String] {
    switch content {
    case .safetensors(let file): file.keys
    case .torch(let file):
      (file.root.members ?? []).compactMap { $0.value.tensor == nil ? nil : $0.key.string }.sorted()
    }
  }

  public func tensor(_ key: String) throws -> Tensor {
    guard has(key) else { throw DatasetError(path: path, problem: "\(key) is missing") }
    switch content {
    case .safetensors(let file): return try file.tensor(key)
    case .torch(let file): return try file.tensor(key)
    }
  }

  public func tensorShape(_ key: String) throws -> [Int] {
    if case .safetensors(let file) = content, let entry = file.entries[key] { return entry.shape }
    return try tensor(key).shape
  }

  /// A number that is stored as a one-element tensor or, in `.pt`, as it is; nil where it is not there.
  public func number(_ key: String) throws -> Double? {
    guard has(key) else { return nil }
    if case .torch(let file) = content, file.root[key]?.tensor == nil { return try file.number(key) }
    return try tensor(key).item()
  }
}
