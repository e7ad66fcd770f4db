import Foundation
import LTX

/// The tiny model of a generation, written once for all tests of a process, which only read it.
public struct TinyModelFiles: Sendable {
  public let checkpoint: String
  public let textEncoder: String
  /// The folder with all its files.
  public let folder: String

  public static func ltx2() throws -> TinyModelFiles { try first.get() }

  /// Copies the files, for a test that changes them.
  public func copy(to folder: String) throws -> TinyModelFiles {
    try FileManager.default.copyItem(atPath: self.folder, toPath: folder)
    return TinyModelFiles(folder: folder)
  }

  private init(folder: String) {
    self.folder = folder
    checkpoint = "\(folder)/\(TinyModel.checkpointName)"
    textEncoder = "\(folder)/\(TinyModel.textEncoderName)"
  }

  private static let first = Result {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("ltx-test-model-\(UUID().uuidString)").path
    _ = try TinyModel.write(to: folder, seed: 1)
    pathToRemove = folder
    atexit {
      guard let path = TinyModelFiles.pathToRemove else { return }
      do { try FileManager.default.removeItem(atPath: path) } catch {
        print("cannot remove \(path): \(error)")
      }
    }
    return TinyModelFiles(folder: folder)
  }

  /// Set once, before the program can end.
  nonisolated(unsafe) private static var pathToRemove: String?
}
