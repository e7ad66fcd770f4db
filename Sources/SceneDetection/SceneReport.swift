import Foundation
import Media

/// `scenes.html`, a page to browse the scenes of a split. Each scene shows its first, middle and
/// last frame side by side, and plays in the page.
struct SceneReport {
  let title: String
  let scenes: [WrittenScene]
  /// Thumbnails of the scenes, in order; missing for the last scenes of very long videos.
  let strips: SceneStrips.Result
  /// The absolute path of the page's folder.
  let folder: String
  /// The absolute path of the video that was split, which is played if scenes have no files.
  let source: String

  var data: Data {
    let cards = scenes.enumerated().map { place, scene in
      card(scene, place < strips.scenes.count ? strips.scenes[place] : [])
    }
    let count = "\(grouped(scenes.count)) \(scenes.count == 1 ? "scene" : "scenes")"
    let seconds = scenes.reduce(0) { $0 + $1.endSeconds - $1.startSeconds }
    let without = scenes.count - strips.scenes.count
    let notes =
      without > 0 && !strips.scenes.isEmpty
      ? "<ul class=notes><li>the last \(grouped(without)) scenes have no images, to keep the page small</li></ul>"
      : ""
    return Data(
      ClipPage.document(
        title: title, heading: title,
        facts: [count, ClipPage.length(seconds), "frames count from 0"],
        notes: notes, cards: cards.joined()
      ).utf8)
  }

  private func card(_ scene: WrittenScene, _ thumbnails: [Data]) -> String {
    let clip =
      scene.file.map { ClipPage.link(from: folder, to: "\(folder)/\($0)") }
      ?? ClipPage.link(from: folder, to: source)
      + String(format: "#t=%.3f,%.3f", scene.startSeconds, scene.endSeconds)
    let saved = scene.images.map {
      ClipPage.Image(link: ClipPage.link(from: folder, to: "\(folder)/\($0)"), name: $0)
    }
    var html = "<article>\n"
    // Saved images show the same frames at full size.
    if saved.count < 3 {
      html +=
        thumbnails.isEmpty && saved.isEmpty
        ? ClipPage.emptyStrip("no images", clip: clip)
        : thumbnails.isEmpty
          ? ""
          : ClipPage.strip(thumbnails.map(ClipPage.Image.init), aspect: strips.aspect, clip: clip)
    }
    if !saved.isEmpty {
      let isOnly = saved.count >= 3 || thumbnails.isEmpty
      html += ClipPage.strip(saved, aspect: strips.aspect, clip: isOnly ? clip : nil)
    }
    let name =
      scene.file.map {
        "<a href=\"\(ClipPage.link(from: folder, to: "\(folder)/\($0)"))\">\(TextFormats.html($0))</a>"
      }
      ?? ""
    html += "<h2>Scene \(scene.number)<small>\(name)</small></h2>\n"
    html += ClipPage.chips([
      "\(timeCode(scene.startSeconds)) to \(timeCode(scene.endSeconds))",
      String(format: "%.3f s", scene.endSeconds - scene.startSeconds),
      "frames \(scene.scene.start) to \(scene.scene.end - 1)",
      "\(scene.scene.length) \(scene.scene.length == 1 ? "frame" : "frames")",
    ])
    return html + "</article>\n"
  }
}
