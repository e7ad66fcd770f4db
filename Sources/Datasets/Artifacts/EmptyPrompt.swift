import Foundation

/// The text features of the empty prompt, on which training with caption dropout trains: a file
/// beside those of the captions, once for each cache.
public enum EmptyPrompt {
  /// The file's name in `conditions/`, without its extension. It belongs to no sample.
  public static let name = ".empty"

  /// The file in a cache; nil if the cache has none.
  public static func path(in cache: String) -> String? {
    CacheFormat.allCases.map {
      "\(cache)/\(CacheFolder.conditions.rawValue)/\(name).\($0.rawValue)"
    }
    .first { FileManager.default.fileExists(atPath: $0) }
  }

  /// Whether a file below `conditions/` is that of the empty prompt.
  ///
  /// - Parameter file: relative to the folder.
  static func isFile(_ file: String) -> Bool {
    CacheFormat.allCases.contains { file == "\(name).\($0.rawValue)" }
  }
}

extension PreprocessingPlan {
  /// The file of the empty prompt if it has to be written. The first process does it for all; with
  /// `--compat` the cache has upstream's files only.
  var pendingEmptyPrompt: CachedFile? {
    guard !work.isEmpty, options.share.index == 0, !options.isCompatible else { return nil }
    let file = CachedFile(
      .conditions, EmptyPrompt.name, in: outputFolder, format: options.format)
    let isUpToDate =
      !options.overwrite && file.fingerprint.map(check.rules.conditions(prompt: "").fits) ?? false
    return isUpToDate ? nil : file
  }
}
