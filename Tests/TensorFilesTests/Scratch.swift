import Foundation
import TensorFiles
import Testing
import Torch

/// A temporary folder for a test, removed with the value.
final class ScratchFolder {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/tensor-files-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      print("a test's folder remains: \(error)")
    }
  }

  func callAsFunction(_ name: String) -> String { path + "/" + name }

  func write(_ bytes: [UInt8], as name: String) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: self(name)))
    return self(name)
  }

  func names() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: path).sorted()
  }
}

/// A safetensors file with a header and a number of data bytes, which count up from 0.
func safetensors(_ header: String, data count: Int, aligned: Bool = false) -> [UInt8] {
  var json = Array(header.utf8)
  while aligned && json.count % 8 != 0 { json.append(UInt8(ascii: " ")) }
  return withUnsafeBytes(of: UInt64(json.count).littleEndian, Array.init) + json
    + (0..<count).map { UInt8(truncatingIfNeeded: $0) }
}

func bytes(_ tensor: Tensor) throws -> [UInt8] {
  try tensor.contiguous().withUnsafeBytes { Array($0) }
}

/// The kind of the `TensorFileError` that `body` throws.
func failure(_ body: () throws -> Void) throws -> TensorFileError? {
  do {
    try body()
    return nil
  } catch let error as TensorFileError {
    return error
  }
}
