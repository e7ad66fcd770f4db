import Foundation
import Media

/// A sample of a report, with a small image of it.
struct ReportSample: Sendable {
  let step: Int
  let media: ValidationMedia
  /// A JPEG; nil for audio, and if there was nothing to decode.
  let thumbnail: Data?

  /// Reads the file once, because pages are made often.
  init(_ media: ValidationMedia, step: Int) {
    self.step = step
    self.media = media
    // A sample without an image is still listed on the page, with its link.
    thumbnail =
      media.kind == .audio ? nil : try? VideoReader(path: media.path).next()?.thumbnail(side: 320)
  }
}

/// The samples of a run as a table: a row for each sample, a column for each step, the newest
/// first. Small files are part of the page, the newest before others; the rest are linked.
struct ReportSamples {
  /// The max bytes of a file that becomes part of the page.
  static let fileLimit = 2 << 20
  /// The max bytes of all of them.
  static let pageLimit = 24 << 20

  let samples: [ReportSample]
  /// The folder of the page.
  let folder: String

  /// The table; empty without samples.
  var html: String {
    guard !samples.isEmpty else { return "" }
    let steps = Set(samples.map(\.step)).sorted(by: >)
    var names: [String] = []
    var cells: [String: [Int: String]] = [:]
    var captions: [String: String] = [:]
    var left = Self.pageLimit
    // The newest come first, so that they are part of the page.
    for sample in samples.sorted(by: { $0.step > $1.step }) {
      let name = sample.media.name
      if captions[name] == nil {
        names.append(name)
        captions[name] = sample.media.caption
      }
      cells[name, default: [:]][sample.step] = cell(sample, &left)
    }
    var html = "<section><h2>Samples</h2>\n"
    for name in names.sorted(by: { $0.localizedStandardCompare($1) == .orderedAscending }) {
      html += "<div class=sample><h3>\(TextFormats.html(name))</h3>"
      html += "<p class=caption>\(TextFormats.html(captions[name] ?? ""))</p>\n<div class=row>\n"
      for step in steps {
        guard let cell = cells[name]?[step] else { continue }
        html += "<figure>\(cell)<figcaption>step \(step)</figcaption></figure>\n"
      }
      html += "</div></div>\n"
    }
    return html + "</section>\n"
  }

  private func cell(_ sample: ReportSample, _ left: inout Int) -> String {
    let path = sample.media.path
    guard let size = (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int
    else {
      return thumbnail(sample) + "<span class=gone>the file is gone</span>"
    }
    if size <= Self.fileLimit, size <= left, let data = FileManager.default.contents(atPath: path) {
      left -= data.count
      return element(
        sample, source: Self.dataURI(data, type: type(of: sample.media)), isLinked: false)
    }
    return element(sample, source: TextFormats.html(link(to: path)), isLinked: true)
  }

  private func element(_ sample: ReportSample, source: String, isLinked: Bool) -> String {
    switch sample.media.kind {
    case .image where isLinked: "<a href=\"\(source)\">\(thumbnail(sample))</a>"
    case .image: "<img alt=\"\" src=\"\(source)\">"
    case .video:
      "<video controls loop playsinline preload=none\(poster(sample)) src=\"\(source)\"></video>"
    case .audio: "<audio controls preload=none src=\"\(source)\"></audio>"
    }
  }

  private func thumbnail(_ sample: ReportSample) -> String {
    guard let thumbnail = sample.thumbnail else { return TextFormats.html(sample.media.name) }
    return "<img alt=\"\" src=\"\(Self.dataURI(thumbnail, type: "image/jpeg"))\">"
  }

  private func poster(_ sample: ReportSample) -> String {
    sample.thumbnail.map { " poster=\"\(Self.dataURI($0, type: "image/jpeg"))\"" } ?? ""
  }

  private static func dataURI(_ data: Data, type: String) -> String {
    "data:\(type);base64,\(data.base64EncodedString())"
  }

  private func type(of media: ValidationMedia) -> String {
    switch media.kind {
    case .image: media.path.lowercased().hasSuffix(".png") ? "image/png" : "image/jpeg"
    case .video: "video/mp4"
    case .audio: "audio/wav"
    }
  }

  /// Returns a link to a file, relative to the page if the file is beside or below it.
  private func link(to path: String) -> String {
    let target = URL(fileURLWithPath: path).standardizedFileURL.pathComponents
    let base = URL(fileURLWithPath: folder).standardizedFileURL.pathComponents
    guard target.starts(with: base) else { return URL(fileURLWithPath: path).absoluteString }
    // Without `./`, a colon in the first part would make it a scheme.
    return "./"
      + target.dropFirst(base.count).map {
        $0.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? $0
      }.joined(separator: "/")
  }
}
