import Foundation
import MediaTestSupport
import Testing

@testable import Media

/// The files that folder readers list, and the reasons for skipping the rest.
@Suite struct FolderListingTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  @Test func everythingInAFolderIsListedOrSkippedWithAReason() throws {
    for name in [
      "b.MP4", "sub/a.mp4", "cache/x.mp4", "own/y.mp4", ".hidden.mp4", ".precomputed/z.mp4",
      ".ltx.lock",
    ] {
      try write("x", to: name, in: folder)
    }
    for (link, target) in [("gone.mp4", "nowhere"), ("linked", "sub"), ("link.mp4", "b.MP4")] {
      try FileManager.default.createSymbolicLink(
        atPath: folder.file(link), withDestinationPath: folder.file(target))
    }
    #expect(mkfifo(folder.file("pipe.mp4"), 0o600) == 0)
    let listing = try FolderListing(folder.path) {
      $0 == "cache" ? "a cache" : $0 == "own" ? "" : nil
    }
    #expect(listing.files == ["b.MP4", "gone.mp4", "link.mp4", "sub/a.mp4"])
    #expect(listing.skipped.files.map(\.file) == ["cache", "linked", "pipe.mp4"])
    #expect(listing.skipped.files[0].reason == "a cache")
    #expect(listing.skipped.files[1].reason.contains("links to folders are not followed"))
    #expect(listing.skipped.files[2].reason.contains("a pipe"))
    // ltx's own cache isn't counted.
    #expect(listing.skipped.hiddenCount == 1)
  }

  @Test func aFolderThatCantBeListedIsAnErrorWithItsName() {
    #expect(
      mediaError { _ = try FolderListing(folder.file("nowhere")) }?.file == folder.file("nowhere"))
  }

  @Test func skippedFilesAreSummedUpByTheirReason() {
    var skipped = SkippedFiles()
    skipped.files =
      (0..<1240).map { SkippedFile("\($0).heic", "too new") } + [SkippedFile("n.md", "no media")]
    skipped.hiddenCount = 2
    #expect(
      skipped.notes() == [
        "skipped 1,240 files 0.heic, 1.heic, 2.heic, 3.heic, 4.heic and 1,235 more: too new",
        "skipped n.md: no media", "skipped 2 hidden files",
      ])
    #expect(
      skipped.notes(reasons: 1, names: 1) == [
        "skipped 1,240 files 0.heic and 1,239 more: too new",
        "skipped 1 more files for other reasons",
        "skipped 2 hidden files",
      ])
    #expect(capped(["a", "b", "c"], at: 1) { "\($0) more" } == ["a", "2 more"])
    #expect(capped(["a"], at: 1) { "\($0) more" } == ["a"])
    #expect(
      [0, 12, 123, 1234, -1_234_567].map(grouped) == ["0", "12", "123", "1,234", "-1,234,567"])
  }

  @Test func extensionsSayWhatAFileIsInAnyCase() throws {
    for (file, kind) in [
      ("a.mp4", .video), ("A.MOV", .video), ("x.y.MkV", .video), ("a.GIF", .video),
      ("p/a.jfif", .image),
      ("a.JP2", .image), ("a.avif", .image), ("a.heic", .image), ("a.opus", .audio),
      ("a.braw", .video),
    ] as [(String, MediaExtension.Kind)] {
      #expect(MediaExtension(ofFile: file)?.kind == kind, "\(file)")
    }
    for file in ["a", "mp4", ".mp4", "p.mp4/a", "a.txt", "a.mp4.txt", "a.", "a.mp4~"] {
      #expect(MediaExtension(ofFile: file) == nil, "\(file)")
    }
    for ending in [
      "mp4", "mkv", "webm", "avi", "png", "jpg", "jpe", "jfif", "webp", "jp2", "wav", "mp3",
    ] {
      #expect(MediaExtension(ofFile: "a." + ending)?.obstacle == nil, "\(ending)")
    }
    let raw = try #require(MediaExtension(ofFile: "a.NEF")?.obstacle)
    #expect(raw.hasPrefix("the installed FFmpeg ") && raw.hasSuffix("convert to PNG or JPEG"))
    #expect(!MediaExtension.decodable(.image).contains("nef"))
  }

  /// FFmpeg can decode every kind of file that is listed as decodable: one file of each kind that
  /// its program writes.
  @Test(arguments: [
    "bmp", "tga", "dpx", "jp2", "tiff", "ppm", "pam", "pcx", "ras", "sgi", "apng", "gif", "y4m",
  ])
  func listedFormatsCanBeRead(ending: String) throws {
    let path = folder.file("a.\(ending)")
    try ffmpeg(["-f", "lavfi", "-i", "color=red:s=32x32:r=5:d=0.2", path], in: folder)
    #expect(MediaExtension(ofFile: path)?.obstacle == nil)
    let frame = try #require(try VideoReader(path: path).next())
    #expect((frame.width, frame.height) == (32, 32) && frame.bytes[0] > 200 && frame.bytes[1] < 60)
  }
}

