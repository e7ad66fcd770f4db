import Torch

/// The tensors of several files, presented as one file. Tensor names may differ from those in the
/// files.
public final class CombinedTensors: TensorSource {
  public let name: String
  public let metadata: [String: String]
  public let entries: [String: TensorEntry]
  private let places: [String: Place]

  private struct Place: Sendable {
    let source: any TensorSource
    let key: String
  }

  /// One of the files.
  public struct Part: Sendable {
    let source: any TensorSource
    let rename: @Sendable (String) -> String?

    /// - Parameter rename: Returns the common name of a tensor in the file, or nil to leave it out.
    public init(_ source: any TensorSource, rename: @escaping @Sendable (String) -> String?) {
      self.source = source
      self.rename = rename
    }
  }

  /// - Parameters:
  ///   - name: Replaces the path in messages that concern more than one file.
  ///   - parts: If several parts have a tensor of the same name, the first one is used.
  public init(name: String, metadata: [String: String] = [:], parts: [Part]) {
    var entries: [String: TensorEntry] = [:]
    var places: [String: Place] = [:]
    for part in parts {
      for (key, entry) in part.source.entries {
        guard let common = part.rename(key), entries[common] == nil else { continue }
        entries[common] = entry
        places[common] = Place(source: part.source, key: key)
      }
    }
    self.name = name
    self.metadata = metadata
    self.entries = entries
    self.places = places
  }

  public func tensor(_ key: String) throws -> Tensor {
    guard let place = places[key] else {
      throw TensorFileError(
        .missingTensor, path: name, key: key, "none of the files has a tensor of this name")
    }
    return try place.source.tensor(place.key)
  }

  /// The name of a tensor in its own file.
  public func storedKey(_ key: String) -> String {
    guard let place = places[key] else { return key }
    return (place.source as? CombinedTensors)?.storedKey(place.key) ?? place.key
  }

  public func metadata(of key: String) -> [String: String] {
    places[key].map { $0.source.metadata(of: $0.key) } ?? metadata
  }

  public func prepareToRead(_ key: String) {
    if let place = places[key] { place.source.prepareToRead(place.key) }
  }

  public func prepareToReadOnly(_ key: String) {
    if let place = places[key] { place.source.prepareToReadOnly(place.key) }
  }

  public func release(_ key: String) {
    if let place = places[key] { place.source.release(place.key) }
  }

  /// The file of a tensor. For an unknown name, the file with the most similar names.
  public func file(of key: String) -> String {
    if let place = places[key] { return place.source.file(of: place.key) }
    let start = key.prefix { $0 != "." } + "."
    return places.first { $0.key.hasPrefix(start) }?.value.source.name ?? name
  }
}
