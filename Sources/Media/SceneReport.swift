import Foundation

/// `scenes.html`: the scenes of a split to look through, with links to their files and preview pictures beside it.
enum SceneReport {
  static func data(title: String, scenes: [WrittenScene]) -> Data {
    let hasFiles = scenes.contains { $0.file != nil }
    let hasImages = scenes.contains { !$0.images.isEmpty }
    var heads = ["scene", "first frame", "last frame", "start", "end", "frames", "seconds"]
    if hasFiles { heads.append("file") }
    if hasImages { heads.append("pictures") }
    let rows = scenes.map { scene in
      var cells = [
        "\(scene.number)", "\(scene.scene.start)", "\(scene.scene.end - 1)", timeCode(scene.startSeconds),
        timeCode(scene.endSeconds), "\(scene.scene.length)",
        String(format: "%.3f", scene.endSeconds - scene.startSeconds),
      ].map { "<td>\($0)</td>" }
      if hasFiles {
        let link = scene.file.map { "<a href=\"\(reference($0))\">\(TextFormats.html($0))</a>" } ?? ""
        cells.append("<td class=\"text\">\(link)</td>")
      }
      if hasImages {
        let pictures = scene.images.map {
          "<a href=\"\(reference($0))\"><img loading=\"lazy\" src=\"\(reference($0))\" alt=\"\(TextFormats.html($0))\"></a>"
        }
        cells.append("<td class=\"text\">\(pictures.joined())</td>")
      }
      return "<tr>\(cells.joined())</tr>"
    }
    let page = """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta http-equiv="Content-Security-Policy" content="\(policy)">
      <title>\(TextFormats.html(title))</title>
      <style>
      body { font: 14px/1.4 sans-serif; margin: 2em; color: #222; background: #fff; }
      table { border-collapse: collapse; }
      th, td { padding: 4px 10px; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
      th { position: sticky; top: 0; background: #f4f4f4; }
      td { font-variant-numeric: tabular-nums; }
      .text { text-align: left; }
      img { height: 120px; margin: 0 4px 4px 0; }
      </style>
      </head>
      <body>
      <h1>\(TextFormats.html(title))</h1>
      <p>\(scenes.count) \(scenes.count == 1 ? "scene" : "scenes"). Frames count from 0.</p>
      <table>
      <thead><tr>\(heads.map { "<th>\($0)</th>" }.joined())</tr></thead>
      <tbody>
      \(rows.joined(separator: "\n"))
      </tbody>
      </table>
      </body>
      </html>

      """
    return Data(page.utf8)
  }

  /// A file beside the page as a link: everything but letters, digits and `-._~` in percent signs, so that no name can be
  /// taken for another place.
  private static func reference(_ name: String) -> String {
    let plain = CharacterSet(
      charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
    return "./" + (name.addingPercentEncoding(withAllowedCharacters: plain) ?? "")
  }

  /// Pictures beside the page, and nothing else.
  private static let policy = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
}