/// Writes a text file, and creates the folders above it.
private func write(_ text: String, to name: String, in folder: TemporaryFolder) throws {
  let url = URL(fileURLWithPath: folder.file(name))
  try FileManager.default.createDirectory(
    at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
  try Data(text.utf8).write(to: url)
}

/// The messages for paths that don't exist.
@Suite struct MissingFileTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    for name in [
      "clips/b.mp4", "clips/e\u{301}.mp4", "clips/sp .mp4", "clips/two.mp4", "clips/two.mov",
    ] {
      try write("x", to: name, in: folder)
    }
    try FileManager.default.createSymbolicLink(
      atPath: folder.file("clips/link.mp4"), withDestinationPath: "/nowhere/b.mp4")
  }

  @Test(arguments: [
    ("clips\\b.mp4", "/clips/b.mp4 is there: write / instead of \\."),
    ("clips\\c.mp4", "separate folders on Windows only"),
    ("C:\\clips\\c.mp4", "a path of Windows"),
    ("file:/ROOT/clips/b.mp4", "write ROOT/clips/b.mp4."),
    ("file:/clips/zzz.mp4", "a plain path is expected."),
    ("https:/example.com/b.mp4", "It is a URL. Download"), ("~/b.mp4", "expanded by shells"),
    ("$DATA/b.mp4", "Variables such as $DATA"),
    ("Clips/b.mp4", "/clips is there: its name differs in upper"),
    ("clips/B.MP4", "/clips/b.mp4 is there: its name differs in upper and lower case."),
    ("clips/\u{E9}.mp4", "its name differs in the Unicode normalization"),
    ("clips/sp.mp4", "sp .mp4 is there: its name differs in spaces"),
    ("clips/b\u{200B}.mp4", "clips/b.mp4 is there: its name differs in spaces or invisible"),
    ("clips/b.mov", "clips/b.mp4 is there: its name differs in its extension."),
    ("\"clips/b.mp4\"", "It stands in quotes"), ("clips%2Fb.mp4", "has percent signs"),
    ("clips/link.mp4", "a link to /nowhere/b.mp4, which does not exist"),
  ])
  func aLikelyPathIsNamed(path: String, hint: String) throws {
    let real = { (text: String) in text.replacingOccurrences(of: "ROOT", with: folder.path) }
    let found = try #require(MissingFile.hint(folder.file(real(path))))
    #expect(found.contains(real(hint)), "\(found)")
    #expect(found.hasSuffix("."))
  }

  @Test(arguments: ["clips/zzz.mp4", "clips/two.avi", "nowhere/b.mp4", "clips/b.mp4/c"])
  func nothingIsSaidWhereNothingIsNear(path: String) {
    #expect(MissingFile.hint(folder.file(path)) == nil)
  }

  @Test func aFolderThatChangesIsListedAgain() throws {
    #expect(MissingFile.hint(folder.file("clips/NEW.mp4")) == nil)
    // Past a tick of the file system's clock.
    usleep(20_000)
    try write("x", to: "clips/new.mp4", in: folder)
    #expect(MissingFile.hint(folder.file("clips/NEW.mp4")) != nil)
  }
}
