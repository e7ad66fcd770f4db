import Foundation
import Media

/// The HTML of a preview page. All that comes from a dataset goes through `escaped`.
enum PreviewMarkup {
  static func escaped(_ text: String) -> String { TextFormats.html(text) }

  static func page(
    title: String, clips: [ClipPreview], cards: String, general: [String], notes: [String], problems: Int
  ) -> String {
    let name = escaped((title as NSString).lastPathComponent)
    let buckets = Dictionary(grouping: clips.compactMap(\.bucket)) { $0 }.mapValues(\.count)
      .sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    let options = buckets.map {
      "<option value=\"\(escaped($0.key))\">\(escaped($0.key)) (\($0.value))</option>"
    }
    let seconds = clips.compactMap(\.duration).reduce(0, +)
    var facts = ["\(clips.count) clip\(clips.count == 1 ? "" : "s")"]
    if seconds > 0 { facts.append(length(seconds)) }
    if !buckets.isEmpty { facts.append("\(buckets.count) bucket\(buckets.count == 1 ? "" : "s")") }
    facts.append(
      problems == 0 ? "no problems" : "<b class=bad>\(problems) problem\(problems == 1 ? "" : "s")</b>")
    let list = (general.map { "<li class=bad>\(escaped($0))</li>" } + notes.map { "<li>\(escaped($0))</li>" })
      .joined()
    return """
      <!doctype html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
      <title>\(name)</title>
      <style>\(style)</style>
      </head>
      <body>
      <header>
      <h1 title="\(escaped(title))">\(name)</h1>
      <p class=facts>\(facts.joined(separator: " · "))</p>
      <form id=filter>
      <input id=text type=search placeholder="Search names and captions" aria-label="Search names and captions">
      <select id=bucket aria-label="Bucket"\(buckets.count < 2 ? " hidden" : "")><option value="">all buckets</option>\(options.joined())</select>
      <label\(problems == 0 ? " hidden" : "")><input id=bad type=checkbox> with problems</label>
      <output id=shown></output>
      </form>
      </header>
      \(list.isEmpty ? "" : "<ul class=notes>\(list)</ul>")
      <main>
      \(cards)</main>
      <script>\(script)</script>
      </body>
      </html>

      """
  }

  static func card(_ clip: ClipPreview) -> String {
    var html =
      "<article data-bucket=\"\(escaped(clip.bucket ?? ""))\"\(clip.problems.isEmpty ? "" : " class=flawed")>\n"
    if clip.frames.isEmpty {
      html += "<div class=\"strip none\">\(escaped(clip.note ?? "no picture"))</div>\n"
    } else {
      let crop = clip.crop.map { crop in
        String(
          format: "<i style=\"left:%.2f%%;top:%.2f%%;width:%.2f%%;height:%.2f%%\"></i>", 100 * crop.left,
          100 * crop.top, 100 * crop.width, 100 * crop.height)
      }
      let frames = clip.frames.map {
        "<span><img alt=\"\" src=\"data:image/jpeg;base64,\($0.base64EncodedString())\">\(crop ?? "")</span>"
      }
      html += "<div class=strip>\(frames.joined())</div>\n"
    }
    if !clip.wave.isEmpty { html += wave(clip.wave) }
    let line = clip.line.map { "<small>line \($0)</small>" } ?? ""
    html += "<h2>\(escaped(clip.name))\(line)</h2>\n"
    var chips: [String] = []
    if let bucket = clip.bucket { chips.append(bucket.replacing("x", with: "×")) }
    if let duration = clip.duration {
      chips.append(duration == 0 ? "picture" : String(format: "%.2f s", duration))
    }
    if let fps = clip.fps, clip.duration != 0 { chips.append(String(format: "%.5g fps", fps)) }
    if let tokens = clip.tokens { chips.append("\(tokens) tokens") }
    chips += clip.extras.map { $0.replacing("_", with: " ") }
    if !chips.isEmpty {
      html += "<p class=chips>\(chips.map { "<span>\(escaped($0))</span>" }.joined())</p>\n"
    }
    let caption = clip.caption ?? ""
    let isEmpty = !caption.contains { !$0.isWhitespace }
    html +=
      isEmpty ? "<p class=\"caption none\">no caption</p>\n" : "<p class=caption>\(escaped(caption))</p>\n"
    if !clip.problems.isEmpty {
      html += "<ul class=problems>\(clip.problems.map { "<li>\(escaped($0))</li>" }.joined())</ul>\n"
    }
    return html + "</article>\n"
  }

