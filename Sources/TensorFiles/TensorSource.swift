import Support
import Torch

/// The range of a tensor's elements in its file.
public struct TensorEntry: Sendable, Equatable {
  public let dtype: DType
  public let shape: [Int]
  /// The byte range, from the start of the file that holds the tensor.
  public let range: Range<Int>

  public init(dtype: DType, shape: [Int], range: Range<Int>) {
    self.dtype = dtype
    self.shape = shape
    self.range = range
  }

  public var byteCount: Int { range.count }
}

/// A source of tensors: one file, or a set of shards.
public protocol TensorSource: AnyObject, Sendable {
  /// The path, for error messages.
  var name: String { get }
  var metadata: [String: String] { get }
  var entries: [String: TensorEntry] { get }
  /// The tensor on the CPU with the file's dtype: a read-only view of the file's memory map, so
  /// nothing is read before it is used.
  ///
  /// - Throws: `TensorFileError` of kind `.missingTensor` if no tensor has that name.
  func tensor(_ key: String) throws -> Tensor
  /// Announces that a tensor will soon be read in full, so that the disk can start reading it.
  func prepareToRead(_ key: String)
  /// The same for a tensor whose neighbors in the file are not needed next.
  func prepareToReadOnly(_ key: String)
  /// Announces that a tensor has been copied elsewhere, so its pages need not stay in this
  /// process's memory. If it is read again, the system loads them again.
  func release(_ key: String)
  /// The file that holds a tensor, or would hold it, for error messages.
  func file(of key: String) -> String
  /// The metadata of the file that holds a tensor.
  func metadata(of key: String) -> [String: String]
}

extension TensorSource {
  public func metadata(of key: String) -> [String: String] { metadata }
  public func prepareToRead(_ key: String) {}
  public func prepareToReadOnly(_ key: String) { prepareToRead(key) }
  public func release(_ key: String) {}
  public func file(of key: String) -> String { name }
}

extension TensorSource {
  /// The names of all tensors in alphabetical order.
  public var keys: [String] { entries.keys.sorted() }

  public func contains(_ key: String) -> Bool { entries[key] != nil }
}

/// Opens a safetensors file, a folder of shards, or a shard index (`….safetensors.index.json`).
public func openTensors(at path: String) throws -> any TensorSource {
  if isFolder(path) { return try ShardedSafetensors(folder: path) }
  return path.hasSuffix(".index.json")
    ? try ShardedSafetensors(index: path) : try SafetensorsFile(path: path)
}

extension DType {
  /// The name of the dtype in a safetensors header.
  var safetensorsName: String {
    switch self {
    case .float32: "F32"
    case .float64: "F64"
    case .float16: "F16"
    case .bfloat16: "BF16"
    case .float8E4M3: "F8_E4M3"
    case .float8E5M2: "F8_E5M2"
    case .int8: "I8"
    case .int16: "I16"
    case .int32: "I32"
    case .int64: "I64"
    case .uint8: "U8"
    case .bool: "BOOL"
    }
  }

  private static let bySafetensorsName = Dictionary(
    uniqueKeysWithValues: allCases.map { ($0.safetensorsName, $0) })

  init?(safetensorsName name: String) {
    guard let dtype = Self.bySafetensorsName[name] else { return nil }
    self = dtype
  }

  /// The bytes of a contiguous tensor; nil if its size or one of its strides leaves the range of
  /// `Int`.
  func byteCount(of shape: [Int]) -> Int? {
    var extent = size  // the largest stride, with empty dimensions counted as 1
    for length in shape {
      let (product, overflow) = extent.multipliedReportingOverflow(by: max(length, 1))
      guard length >= 0, !overflow else { return nil }
      extent = product
    }
    return shape.contains(0) ? 0 : extent
  }
}
