import Foundation
import LTX
import Media
import TestSupport
import Testing
import Torch

@testable import Datasets

@Suite struct DatasetPreviewTests {
  private let cache: CachedFiles

  init() throws { cache = try CachedFiles() }

  private func clip(_ name: String, width: Int, height: Int, frames: Int, hasAudio: Bool = false)
    throws
  {
    let writer = try VideoWriter(
      path: cache.scratch.file(name), width: width, height: height, frameRate: Rational(25),
      audio: hasAudio ? .init(sampleRate: 48000, channelCount: 2, matchesVideo: true) : nil)
    for frame in 0..<frames {
      let level = UInt8(20 + frame * 5)
      try writer.append(
        RGBFrame(
          bytes: [UInt8](repeating: level, count: 3 * width * height), width: width, height: height)
      )
    }
    if hasAudio {
      // Silence, then a tone.
      let tone = (0..<48000).map { $0 < 8640 ? 0 : 0.5 * sin(Float($0) * 0.1) }
      try writer.append(audio: [tone, tone])
    }
    try writer.finish()
  }

  private func page() throws -> DatasetPreview {
    try DatasetPreview(cache: cache.scratch.path, DatasetCheckOptions())
  }

  /// The JPEGs of the page.
  private func images(_ html: String) throws -> [Data] {
    try html.components(separatedBy: "data:image/jpeg;base64,").dropFirst().map {
      try #require(Data(base64Encoded: String($0.prefix { $0 != "\"" })))
    }
  }

