import Foundation
import Support
import TensorFiles
import Torch

/// A file of a cache: one sample's tensors and numbers, and what they were made from.
struct CachedFile: Sendable {
  let folder: CacheFolder
  let path: String
  private let format: CacheFormat

  init(_ folder: CacheFolder, _ name: String, in output: String, format: CacheFormat) {
    self.folder = folder
    self.format = format
    path = "\(output)/\(folder.rawValue)/\(name).\(format.rawValue)"
  }

  /// The same sample in the other format.
  private var otherPath: String {
    String(path.dropLast(format.rawValue.count)) + format.other.rawValue
  }

  var exists: Bool { access(path, F_OK) == 0 }

  /// What the file was made from; nil if it is not there or is damaged, and so has to be made anew.
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

  /// Writes the file, and the folders above it. A file of the sample in the other format, which
  /// training might find in its place, is removed if it is one of ours.
  ///
  /// - Parameter values: tensors as they are, numbers as Python's in `.pt` and as tensors of one
  ///   element otherwise.
  /// - Returns: a file of another tool that stays in the way, if there is one.
  /// - Throws: `TensorFileError` where the disk refuses, `TorchError`.
  func write(_ values: [(key: String, value: PickleValue)], _ fingerprint: Fingerprint) throws
    -> String?
  {
    try makeFolder()
    switch format {
    case .pt: try writeTorchFile(values, metadata: fingerprint.fields, to: path, isDurable: false)
    case .safetensors:
      try writeSafetensors(
        values.map { ($0, try Self.tensor($1)) }, metadata: fingerprint.fields, to: path,
        isDurable: false)
    }
    let other = CachedFile(folder: folder, path: otherPath, format: format.other)
    guard other.exists else { return nil }
    return other.removeIfOurs() ? nil : other.path
  }

  private init(folder: CacheFolder, path: String, format: CacheFormat) {
    (self.folder, self.path, self.format) = (folder, path, format)
  }

  /// Removes the file if it carries a fingerprint.
  ///
  /// - Returns: whether it is gone.
  @discardableResult
  func removeIfOurs() -> Bool {
    guard fingerprint?[.content] != nil else { return false }
    return unlink(path) == 0
  }

  private static func tensor(_ value: PickleValue) throws -> Tensor {
    switch value {
    case .tensor(let tensor): tensor
    case .int(let number): try Tensor([number])
    case .float(let number): try Tensor([number])
    default: preconditionFailure("a cached value is a tensor or a number")
    }
  }

  private func makeFolder() throws {
    let folder = (path as NSString).deletingLastPathComponent
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw TensorFileError(
        .notWritten, path: folder, "the folder can't be made: \(reason(of: error))")
    }
  }
}
