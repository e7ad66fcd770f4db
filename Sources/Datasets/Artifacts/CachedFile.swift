import Foundation
import Support
import TensorFiles
import Torch

/// The tensors and numbers of a cached file, in the order in which they are written.
struct CachedValues: ExpressibleByDictionaryLiteral, Sendable {
  enum Value: Sendable {
    case tensor(Tensor)
    case int(Int)
    case float(Double)
  }

  private let entries: [(key: String, value: Value)]

  init(dictionaryLiteral elements: (String, Value)...) {
    entries = elements.map { (key: $0, value: $1) }
  }

  /// Whether all tensors hold finite numbers.
  func isAllFinite() throws -> Bool {
    for case .tensor(let tensor) in entries.map(\.value) where try !tensor.isAllFinite() {
      return false
    }
    return true
  }

  /// Returns the integer stored under the key.
  func integer(_ key: String) -> Int? {
    guard case .int(let number)? = entries.first(where: { $0.key == key })?.value else {
      return nil
    }
    return number
  }

  /// The values for a `.pt` file: numbers as Python numbers.
  var pickled: [(key: String, value: PickleValue)] {
    entries.map { key, value in
      switch value {
      case .tensor(let tensor): (key, .tensor(tensor))
      case .int(let number): (key, .int(number))
      case .float(let number): (key, .float(number))
      }
    }
  }

  /// The values for a safetensors file: numbers as tensors of one element.
  func tensors() throws -> [(key: String, tensor: Tensor)] {
    try entries.map { key, value in
      switch value {
      case .tensor(let tensor): (key, tensor)
      case .int(let number): (key, try Tensor([number]))
      case .float(let number): (key, try Tensor([number]))
      }
    }
  }
}

/// A file of a cache: the tensors and numbers of one sample, and the inputs they were made from.
struct CachedFile: Sendable {
  let folder: CacheFolder
  let path: String
  private let format: CacheFormat

  init(_ folder: CacheFolder, _ name: String, in output: String, format: CacheFormat) {
    self.folder = folder
    self.format = format
    path = "\(output)/\(folder.rawValue)/\(name).\(format.rawValue)"
  }

  /// The path of the same sample in the other format.
  private var otherPath: String {
    String(path.dropLast(format.rawValue.count)) + format.other.rawValue
  }

  var exists: Bool { access(path, F_OK) == 0 }

  /// The inputs that the file was made from; nil if it is missing or damaged and has to be made
  /// again.
  var fingerprint: Fingerprint? {
    guard exists else { return nil }
    do {
      return Fingerprint(
        fields: format == .pt
          ? try TorchFile.metadata(path: path) : try SafetensorsFile(path: path).metadata)
    } catch {
      return nil
    }
  }

  /// Writes the file, and creates missing folders. If the sample has a file in the other format,
  /// which training might find instead, it is removed if this program wrote it.
  ///
  /// - Returns: The path of another tool's file that training might find instead, if there is one.
  /// - Throws: `TensorFileError` if the file can't be written, `TorchError`.
  func write(_ values: CachedValues, _ fingerprint: Fingerprint) throws -> String? {
    let parent = (path as NSString).deletingLastPathComponent
    try makeFolder(parent) {
      TensorFileError(
        .notWritten, path: parent, "the folder can't be created: \(reason(of: $0))")
    }
    switch format {
    case .pt:
      try writeTorchFile(values.pickled, metadata: fingerprint.fields, to: path, isDurable: false)
    case .safetensors:
      try writeSafetensors(
        values.tensors(), metadata: fingerprint.fields, to: path, isDurable: false)
    }
    let other = CachedFile(folder: folder, path: otherPath, format: format.other)
    guard other.exists else { return nil }
    return other.removeIfOurs() ? nil : other.path
  }

  private init(folder: CacheFolder, path: String, format: CacheFormat) {
    (self.folder, self.path, self.format) = (folder, path, format)
  }

  /// Removes the file if it has a fingerprint.
  ///
  /// - Returns: Whether it was removed.
  @discardableResult
  func removeIfOurs() -> Bool {
    guard fingerprint?[.content] != nil else { return false }
    return unlink(path) == 0
  }
}
