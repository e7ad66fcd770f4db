extension CacheFolder {
  /// The user's word for the content of the folder's files: `audio`.
  var contents: String {
    switch self {
    case .conditions: "text features"
    case .latents: "video"
    case .referenceLatents: "reference video"
    case .videoMasks: "video mask"
    case .audioLatents: "audio"
    case .referenceAudioLatents: "reference audio"
    case .audioMasks: "audio mask"
    }
  }
}

extension DatasetProblem {
  /// The problem as a page says it beside the clip: without paths in the cache.
  var words: String {
    guard let file else { return problem }
    switch kind {
    case .incomplete, .caption, .row, .notCached, .notListed: return problem
    case .source:
      let missing = "there is no such file"
      if problem.hasPrefix(missing) {
        return "the media file is missing" + problem.dropFirst(missing.count)
      }
      return problem.hasPrefix("has ") ? "the media file \(problem)" : problem
    default:
      let folder = file.prefix { $0 != "/" }
      guard
        let content = CacheFolder.allCases.first(where: { $0.folderNames.contains(String(folder)) })
      else {
        return "\(file): \(problem)"
      }
      return "\(content.noun): \(problem)"
    }
  }
}
