import Foundation

/// HTML shared by the pages that show clips: the scenes of a split, and datasets. A card for each
/// clip shows frames side by side; a click enlarges a frame or plays the clip. A page loads only
/// local clips and images.
package enum ClipPage {
  /// An image of a strip.
  package struct Image {
    /// The source of the image: a link, or the bytes of a JPEG as a data URL.
    let source: String
    let name: String
    let isLazy: Bool

    package init(jpeg: Data) {
      source = "data:image/jpeg;base64,\(jpeg.base64EncodedString())"
      (name, isLazy) = ("", false)
    }

    /// - Parameters:
    ///   - link: A link from `ClipPage.link`.
    ///   - name: The text to show if the image can't be loaded.
    package init(link: String, name: String) { (source, self.name, isLazy) = (link, name, true) }

    fileprivate var html: String {
      "<img\(isLazy ? " loading=\"lazy\"" : "") src=\"\(source)\" alt=\"\(TextFormats.html(name))\">"
    }
  }

  /// Frames side by side, and the clip to play.
  ///
  /// - Parameters:
  ///   - aspect: The width divided by the height of all images.
  ///   - overlay: HTML on top of each image.
  ///   - clip: A link to the clip.
  package static func strip(
    _ images: [Image], aspect: Double, overlay: String = "", clip: String?
  ) -> String {
    let ratio = String(format: "%.4f", min(max(aspect.isFinite ? aspect : 1, 0.05), 20))
    let frames = images.enumerated().map { place, image in
      "<button type=button class=frame aria-label=\"Enlarge frame \(place + 1)\">\(image.html)\(overlay)</button>"
    }
    return
      "<div class=strip style=\"--a:\(ratio)\">\(frames.joined())\(clip.map(player) ?? "")</div>\n"
  }

  /// A strip without images.
  package static func emptyStrip(_ text: String, clip: String?) -> String {
    "<div class=\"strip none\">\(TextFormats.html(text))\(clip.map(player) ?? "")</div>\n"
  }

  private static func player(_ clip: String) -> String {
    "<a class=play href=\"\(clip)\" title=\"Play the clip\">&#9654;<span> Play</span></a>"
  }

  /// Short facts on a card.
  package static func chips(_ chips: [String]) -> String {
    chips.isEmpty
      ? "" : "<p class=chips>\(chips.map { "<span>\(TextFormats.html($0))</span>" }.joined())</p>\n"
  }

  /// A complete page.
  ///
  /// - Parameters:
  ///   - title: The title of the window; `heading` is shown in the page.
  ///   - facts: HTML.
  ///   - controls: HTML of a form that filters the cards.
  ///   - notes: HTML between the head and the cards.
  package static func document(
    title: String, heading: String, facts: [String], controls: String = "", notes: String = "",
    cards: String
  ) -> String {
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="Content-Security-Policy" content="\(policy)">
    <title>\(TextFormats.html(title))</title>
    <style>\(style)</style>
    </head>
    <body>
    <header>
    <h1 title="\(TextFormats.html(title))">\(TextFormats.html(heading))</h1>
    <p class=facts>\(facts.joined(separator: " · "))</p>
    \(controls)
    </header>
    \(notes)
    <main>
    \(cards)</main>
    <dialog id=view><div id=stage></div><p><span id=said></span> <a id=open hidden>Open the file</a> <button type=button id=close>Close</button></p></dialog>
    <script>\(script)</script>
    </body>
    </html>

    """
  }

  /// Allows only local clips and images.
  private static let policy =
    "default-src 'none'; img-src data: 'self' file:; media-src 'self' file:; style-src 'unsafe-inline'; "
    + "script-src 'unsafe-inline'"

  /// The link from a page in one folder to a file. Everything but letters, digits and `-._~` is
  /// percent-encoded, so that no name can be mistaken for another path.
  ///
  /// - Parameters:
  ///   - folder: The absolute path of the page's folder.
  ///   - file: The absolute path of the file.
  package static func link(from folder: String, to file: String) -> String {
    let (from, to) = (folder.split(separator: "/"), file.split(separator: "/"))
    // Bytes are compared because strings are equal regardless of their Unicode normalization.
    let shared = zip(from, to).prefix { $0.utf8.elementsEqual($1.utf8) }.count
    let up = [String](repeating: "..", count: from.count - shared)
    let down = to[shared...].map { link(toName: String($0)) }
    return (up.isEmpty ? ["."] + down : up + down).joined(separator: "/")
  }

  private static func link(toName name: String) -> String {
    let plain = CharacterSet(
      charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
    return name.addingPercentEncoding(withAllowedCharacters: plain) ?? ""
  }

  /// A duration in the largest fitting units. A damaged file can claim any length.
  package static func length(_ seconds: Double) -> String {
    if seconds < 60 { return String(format: "%.1f s", seconds) }
    let whole = Int(min(seconds, 1e12).rounded())
    return whole < 3600
      ? String(format: "%d:%02d min", whole / 60, whole % 60)
      : String(format: "%d:%02d h", whole / 3600, whole / 60 % 60)
  }
}