  /// The outline of a sound, the same above and below the middle.
  private static func wave(_ levels: [Float]) -> String {
    let points = levels.enumerated().map { ($0, Int(($1 * 49).rounded()) + 1) }
    let upper = points.map { "\($0) \(50 - $1)" }
    let lower = points.reversed().map { "\($0) \(50 + $1)" }
    return
      "<svg class=wave viewBox=\"0 0 \(max(1, levels.count - 1)) 100\" preserveAspectRatio=none role=img "
      + "aria-label=\"waveform\"><path d=\"M\((upper + lower).joined(separator: "L"))Z\"/></svg>\n"
  }

  /// A time in the largest fitting units. Sizes in files may claim any length.
  static func length(_ seconds: Double) -> String {
    if seconds < 60 { return String(format: "%.1f s", seconds) }
    let whole = Int(min(seconds, 1e12).rounded())
    return whole < 3600
      ? String(format: "%d:%02d min", whole / 60, whole % 60)
      : String(format: "%d:%02d h", whole / 3600, whole / 60 % 60)
  }

  private static let style = """
    :root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--text:#1d1d1b;--soft:#6a6a66;--line:#e2e2de;--bad:#b3261e;--wave:#3b6fb6}
    @media (prefers-color-scheme:dark){:root{--page:#161617;--card:#212123;--text:#e9e9e6;--soft:#9b9b96;--line:#343437;--bad:#ff8a80;--wave:#7fb0f0}}
    *{box-sizing:border-box}
    body{margin:0;background:var(--page);color:var(--text);font:14px/1.45 system-ui,sans-serif}
    header{position:sticky;top:0;z-index:1;display:flex;flex-wrap:wrap;gap:4px 20px;align-items:center;padding:10px 20px;background:var(--page);border-bottom:1px solid var(--line)}
    h1{margin:0;font-size:17px}
    .facts{margin:0;color:var(--soft)}
    form{display:flex;flex-wrap:wrap;gap:10px;align-items:center;margin-left:auto}
    input[type=search],select{font:inherit;color:inherit;padding:5px 9px;border:1px solid var(--line);border-radius:7px;background:var(--card)}
    input[type=search]{width:240px}
    output{color:var(--soft);min-width:5em}
    [hidden]{display:none!important}
    .notes{margin:12px 20px 0;padding:0;list-style:none;color:var(--soft)}
    .bad{color:var(--bad)}
    main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:16px;padding:16px 20px 40px}
    article{display:flex;flex-direction:column;background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden;content-visibility:auto;contain-intrinsic-size:auto 300px}
    article.flawed{border-color:var(--bad)}
    .strip{display:flex;gap:1px;background:#000;justify-content:center}
    .strip span{position:relative;overflow:hidden;flex:0 1 200px;display:flex;align-items:center}
    .strip img{display:block;width:100%}
    .strip i{position:absolute;box-shadow:0 0 0 999px #000a;outline:1px solid #fffc;outline-offset:-1px}
    .strip.none{padding:26px 12px;background:var(--page);color:var(--soft);text-align:center}
    .wave{display:block;width:100%;height:38px;border-bottom:1px solid var(--line)}
    .wave path{fill:var(--wave)}
    h2{margin:10px 14px 0;font-size:14px;overflow-wrap:anywhere}
    h2 small{margin-left:8px;font-weight:400;color:var(--soft)}
    .chips{display:flex;flex-wrap:wrap;gap:5px;margin:6px 14px 0}
    .chips span{padding:1px 8px;border:1px solid var(--line);border-radius:9px;font-size:12px;color:var(--soft)}
    .caption{margin:8px 14px 12px;white-space:pre-line;overflow-wrap:anywhere;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:6;overflow:hidden;cursor:pointer}
    .caption.open{display:block}
    .caption.none{color:var(--bad);font-style:italic}
    .problems{margin:auto 0 0;padding:9px 14px 9px 30px;border-top:1px solid var(--line);color:var(--bad);font-size:13px;overflow-wrap:anywhere}
    """

  private static let script = """
    const cards=[...document.querySelectorAll('article')].map(e=>({e,t:e.textContent.toLowerCase(),b:e.dataset.bucket,p:e.classList.contains('flawed')}));
    const get=i=>document.getElementById(i);
    function show(){const w=get('text').value.toLowerCase().split(/\\s+/),b=get('bucket').value,p=get('bad').checked;let n=0;
    for(const c of cards){const y=w.every(x=>c.t.includes(x))&&(!b||c.b===b)&&(!p||c.p);c.e.hidden=!y;n+=y}
    get('shown').textContent=n===cards.length?'':n+' shown'}
    get('filter').addEventListener('input',show);get('filter').addEventListener('submit',e=>e.preventDefault());
    document.addEventListener('click',e=>{const c=e.target.closest('.caption');if(c&&!getSelection().toString())c.classList.toggle('open')});
    show();
    """
}
