import Datasets
import Foundation
import Media
import Support
import TestSupport
import Testing

@testable import CaptionReview

/// The page of a review in a browser: played, read, edited and saved by keyboard, at the widths of a
/// desktop and a phone.
@Suite(.enabled(if: Browser.path != nil, "no Chromium is installed"), .serialized)
struct ReviewBrowserTests {
  private let folder: ScratchFolder
  private let captions = [
    "The video shows red. It hums.", "The video shows green. <b>It</b> hums & \"sings\".",
    "The video shows blue.\nIt is quiet.", "",
  ]

  init() throws {
    folder = try ScratchFolder()
    for (name, color) in [("red", "red"), ("green", "green"), ("blue", "blue")] {
      try runFFmpeg([
        "-f", "lavfi", "-i", "color=\(color):s=96x64:r=25", "-f", "lavfi", "-i", "sine=f=440",
        "-t", "2", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac",
        folder.file("\(name) clip.mp4"),
      ])
    }
    try runFFmpeg([
      "-f", "lavfi", "-i", "color=white:s=64x64", "-frames:v", "1", folder.file("white.png"),
    ])
    try write(captions)
  }

  private func write(_ captions: [String]) throws {
    let media = ["red clip.mp4", "green clip.mp4", "blue clip.mp4", "white.png", "gone.mp4"]
    let rows = zip(media, captions + [String](repeating: "", count: 5 - captions.count)).map {
      JSON.object(["media_path": .string($0), "caption": .string($1)]).text()
    }
    try folder.write(rows.joined(separator: "\n") + "\n", to: "data.jsonl")
  }

  private func saved() throws -> [JSON] {
    try String(
      decoding: Data(contentsOf: URL(fileURLWithPath: folder.file("data.jsonl"))), as: UTF8.self
    )
    .split(separator: "\n").map { try JSON(parsing: String($0)) }
  }

  /// Opens the page at the size of a desktop.
  private func open(_ body: (DevTools) throws -> Void) throws {
    let server = try ReviewServer(dataset: folder.file("data.jsonl"))
    defer { server.close() }
    let browser = try DevTools()
    try browser.resize(width: 1280, height: 800)
    try browser.open(server.address)
    try browser.wait("document.querySelectorAll('#list button').length === 5")
    try body(browser)
    // An answer of 409 is logged by the browser.
    let errors = browser.errors.filter { !$0.contains("409") }
    #expect(errors.isEmpty, "\(errors)")
  }