  @Test func aPageShowsFramesCropAudioCaptionAndProblems() throws {
    try clip("wide.mp4", width: 192, height: 64, frames: 25, hasAudio: true)
    try cache.latents("wide")
    try cache.conditions("wide", tokens: 5, ["prompt": "x"])
    try cache.latents("gone")
    try cache.conditions("gone")
    try cache.dataset([
      ("wide.mp4", "a <b>bold</b> & \"quoted\" 'caption'\u{1}"), ("gone.mp4", "gone"),
    ])
    let preview = try page()
    let html = preview.html
    #expect(preview.clips == 2)
    // The four frames are from the nine that the bucket uses: 0, 2, 5, 8.
    let frames = try images(html)
    #expect(frames.count == 4)
    let levels = try frames.enumerated().map { index, data in
      try data.write(to: URL(fileURLWithPath: cache.scratch.file("\(index).jpg")))
      return Int(
        try #require(try VideoReader(path: cache.scratch.file("\(index).jpg")).next()).bytes[0])
    }
    #expect(zip(levels, [20, 30, 45, 60]).allSatisfy { abs($0 - $1) <= 3 }, "\(levels)")
    // 96x64 of 192x64: the middle half.
    #expect(html.contains("<i style=\"left:25.00%;top:0.00%;width:50.00%;height:100.00%\"></i>"))
    #expect(html.contains("96×64×9") && html.contains("0.36 s") && html.contains("5 tokens"))
    #expect(
      html.contains("a &lt;b&gt;bold&lt;/b&gt; &amp; &quot;quoted&quot; &#39;caption&#39;\u{FFFD}"))
    #expect(!html.contains("<b>bold"))
    #expect(
      html.contains("the media file does not exist") && html.contains("the media file is missing"))
    #expect(html.contains("the caption was &quot;x&quot; when it was encoded"))
    #expect(preview.problems == 2)
    #expect(html.components(separatedBy: "<svg").count == 2)
  }

  @Test func nothingComesFromElsewhere() throws {
    try cache.latents("a")
    try cache.conditions("a", ["prompt": "<img src=https://example.com/x.png>"])
    let html = try page().html
    #expect(html.contains("default-src 'none'"))
    #expect(!html.contains("<img src=h") && !html.contains("<link") && !html.contains("src=\"http"))
    #expect(html.contains("&lt;img src=https://example.com/x.png&gt;"))
  }

  @Test func aDatasetThatIsNotPreprocessed() throws {
    try clip("a.mp4", width: 64, height: 64, frames: 12)
    try cache.dataset([("a.mp4", "a caption"), ("", "x")])
    var options = DatasetCheckOptions()
    options.dataset = cache.scratch.file("dataset.jsonl")
    let preview = try DatasetPreview(cache: nil, options)
    #expect(preview.clips == 1 && preview.problems == 1)
    #expect(try images(preview.html).count == 4)
    #expect(
      preview.html.contains("line 2: video: is empty"))
    options.skipsSources = true
    #expect(try images(DatasetPreview(cache: nil, options).html).isEmpty)
    #expect(
      message { _ = try DatasetPreview(cache: nil, DatasetCheckOptions()) }.contains(
        "Name a cache, or a dataset file"))
  }

  @Test func decodedLatentsInPlaceOfMedia() throws {
    let model = try TinyModelFiles.ltx2()
    let configuration = try VideoVAEConfiguration.Decoder(Checkpoint(path: model.checkpoint).config)
    try cache.latents("a", shape: [configuration.latentChannels, 2, 2, 3])
    try cache.latents("other", shape: [configuration.latentChannels + 1, 2, 2, 3])
    let preview = try DatasetPreview(
      cache: cache.root, DatasetCheckOptions(),
      decoder: CacheDecoder(models: ModelFiles(unified: model.checkpoint)))
    let frames = try images(preview.html)
    #expect(frames.count == 4)
    try frames[0].write(to: URL(fileURLWithPath: cache.scratch.file("0.jpg")))
    let reader = try VideoReader(path: cache.scratch.file("0.jpg"))
    #expect((reader.width, reader.height) == (96, 64))
    #expect(preview.html.contains("it was made with another model"))
    #expect(preview.notes.contains("images are decoded from the latents"))
  }

  @Test func aWaveformIsTheLargestSampleOfEachColumn() {
    let samples = (0..<2400).map { Float($0 < 1200 ? 0 : 0.5) }
    let wave = ClipPreview.wave(
      AudioClip(left: samples, right: samples.map { -2 * $0 }, sampleRate: 48000))
    #expect(wave.count == 240 && wave[119] == 0 && wave[120] == 1)
    #expect(ClipPreview.wave(AudioClip(left: [0.25], right: [0], sampleRate: 48000)) == [0.25])
  }

  @Test func lengthsBeyondBeliefAreShown() throws {
    #expect(ClipPage.length(59.94) == "59.9 s" && ClipPage.length(3725) == "1:02 h")
    #expect(ClipPage.length(1e30).hasSuffix(" h") && ClipPage.length(.infinity).hasSuffix(" h"))
    try cache.latents("a", fps: 1e-30)
    try cache.conditions("a")
    #expect(try page().html.contains("fps is 1e-30, which is not a frame rate"))
  }

  @Test func ofAClipWithoutABucketTheFirstMinuteIsListenedTo() throws {
    let rate = 8000
    let late = (0..<90 * rate).map { Float($0 < 60 * rate ? 0 : 0.5) }
    try FileManager.default.createDirectory(atPath: cache.root, withIntermediateDirectories: true)
    try WAVWriter.write([late, late], sampleRate: rate, to: cache.scratch.file("a.wav"))
    func wave(duration: Double?) -> [Float] {
      var clip = ClipPreview(
        name: "a", line: nil, caption: nil, bucket: nil, duration: duration, fps: nil, tokens: nil,
        extras: [],
        problems: [])
      clip.look(at: cache.scratch.file("a.wav"), audio: nil, bucket: nil, count: 0, side: 200)
      return clip.wave
    }
    for duration in [nil, 0.0] {
      let wave = wave(duration: duration)
      #expect(wave.count == 240 && wave.max() == 0)
    }
    #expect((wave(duration: 90).max() ?? 0) > 0.4)
  }

  @Test func aCropIsTheBucketsShareOfTheFrame() throws {
    let bucket = ResolutionBucket(width: 64, height: 64, frames: 9)
    let crop = try #require(ClipPreview.Crop(of: (100, 200), bucket: bucket))
    #expect((crop.left, crop.top, crop.width, crop.height) == (0, 0.25, 1, 0.5))
    #expect(ClipPreview.Crop(of: (128, 128), bucket: bucket) == nil)
  }

  @Test func aLargeDatasetGetsSmallerImages() {
    let small = ImageBudget(bytes: 24 << 20, clips: 100)
    #expect((small.count, small.side) == (4, 480))
    let medium = ImageBudget(bytes: 24 << 20, clips: 500)
    #expect((medium.count, medium.side) == (4, 200))
    let large = ImageBudget(bytes: 24 << 20, clips: 1500)
    #expect((large.count, large.side) == (2, 200))
    var huge = ImageBudget(bytes: 24 << 20, clips: 20000)
    #expect((huge.count, huge.side) == (1, 96))
    huge.spend(24 << 20)
    #expect(!huge.hasRoom)
  }
}

