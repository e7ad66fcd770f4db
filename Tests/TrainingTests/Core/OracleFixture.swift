import Foundation
import TensorFiles
import TestSupport

/// A recording of the official trainer by Tests/Oracles.
enum OracleFixture {

  /// The origin of a file, from its metadata.
  static func run<Value: Decodable>(_ file: SafetensorsFile, as type: Value.Type = Value.self)
    throws -> Value
  {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(type, from: Data((file.metadata["run"] ?? "").utf8))
  }

  static func training(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: "\(Fixtures.root)/training/\(name).safetensors")
  }
}
