import Foundation

/// A temporary folder, removed with the value.
final class TemporaryFolder {
  let path: String

  init() {
    path = FileManager.default.temporaryDirectory.path + "/tracking-\(UUID().uuidString)"
    // If this fails, the test that writes to the folder reports it.
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
