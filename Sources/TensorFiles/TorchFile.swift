import Torch

/// A `.pt` file in the format that `torch.save` has written since PyTorch 1.6: a zip archive with a
/// pickle and one entry for each storage. The file is mapped; tensors are views of it if their
/// layout allows.
///
/// The pickle is untrusted. Only the instructions for tensors, numbers, strings and plain
/// containers are executed; a file that names any other Python function or class is rejected.
///
/// The file must not be truncated while it is open, as with `SafetensorsFile`.
public struct TorchFile: Sendable {
  public let path: String
  /// The saved value, usually a dictionary.
  public let root: PickleValue

  /// The archive entry for metadata, which `writeTorchFile` adds.
  static let metadataEntry = "archive/fingerprint.json"

  /// The file's metadata, without reading its pickle; empty if it has none.
  ///
  /// - Throws: `TensorFileError` for a file that is not an archive, or whose metadata is damaged.
  public static func metadata(path: String) throws -> [String: String] {
    let file = try FileBytes(mapping: path)
    guard let range = try ZipArchive(file).entries[metadataEntry] else { return [:] }
    var cursor = HeaderCursor(UnsafeRawBufferPointer(rebasing: file.bytes[range]), path: path)
    let metadata = try cursor.texts()
    try cursor.expectEnd()
    return metadata
  }

  /// - Throws: `TensorFileError` with the problem of the file.
  public init(path: String) throws {
    try self.init(FileBytes(mapping: path))
  }

  /// Opens a file whose content is already in memory.
  ///
  /// - Parameter name: Replaces the path in error messages.
  public init(name: String, content: [UInt8]) throws {
    try self.init(content.withUnsafeBytes { FileBytes(name: name, copying: $0) })
  }

  private init(_ file: FileBytes) throws {
    path = file.path
    if file.bytes.first == 0x80 {
      throw TensorFileError(
        .legacyFormat, path: path,
        "this is the format of PyTorch before 1.6; load it there and save it again with torch.save")
    }
    let archive = try ZipArchive(file)
    let pickles = archive.entries.keys.filter { $0.hasSuffix("/data.pkl") }
    guard pickles.count == 1, let pickleName = pickles.first,
      let pickle = archive.entries[pickleName]
    else {
      throw TensorFileError(
        .badArchive, path: path,
        "the archive has \(pickles.count) entries named data.pkl instead of one; is it from torch.save?"
      )
    }
    let folder = String(pickleName.dropLast("data.pkl".count))
    if let range = archive.entries[folder + "byteorder"],
      !file.bytes[range].elementsEqual("little".utf8)
    {
      throw TensorFileError(
        .badArchive, path: path, key: folder + "byteorder", "only little-endian files can be read")
    }
    let storages = TorchStorages(file: file, archive: archive, folder: folder)
    var unpickler = try Unpickler(file.bytes[pickle], storages)
    root = try unpickler.run()
  }

  /// The value for a key of the root dictionary.
  public func value(_ key: String) throws -> PickleValue {
    guard let value = root[key] else {
      let keys = (root.members ?? []).compactMap(\.key.string)
      throw TensorFileError(
        .missingTensor, path: path, key: key,
        "the file has no such key; it has " + (keys.isEmpty ? "none" : keys.joined(separator: ", "))
      )
    }
    return value
  }

  public func tensor(_ key: String) throws -> Tensor {
    let value = try value(key)
    guard let tensor = value.tensor else { throw wrongType(key, value, "a tensor") }
    return tensor
  }

  /// The number for a key: an integer or a floating-point number.
  public func number(_ key: String) throws -> Double {
    let value = try value(key)
    guard let number = value.number else { throw wrongType(key, value, "a number") }
    return number
  }

  private func wrongType(_ key: String, _ value: PickleValue, _ wanted: String) -> TensorFileError {
    TensorFileError(.wrongType, path: path, key: key, "is \(value.kind), not \(wanted)")
  }
}
