import Foundation
import LTX
import TestSupport
import Testing

/// The pages of `ltx split` and `ltx dataset preview` in a browser, at phone and desktop widths.
@Suite(.enabled(if: Browser.path != nil, "no Chromium is installed"), .serialized)
struct PageBrowserTests {
  /// Checks the layout and the behavior of a page.
  private static let script = """
    const d=page.document,r={},strip=d.querySelector('.strip');
    r.scrolls=d.documentElement.scrollWidth>d.documentElement.clientWidth;
    r.tallest=Math.max(...[...d.querySelectorAll('.strip')].map(s=>s.getBoundingClientRect().height));
    const images=[...strip.querySelectorAll('img')];await Promise.all(images.map(i=>i.decode()));
    r.shown=images.filter(i=>i.naturalWidth>0).length;
    const tops=images.map(i=>Math.round(i.getBoundingClientRect().top));r.sideBySide=tops.every(t=>t===tops[0]);
    const before=images[0].getBoundingClientRect();
    r.ratio=before.width/before.height;
    strip.querySelector('.frame').click();
    const large=d.querySelector('#stage img');await large.decode();
    r.enlarged=large.getBoundingClientRect().width>before.width;
    d.dispatchEvent(new page.KeyboardEvent('keydown',{key:'ArrowRight',bubbles:true}));
    r.said=d.getElementById('said').textContent;
    d.getElementById('close').click();r.closed=!d.getElementById('view').open;
    strip.querySelector('a.play').click();
    const v=d.querySelector('#stage video');
    for(let i=0;i<600&&v.readyState<2&&!v.error;i++)await wait(50);
    r.video=v.error?'error':v.videoWidth+'x'+v.videoHeight;
    d.getElementById('close').click();
    const group=d.querySelector('button[data-group]');
    if(group){group.click();r.inGroup=[...d.querySelectorAll('article')].filter(a=>!a.hidden).length;group.click();
    r.all=[...d.querySelectorAll('article')].filter(a=>!a.hidden).length}
    return r;
    """

  private func look(_ page: String, _ width: Int) throws -> [String: Any] {
    try #require(try Browser.run(page, width: width, Self.script) as? [String: Any])
  }

  /// - Parameter size: the size of the video.
  private func expect(
    _ result: [String: Any], shown: Int, size: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let text = "\(result)"
    #expect(result["error"] == nil, "\(text)", sourceLocation: sourceLocation)
    #expect(result["scrolls"] as? Bool == false, "\(text)", sourceLocation: sourceLocation)
    #expect(result["shown"] as? Int == shown, "\(text)", sourceLocation: sourceLocation)
    #expect(result["sideBySide"] as? Bool == true, "\(text)", sourceLocation: sourceLocation)
    #expect((result["tallest"] as? Double ?? 1e9) <= 241, "\(text)", sourceLocation: sourceLocation)
    #expect(result["enlarged"] as? Bool == true, "\(text)", sourceLocation: sourceLocation)
    #expect(
      (result["said"] as? String)?.hasPrefix("frame 2 of \(shown)") == true, "\(text)",
      sourceLocation: sourceLocation)
    #expect(result["closed"] as? Bool == true, "\(text)", sourceLocation: sourceLocation)
    #expect(result["video"] as? String == size, "\(text)", sourceLocation: sourceLocation)
  }

  @Test(arguments: [400, 1200]) func `Scenes`(width: Int) throws {
    let workshop = try Workshop()
    for (place, color) in ["red", "blue"].enumerated() {
      try runFFmpeg([
        "-f", "lavfi", "-i", "color=\(color):s=96x160:r=25", "-frames:v", "20", "-c:v", "libx264",
        "-pix_fmt",
        "yuv420p", "\(workshop.path)/\(place).mp4",
      ])
    }
    try workshop.write("list.txt", "file 0.mp4\nfile 1.mp4\n")
    try runFFmpeg([
      "-f", "concat", "-i", "\(workshop.path)/list.txt", "-c", "copy",
      "\(workshop.path)/a film.mp4",
    ])
    for arguments in [["files"], ["none", "--no-split"], ["saved", "--save-images", "3"]] {
      let result = try Program.run(["split", "a film.mp4"] + arguments, in: workshop.path)
      #expect(result.status == 0, "\(result.errors)")
      let found = try look("\(workshop.path)/\(arguments[0])/scenes.html", width)
      expect(found, shown: 3, size: "96x160")
      #expect(abs((found["ratio"] as? Double ?? 0) - 0.6) < 0.02, "\(found)")
    }
  }

  @Test(arguments: [400, 1200]) func aDataset(width: Int) throws {
    let workshop = try Workshop()
    for (place, size) in ["64x160", "160x64", "96x96", "64x64"].enumerated() {
      try runFFmpeg([
        "-f", "lavfi", "-i", "testsrc=s=\(size):r=25", "-frames:v", "9", "-c:v", "libx264",
        "-pix_fmt",
        "yuv420p",
        "\(workshop.path)/clip \(place).mp4",
      ])
    }
    let rows = (0..<4).map { "clip \($0).mp4,\(String(repeating: "a long caption ", count: 30))" }
    try workshop.write("dataset.csv", "video,caption\n" + rows.joined(separator: "\n") + "\n")
    #expect(try Program.run(["tiny-model", "model", "--seed", "3"], in: workshop.path).status == 0)
    let made = try Program.run(
      [
        "preprocess", "dataset.csv", "--resolution-buckets", "64x64x9", "--model-path",
        "model/\(TinyModel.checkpointName)", "--text-encoder-path",
        "model/\(TinyModel.textEncoderName)",
      ], in: workshop.path)
    #expect(made.status == 0, "\(made.errors)")
    // Three of the clips lack their text features.
    for place in 1...3 {
      try FileManager.default.removeItem(
        atPath: "\(workshop.path)/.precomputed/conditions/clip \(place).safetensors")
    }
    let result = try Program.run(["dataset", "preview", ".", "-o", "page.html"], in: workshop.path)
    #expect(result.status == 0, "\(result.errors)")
    let found = try look("\(workshop.path)/page.html", width)
    expect(found, shown: 4, size: "64x160")
    #expect(found["inGroup"] as? Int == 3 && found["all"] as? Int == 4, "\(found)")
  }
}
