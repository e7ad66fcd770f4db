import Foundation
import TensorFiles

/// What Tests/Oracles recorded of the official trainer.
enum OracleFixture {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Fixtures").path

  static func training(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: "\(root)/training/\(name).safetensors")
  }
}
