import Foundation
import Support
import Torch

/// A folder with one `model*.safetensors`, or several that `model.safetensors.index.json` lists:
/// the layout of `transformers`. As there, tensors of a shard that the index doesn't list are
/// ignored.
public final class ShardedSafetensors: TensorSource {
  static let indexName = "model.safetensors.index.json"

  public let name: String
  public let metadata: [String: String]
  public let entries: [String: TensorEntry]
  private let shards: [SafetensorsFile]
  private let shardOfKey: [String: Int]

  /// - Throws: `TensorFileError`: `.notFound` if the folder has no such files or lacks a shard,
  ///   `.badIndex` and `.missingTensor` if the index doesn't fit the shards, or a shard's own
  ///   problem.
  public convenience init(folder: String) throws {
    guard isFolder(folder) else {
      throw TensorFileError(.notFound, path: folder, "the folder does not exist")
    }
    let indexPath = folder + "/" + Self.indexName
    guard access(indexPath, F_OK) == 0 else {
      try self.init(onlyFile: SafetensorsFile(path: Self.onlyFile(in: folder)), name: folder)
      return
    }
    try self.init(index: indexPath, name: folder)
  }

  /// Opens the shards next to an index of any name.
  ///
  /// - Throws: The same errors as the other initializer.
  public convenience init(index path: String) throws { try self.init(index: path, name: path) }

  private init(index indexPath: String, name: String) throws {
    let folder = indexPath.lastIndex(of: "/").map { String(indexPath[..<$0]) } ?? "."
    let index = try Self.readIndex(FileBytes(mapping: indexPath))
    let fileNames = Set(index.values).sorted()
    let shards = try fileNames.map { try SafetensorsFile(path: folder + "/" + $0) }
    let numbers = Dictionary(uniqueKeysWithValues: zip(fileNames, shards.indices))
    var entries: [String: TensorEntry] = [:]
    var shardOfKey: [String: Int] = [:]
    for (key, fileName) in index {
      guard let number = numbers[fileName], let entry = shards[number].entries[key] else {
        throw TensorFileError(
          .missingTensor, path: indexPath, key: key,
          "the index places the tensor in \(fileName), which lacks it; fetch both again")
      }
      entries[key] = entry
      shardOfKey[key] = number
    }
    self.name = name
    metadata = shards.reduce(into: [:]) { $0.merge($1.metadata) { first, _ in first } }
    self.entries = entries
    self.shards = shards
    self.shardOfKey = shardOfKey
  }

  private init(onlyFile file: SafetensorsFile, name: String) {
    self.name = name
    metadata = file.metadata
    entries = file.entries
    shards = [file]
    shardOfKey = file.entries.mapValues { _ in 0 }
  }

  public func prepareToRead(_ key: String) {
    if let shard = shardOfKey[key] { shards[shard].prepareToRead(key) }
  }

  public func prepareToReadOnly(_ key: String) {
    if let shard = shardOfKey[key] { shards[shard].prepareToReadOnly(key) }
  }

  public func release(_ key: String) {
    if let shard = shardOfKey[key] { shards[shard].release(key) }
  }

  public func file(of key: String) -> String { shardOfKey[key].map { shards[$0].name } ?? name }

  public func tensor(_ key: String) throws -> Tensor {
    guard let shard = shardOfKey[key] else {
      throw TensorFileError(
        .missingTensor, path: name, key: key, "the folder has no tensor of this name")
    }
    return try shards[shard].tensor(key)
  }

  private static func onlyFile(in folder: String) throws -> String {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: folder)
    } catch {
      throw TensorFileError(
        .unreadable, path: folder, "the folder can't be listed: \(reason(of: error))")
    }
    let candidates = names.filter { $0.hasPrefix("model") && $0.hasSuffix(".safetensors") }.sorted()
    if candidates.isEmpty, let gguf = names.sorted().first(where: { $0.hasSuffix(".gguf") }) {
      throw TensorFileError(.foreignFormat, path: "\(folder)/\(gguf)", ForeignFormat.gguf.message)
    }
    guard let name = candidates.first else {
      throw TensorFileError(
        .notFound, path: folder, "the folder has neither model.safetensors nor \(indexName)")
    }
    guard candidates.count == 1 else {
      throw TensorFileError(
        .badIndex, path: folder,
        "the folder has \(candidates.count) model*.safetensors but no \(indexName); fetch it, too")
    }
    return folder + "/" + name
  }

  /// Reads the file name of each tensor.
  static func readIndex(_ file: FileBytes) throws(TensorFileError) -> [String: String] {
    var cursor = HeaderCursor(file.bytes, path: file.path)
    try cursor.beginObject()
    var map: [String: String]?
    var isFirst = true
    while let field = try cursor.nextKey(isFirst: &isFirst) {
      guard field == "weight_map" else {
        try cursor.skipValue()
        continue
      }
      guard map == nil, cursor.isNext("{") else {
        throw badIndex(file.path, "weight_map must be one object of file names")
      }
      map = try readMap(&cursor, file.path)
    }
    try cursor.expectEnd()
    guard let map, !map.isEmpty else {
      throw badIndex(file.path, "the index has no weight_map that names a tensor")
    }
    return map
  }

  private static func readMap(_ cursor: inout HeaderCursor, _ path: String) throws(TensorFileError)
    -> [String:
    String]
  {
    try cursor.beginObject()
    var map: [String: String] = [:]
    var isFirst = true
    while let key = try cursor.nextKey(isFirst: &isFirst) {
      guard cursor.isNext("\"") else {
        throw badIndex(path, key: key, "the file name must be a string")
      }
      let fileName = try cursor.string()
      // A file name from a download must not point outside the folder.
      guard !fileName.isEmpty, !fileName.contains("/"), !fileName.contains("\0"), fileName != ".",
        fileName != ".."
      else {
        throw badIndex(path, key: key, "\"\(fileName)\" is not the name of a file in the folder")
      }
      guard map.updateValue(fileName, forKey: key) == nil else {
        throw TensorFileError(.duplicateKey, path: path, key: key, "stands twice in the index")
      }
    }
    return map
  }

  private static func badIndex(
    _ path: String, key: String? = nil, _ message: String
  ) -> TensorFileError {
    TensorFileError(.badIndex, path: path, key: key, message)
  }
}
