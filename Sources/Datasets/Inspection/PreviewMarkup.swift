import Foundation
import Media

/// The HTML of a preview page. All text from a dataset is escaped by `escaped`.
enum PreviewMarkup {
  static func escaped(_ text: String) -> String { TextFormats.html(text) }

  /// - Parameters:
  ///   - general: the problems that belong to no single clip.
  ///   - shared: the problems that several clips have.
  static func page(
    title: String, clips: [ClipPreview], cards: String, general: [String], shared: SharedProblems,
    notes: [String], problems: Int
  ) -> String {
    let buckets = Dictionary(grouping: clips.compactMap(\.bucket)) { $0 }.mapValues(\.count)
      .sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    let options = buckets.map {
      "<option value=\"\(escaped($0.key))\">\(escaped($0.key)) (\($0.value))</option>"
    }
    let seconds = clips.compactMap(\.duration).reduce(0, +)
    var facts = ["\(clips.count) clip\(clips.count == 1 ? "" : "s")"]
    if seconds > 0 { facts.append(ClipPage.length(seconds)) }
    if !buckets.isEmpty { facts.append("\(buckets.count) bucket\(buckets.count == 1 ? "" : "s")") }
    facts.append(
      problems == 0
        ? "no problems" : "<b class=bad>\(problems) problem\(problems == 1 ? "" : "s")</b>")
    var list = shared.texts.enumerated().map { group, problem in
      "<li class=bad><button type=button data-group=\"\(group)\" aria-pressed=false>\(grouped(problem.count)) clips"
        + "</button>\(escaped(problem.text))</li>"
    }
    list +=
      general.map { "<li class=bad>\(escaped($0))</li>" } + notes.map { "<li>\(escaped($0))</li>" }
    return ClipPage.document(
      title: (title as NSString).lastPathComponent, heading: (title as NSString).lastPathComponent,
      facts: facts,
      controls: """
        <form id=filter>
        <input id=text type=search placeholder="Search names and captions" aria-label="Search names and captions">
        <select id=bucket aria-label="Bucket"\(buckets.count < 2 ? " hidden" : "")><option value="">all buckets</option>\(options.joined())</select>
        <label\(problems == 0 ? " hidden" : "")><input id=bad type=checkbox> with problems</label>
        <output id=shown></output>
        </form>
        """,
      notes: list.isEmpty ? "" : "<ul class=notes>\(list.joined())</ul>", cards: cards)
  }

  static func card(_ clip: ClipPreview, _ shared: SharedProblems) -> String {
    let groups = clip.problems.compactMap(shared.group).map(String.init).joined(separator: " ")
    var html =
      "<article data-bucket=\"\(escaped(clip.bucket ?? ""))\" data-groups=\"\(groups)\""
      + "\(clip.problems.isEmpty ? "" : " class=flawed")>\n"
    if clip.frames.isEmpty {
      html += ClipPage.emptyStrip(clip.note ?? "no image", clip: clip.link)
    } else {
      let crop = clip.crop.map { crop in
        String(
          format: "<i style=\"left:%.2f%%;top:%.2f%%;width:%.2f%%;height:%.2f%%\"></i>",
          100 * crop.left,
          100 * crop.top, 100 * crop.width, 100 * crop.height)
      }
      html += ClipPage.strip(
        clip.frames.map(ClipPage.Image.init), aspect: clip.aspect, overlay: crop ?? "",
        clip: clip.link)
    }
    if !clip.wave.isEmpty { html += wave(clip.wave) }
    let line = clip.line.map { "<small>line \($0)</small>" } ?? ""
    html += "<h2>\(escaped(clip.name))\(line)</h2>\n"
    var chips: [String] = []
    if let bucket = clip.bucket { chips.append(bucket.replacing("x", with: "×")) }
    if let duration = clip.duration {
      chips.append(duration == 0 ? "image" : String(format: "%.2f s", duration))
    }
    if let fps = clip.fps, clip.duration != 0 { chips.append(String(format: "%.5g fps", fps)) }
    if let tokens = clip.tokens { chips.append("\(tokens) tokens") }
    chips += clip.extras.map { $0.replacing("_", with: " ") }
    html += ClipPage.chips(chips)
    let caption = clip.caption ?? ""
    let isEmpty = !caption.contains { !$0.isWhitespace }
    html +=
      isEmpty
      ? "<p class=\"caption none\">no caption</p>\n" : "<p class=caption>\(escaped(caption))</p>\n"
    if !clip.problems.isEmpty {
      // Problems that many clips share are shown in full at the top of the page.
      let lines = clip.problems.map { shared.group($0) == nil ? $0 : SharedProblems.short($0) }
      html += "<ul class=problems>\(lines.map { "<li>\(escaped($0))</li>" }.joined())</ul>\n"
    }
    return html + "</article>\n"
  }

  /// The outline of audio, mirrored at the middle.
  private static func wave(_ levels: [Float]) -> String {
    let points = levels.enumerated().map { ($0, Int(($1 * 49).rounded()) + 1) }
    let upper = points.map { "\($0) \(50 - $1)" }
    let lower = points.reversed().map { "\($0) \(50 + $1)" }
    return
      "<svg class=wave viewBox=\"0 0 \(max(1, levels.count - 1)) 100\" preserveAspectRatio=none role=img "
      + "aria-label=\"waveform\"><path d=\"M\((upper + lower).joined(separator: "L"))Z\"/></svg>\n"
  }
}

/// Problems with the same text in several clips of a page.
struct SharedProblems {
  /// The texts, the most common first.
  let texts: [(text: String, count: Int)]
  private let groups: [String: Int]

  /// The number of clips from which a problem counts as shared.
  static let threshold = 3

  /// - Parameter problems: the problems of each clip.
  init(_ problems: [[String]]) {
    var counts: [String: Int] = [:]
    for own in problems { for text in Set(own) { counts[text, default: 0] += 1 } }
    texts = counts.filter { $0.value >= Self.threshold }
      .sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ($0.key, $0.value) }
    groups = Dictionary(
      texts.enumerated().map { ($1.text, $0) }, uniquingKeysWith: { first, _ in first })
  }

  func group(_ text: String) -> Int? { groups[text] }

  /// Returns the first clause.
  static func short(_ text: String) -> String {
    let end = [": ", "; ", ", so ", ". "].compactMap { text.range(of: $0)?.lowerBound }.min()
    return end.map { String(text[..<$0]) } ?? text
  }
}
