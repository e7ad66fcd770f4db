import Foundation

/// One folder of a cache, such as `latents/`: a file for each sample.
public enum CacheFolder {
  /// Sample files by their relative name without the extension.
  public static func files(below folder: String) throws -> [String: String] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue,
      let found = FileManager.default.enumerator(atPath: folder)
    else {
      throw DatasetError(path: folder, problem: "there is no such folder; run `ltx preprocess` first")
    }
    var files: [String: String] = [:]
    for case let relative as String in found {
      let url = URL(fileURLWithPath: relative)
      guard ["safetensors", "pt"].contains(url.pathExtension), !url.lastPathComponent.hasPrefix(".") else {
        continue
      }
      files[String(relative.dropLast(url.pathExtension.count + 1))] = "\(folder)/\(relative)"
    }
    return files
  }
}