  private func text(_ browser: DevTools, _ id: String) throws -> String {
    try #require(
      try browser.run(
        "const e=get('\(id)');return 'value' in e && e.type!=='button'?e.value:e.textContent")
        as? String)
  }

  @Test func clipsPlayWithAudio() throws {
    try open { browser in
      try browser.wait("document.querySelector('#stage video').currentTime > 0.2")
      let found = try #require(
        try browser.run(
          """
          const v=document.querySelector('#stage video');
          v.currentTime=1.5;await new Promise(r=>v.onseeked=r);
          const c=document.createElement('canvas').getContext('2d');c.drawImage(v,0,0);
          return {size:v.videoWidth+'x'+v.videoHeight,muted:v.muted,volume:v.volume,
          audio:v.webkitAudioDecodedByteCount>0,color:[...c.getImageData(10,10,1,1).data]}
          """) as? [String: Any])
      #expect(found["size"] as? String == "96x64", "\(found)")
      #expect(found["muted"] as? Bool == false && found["audio"] as? Bool == true, "\(found)")
      let color = try #require(found["color"] as? [Int])
      #expect(color[0] > 200 && color[1] < 60 && color[2] < 60, "\(found)")
      // The space bar pauses, the arrows step through the clips.
      try browser.press(" ")
      #expect(try browser.run("return document.querySelector('video').paused") as? Bool == true)
      for _ in 0..<3 { try browser.press("ArrowDown") }
      try browser.wait("document.querySelector('#stage img').naturalWidth === 64")
      try browser.press("ArrowDown")
      #expect(try text(browser, "problem") == "The file does not exist.")
      #expect(try browser.run("return get('stage').children.length") as? Int == 0)
    }
  }

  @Test func captionsAreEditedAndSavedByKeyboard() throws {
    try open { browser in
      #expect(try text(browser, "caption") == captions[0])
      try browser.press("j")
      #expect(try text(browser, "caption") == captions[1])
      try browser.press("Enter")
      try browser.type("d x")
      try browser.press("Escape")
      try browser.press("d")
      try browser.press("ArrowDown")
      try browser.press("x")
      #expect(try text(browser, "save") == "Save 2")
      try browser.press("s", control: true)
      try browser.wait("get('save').textContent === 'Save'")
      // Control and Enter while typing: done, saved, next.
      try browser.press("Enter")
      try browser.type(" New.")
      try browser.press("Enter", control: true)
      try browser.wait("get('save').textContent === 'Save'")
      #expect(try text(browser, "media") == "white.png")
      let rows = try saved()
      #expect(rows[1]["caption"]?.string == captions[1] + "d x")
      #expect(rows[2]["caption"]?.string == captions[2] + " New.")
      #expect(rows.map { $0["caption_review"]?.string } == [nil, "done", "done", nil, nil])
      // Nothing of a caption became HTML.
      #expect(try browser.run("return document.querySelectorAll('#list b').length") as? Int == 0)
    }
  }

  @Test func rowsAreFilteredAndWordsReplaced() throws {
    try open { browser in
      try browser.press("w")
      try browser.wait("get('word-list').children.length > 2")
      #expect(try text(browser, "word-list").hasPrefix("video3 of 3shows3 of 3hums2 of 3"))
      #expect(try text(browser, "opening-list") == "The video shows3 of 3")
      try browser.run(
        "[...get('word-list').children].find(e=>e.textContent.startsWith('hums')).click()")
      #expect(try text(browser, "facts") == "5 rows, 2 shown")
      try browser.press("r")
      try browser.type("VIDEO")
      #expect(try text(browser, "found") == "2 places in 2 of 2 shown captions")
      try browser.run("get('with').value='clip $& \\\\1'")
      try browser.press("Enter")
      try browser.press("s", control: true)
      try browser.wait("get('save').textContent === 'Save'")
      #expect(
        try saved().map { $0["caption"]?.string }
          == [
            "The clip $& \\1 shows red. It hums.",
            captions[1].replacing("video", with: "clip $& \\1"), captions[2], "", "",
          ])
      try browser.run("get('undo').click()")
      #expect(try text(browser, "save") == "Save 2")
      try browser.run(
        "get('text').value='\"it\" blue';get('filter').dispatchEvent(new Event('input'))")
      #expect(try text(browser, "media") == "blue clip.mp4")
      for (state, count) in [("empty", 2), ("problem", 1), ("changed", 2), ("done", 0), ("", 5)] {
        try browser.run(
          "get('text').value='';get('state').value='\(state)';get('filter').dispatchEvent(new Event('input'))"
        )
        #expect(try browser.run("return visible.length") as? Int == count, "\(state)")
      }
    }
  }

  @Test func thePageAsksIfTheFileHasChanged() throws {
    try open { browser in
      try browser.press("Enter")
      try browser.type(" Mine.")
      var others = captions
      others[0] = "Theirs."
      others[1] = "Another."
      try write(others)
      try browser.press("s", control: true)
      try browser.wait("get('ask').open")
      #expect(
        try text(browser, "ask-text")
          == "1 row has a change that this page has not saved.\n"
          + "1 of these captions changed in the file too; yours would replace them.")
      // Escape decides nothing.
      try browser.press("Escape")
      #expect(try saved()[0]["caption"]?.string == "Theirs.")
      try browser.press("s", control: true)
      try browser.wait("get('ask').open")
      try browser.run("get('keep').click()")
      try browser.wait("get('save').textContent === 'Save'")
      #expect(
        try saved().map { $0["caption"]?.string }
          == [captions[0] + " Mine.", "Another.", captions[2], "", ""])
      try browser.type(" Again.")
      try write(others)
      try browser.run("await look()")
      try browser.wait("get('ask').open")
      try browser.run("get('drop').click()")
      #expect(try text(browser, "caption") == "Theirs.")
      // Without changes of its own, the page takes the file's over.
      try write(captions)
      try browser.run("await look()")
      #expect(try text(browser, "caption") == captions[0])
      #expect(try text(browser, "notice-text").contains("changed by another program"))
    }
  }

  @Test func aServerThatHasEndedIsReported() throws {
    // The browser is started first, because it inherits sockets that are open.
    let browser = try DevTools()
    let server = try ReviewServer(dataset: folder.file("data.jsonl"))
    try browser.open(server.address)
    try browser.wait("document.querySelectorAll('#list button').length === 5")
    server.close()
    try browser.press("d")
    try browser.press("s", control: true)
    try browser.wait("get('notice-text').textContent.startsWith('Not saved: ltx does not answer.')")
    #expect(try text(browser, "save") == "Save 1")
  }

  @Test(arguments: [(1280, 800, false), (390, 844, true), (320, 568, true)])
  func thePageFits(width: Int, height: Int, isPhone: Bool) throws {
    var long = captions
    long[0] = String(repeating: "word ", count: 300) + String(repeating: "x", count: 500)
    try write(long)
    try open { browser in
      try browser.resize(width: width, height: height, isPhone: isPhone)
      try browser.wait("document.querySelector('#stage video').readyState > 1")
      for panels in ["", "open-words", "open-replace"] {
        if !panels.isEmpty { try browser.run("get('\(panels)').click()") }
        let found = try #require(
          try browser.run(
            """
            const out=[...document.querySelectorAll('body *')].filter(e=>{const r=e.getBoundingClientRect();
            return r.width&&(r.left<-0.5||r.right>innerWidth+0.5)&&!e.closest('dialog')}).map(e=>e.id||e.tagName);
            return {width:innerWidth,scroll:document.documentElement.scrollWidth,out,
            small:[...document.querySelectorAll('.actions button')].filter(e=>e.getBoundingClientRect().height<30).length,
            video:document.querySelector('video').getBoundingClientRect().height,
            save:get('save').getBoundingClientRect().bottom<=innerHeight}
            """) as? [String: Any])
        #expect(found["width"] as? Int == width, "\(found)")
        #expect(found["scroll"] as? Int == width, "\(found)")
        #expect((found["out"] as? [String])?.isEmpty == true, "\(found)")
        #expect(found["small"] as? Int == 0, "\(found)")
        #expect((found["video"] as? Double ?? 0) > 100, "\(found)")
        // On a phone, the buttons stay at the bottom.
        if isPhone { #expect(found["save"] as? Bool == true, "\(found)") }
      }
      let shot = folder.file("shot.png")
      try browser.run(
        "window.scrollTo(0,0);for(const p of ['words','replace'])get('open-'+p).click()")
      try browser.screenshot().write(to: URL(fileURLWithPath: shot))
      let reader = try VideoReader(path: shot)
      let frame = try #require(try reader.next())
      #expect(frame.width == width && frame.height == height)
      try checkPixels(frame)
    }
  }

  /// The screenshot is neither blank nor one color: it shows the red clip and dark text on a light
  /// page.
  private func checkPixels(_ frame: RGBFrame) throws {
    var (red, light, dark) = (0, 0, 0)
    for pixel in stride(from: 0, to: frame.bytes.count - 2, by: 3) {
      let (r, g, b) = (frame.bytes[pixel], frame.bytes[pixel + 1], frame.bytes[pixel + 2])
      if r > 200, g < 60, b < 60 { red += 1 }
      if r > 230, g > 230, b > 230 { light += 1 }
      if r < 90, g < 90, b < 90 { dark += 1 }
    }
    let all = frame.width * frame.height
    #expect(red > all / 40, "\(red) of \(all)")
    #expect(light > all / 4, "\(light) of \(all)")
    #expect(dark > all / 200, "\(dark) of \(all)")
  }
}