/// The page's text on problems, and the targets of its links.
@Suite struct PreviewProblemTests {
  @Test func problemsThatClipsShareAreSaidOnceInUsersWords() throws {
    let cache = try CachedFiles()
    for name in ["a", "b", "c", "d", "e"] {
      try cache.latents(name, ["source_sound": name == "e" ? "yes" : "no"])
      try cache.conditions(name)
    }
    try cache.audio("d")
    let preview = try DatasetPreview(
      cache: cache.scratch.path, DatasetCheckOptions(), page: cache.scratch.file("pages/p.html"))
    let html = preview.html
    #expect(preview.problems == 4)
    #expect(
      html.contains(
        "<button type=button data-group=\"0\" aria-pressed=false>3 clips</button>has no audio; 1 of 5 samples have one, "
          + "and training with it skips those without (its clip has no audio track)</li>"))
    #expect(html.components(separatedBy: "<li>has no audio</li>").count == 4)
    #expect(html.components(separatedBy: "data-groups=\"0\"").count == 4)
    // A clip on its own shows the full text in its card.
    #expect(
      html.contains(
        "<li>has no audio; 1 of 5 samples have one, and training with it skips those without</li>"))
    #expect(!html.contains("safetensors") && !html.contains("audio_latents"))
  }

  @Test func aCardPlaysItsClipFromWhereItIs() throws {
    let cache = try CachedFiles()
    try cache.latents("sub/a b")
    try cache.conditions("sub/a b")
    try cache.scratch.write("not a video", to: "sub/a b.mp4")
    try cache.dataset([("sub/a b.mp4", "x"), ("gone.mp4", "y")])
    let html = try DatasetPreview(
      cache: cache.root, DatasetCheckOptions(), page: cache.scratch.file("pages/p.html")
    ).html
    #expect(html.contains("<a class=play href=\"../sub/a%20b.mp4\""))
    #expect(
      html.components(separatedBy: "class=play").count == 2, "a clip that is gone does not play")
    #expect(
      try !DatasetPreview(cache: cache.root, DatasetCheckOptions()).html.contains("class=play"))
  }

  @Test func wordsWithoutPathsOfTheCache() {
    func words(_ kind: DatasetProblem.Kind, _ file: String?, _ text: String) -> String {
      DatasetProblem(kind, file: file, text).words
    }
    #expect(
      words(.numbers, "latents/a.safetensors", "latents holds NaN") == "latents: latents holds NaN")
    #expect(words(.source, "/x/a.mp4", "does not exist") == "the media file is missing")
    #expect(words(.source, "/x/a.mp4", "has changed since") == "the media file has changed since")
    #expect(words(.row, nil, "no caption") == "no caption")
    #expect(SharedProblems.short("has no audio; 1 of 2") == "has no audio")
    #expect(SharedProblems.short("has no text features, so training") == "has no text features")
  }
}
