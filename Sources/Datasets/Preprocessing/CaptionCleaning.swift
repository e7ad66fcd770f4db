import Foundation

/// What becomes of a caption before the text encoder reads it.
struct CaptionCleaning: Sendable {
  /// Put before each caption, with a blank between; without blanks around it.
  let trigger: String?
  let removesPrefixes: Bool

  init(trigger: String?, removesPrefixes: Bool) {
    let trimmed = trigger?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
    self.trigger = trimmed.isEmpty ? nil : trimmed
    self.removesPrefixes = removesPrefixes
  }

  /// How language models like to begin the description of a clip. The first that fits is removed,
  /// once; the list and its order are the reference's (`process_captions.py`).
  static let prefixes: [String] = {
    let subjects = ["video", "clip"].flatMap { ["This \($0)", "The \($0)"] } + ["The animation"]
    let images = ["image", "picture"].flatMap { ["This \($0)", "The \($0)"] }
    let verbs = [
      "shows", "depicts", "features", "captures", "highlights", "introduces", "presents",
    ]
    return ["In the video,", "In this video,", "In this video clip,", "In the clip,", "Caption:"]
      + (subjects + images).flatMap { subject in verbs.map { "\(subject) \($0)" } }
  }()

  func prompt(_ caption: String) -> String {
    var text = caption
    if removesPrefixes {
      text = text.trimmingCharacters(in: .whitespacesAndNewlines)
      if let prefix = Self.prefixes.first(where: text.hasPrefix) {
        text = text.dropFirst(prefix.count).trimmingCharacters(in: .whitespacesAndNewlines)
      }
    }
    return trigger.map { "\($0) \(text)" } ?? text
  }
}
