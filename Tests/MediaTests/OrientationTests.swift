import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// The orientation of frames, from all of its sources.
@Suite struct OrientationTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Exif's eight values, and the 2x2 matrices `[xx, yx, xy, yy]` in the order of an MP4.
  static let matrices: [(exif: Int, matrix: [Int32])] = [
    (1, [1, 0, 0, 1]), (2, [-1, 0, 0, 1]), (3, [-1, 0, 0, -1]), (4, [1, 0, 0, -1]),
    (5, [0, 1, 1, 0]),
    (6, [0, 1, -1, 0]), (7, [0, -1, -1, 0]), (8, [0, -1, 1, 0]),
  ]

  /// The frame in the orientation of Exif's value, directly from the standard's table: the position
  /// of row 0 and column 0.
  private func shown(_ frame: RGBFrame, exif: Int) -> RGBFrame {
    let (width, height) = exif > 4 ? (frame.height, frame.width) : (frame.width, frame.height)
    var bytes = [UInt8](repeating: 0, count: frame.bytes.count)
    for y in 0..<frame.height {
      for x in 0..<frame.width {
        let (right, bottom) = (frame.width - 1 - x, frame.height - 1 - y)
        let (column, row) = [
          (x, y), (right, y), (right, bottom), (x, bottom), (y, x), (bottom, x), (bottom, right),
          (y, right),
        ][exif - 1]
        for c in 0..<3 {
          bytes[3 * (row * width + column) + c] = frame.bytes[3 * (y * frame.width + x) + c]
        }
      }
    }
    return RGBFrame(bytes: bytes, width: width, height: height)
  }

  /// A test card without any symmetry, 64x48.
  private func makeCard(_ name: String, _ options: [String], seconds: Double = 0.2) throws {
    try ffmpeg(
      ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=\(seconds)"] + options + [name],
      in: folder)
  }

  private func data(_ name: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: folder.file(name)))
  }

  /// Writes another matrix into the track header of an MP4 or MOV.
  private func turn(
    _ name: String, as other: String, _ matrix: [Int32], width: Int32 = 64, height: Int32 = 48
  )
    throws
  {
    var bytes = try data(name)
    let place = try #require(bytes.range(of: Data("tkhd".utf8))).lowerBound + 44
    // Moved so that the frame is at the origin.
    let x = max(0, -(matrix[0] * width)) + max(0, -(matrix[2] * height))
    let y = max(0, -(matrix[1] * width)) + max(0, -(matrix[3] * height))
    let values =
      [matrix[0], matrix[1], 0, matrix[2], matrix[3], 0, x, y].map { $0 << 16 } + [1 << 30]
    for (index, value) in values.enumerated() {
      withUnsafeBytes(of: value.bigEndian) {
        bytes.replaceSubrange((place + 4 * index)..<(place + 4 * index + 4), with: $0)
      }
    }
    try bytes.write(to: URL(fileURLWithPath: folder.file(other)))
  }

  private func first(_ name: String, applyRotation: Bool = true) throws -> RGBFrame {
    try #require(try VideoReader(path: folder.file(name), applyRotation: applyRotation).next())
  }

  private func isShown(_ name: String, as exif: Int, of card: RGBFrame) throws -> Bool {
    let wanted = shown(card, exif: exif)
    let found = try first(name)
    return found.width == wanted.width && found.height == wanted.height
      && found.bytes == wanted.bytes
  }

  @Test func matricesExifAndTurnsAgree() {
    for (exif, matrix) in Self.matrices {
      let values = [matrix[0], matrix[1], 0, matrix[2], matrix[3], 0, 7, 9, 1 << 14].map {
        Int32($0) << 16
      }
      let orientation = Orientation(exif: exif)
      #expect(DisplayMatrix(values) == .orientation(orientation ?? .upright) && orientation != nil)
      #expect(
        orientation.map { Orientation(turns: $0.turns, isMirrored: $0.isMirrored) } == orientation)
    }
    #expect(Orientation(exif: 0) == nil && Orientation(exif: 9) == nil)
    // Neither scale nor the rounding of a sine matters.
    #expect(
      DisplayMatrix([3, 131072, 0, -65536, 2, 0, 0, 0, 1 << 30])
        == .orientation(Orientation(turns: 1)))
    guard
      case .other(let degrees) = DisplayMatrix([56756, 32768, 0, -32768, 56756, 0, 0, 0, 1 << 30])
    else {
      Issue.record("30 degrees are not a quarter turn")
      return
    }
    #expect(abs(degrees - 30) < 0.01)
  }

  @Test(arguments: ["a.mp4", "a.mov"]) func everyMatrixOfATrackIsApplied(name: String) throws {
    try makeCard(name, ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-vf", "setsar=4/3"])
    let card = try first(name)
    for (exif, matrix) in Self.matrices {
      try turn(name, as: "turned-" + name, matrix)
      #expect(try isShown("turned-" + name, as: exif, of: card), "\(exif)")
      let reader = try VideoReader(path: folder.file("turned-" + name))
      #expect(reader.pixelAspect == (exif > 4 ? Rational(3, 4) : Rational(4, 3)))
      #expect(try first("turned-" + name, applyRotation: false).bytes == card.bytes)
    }
  }

  @Test func anotherAngleIsReported() throws {
    try makeCard("a.mp4", ["-pix_fmt", "yuv420p"])
    try turn("a.mp4", as: "b.mp4", [1, 1, -1, 1])
    let reader = try VideoReader(path: folder.file("b.mp4"))
    #expect(
      reader.orientation == .upright && reader.unusedRotation.map { abs($0 - 45) < 0.01 } == true)
    #expect(try VideoReader(path: folder.file("a.mp4")).unusedRotation == nil)
  }

  @Test(arguments: [false, true]) func splitAppliesOrKeepsEveryMatrix(copies: Bool) throws {
    try makeCard("a.mp4", ["-pix_fmt", "yuv420p", "-crf", "5"])
    for (exif, matrix) in Self.matrices {
      try turn("a.mp4", as: "b.mp4", matrix)
      var splitter = SceneSplitter()
      splitter.output = copies ? .copied : .encoded
      splitter.quality = VideoWriter.Quality(crf: 5, preset: "superfast")
      let result = try splitter.split(folder.file("b.mp4"), into: folder.file("out"))
      let scene = try #require(result.scenes.first?.file)
      #expect(
        try VideoReader(path: folder.file("out/" + scene)).orientation
          == (copies ? Orientation(exif: exif) : .upright))
      let (source, written) = (try first("b.mp4"), try first("out/" + scene))
      #expect(source.width == written.width && psnr(source, written) > 34, "\(exif)")
    }
  }

  /// Messages within H.264, if the container has no orientation.
  @Test(arguments: [("rotate=90", 8), ("rotate=180:flip=horizontal", 4), ("flip=horizontal", 2)])
  func messagesInTheStreamAreApplied(options: String, exif: Int) throws {
    try makeCard("a.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv420p"])
    let card = try first("a.mp4")
    let filter = "h264_metadata=display_orientation=insert:" + options
    for name in ["b.mkv", "b.ts", "b.mp4"] {
      try ffmpeg(["-i", "a.mp4", "-c", "copy", "-bsf:v", filter, name], in: folder)
      #expect(try isShown(name, as: exif, of: card), "\(name)")
    }
    // The container's matrix takes precedence.
    try turn("b.mp4", as: "c.mp4", [0, 1, -1, 0])
    #expect(try isShown("c.mp4", as: 6, of: card))
  }

  /// FFmpeg 5 neither reads nor writes it, so an element of color becomes one of projection.
  @Test(arguments: [(0, 90, 8), (0, -90, 6), (180, 0, 2), (180, 180, 4), (180, 90, 5), (0, 180, 3)])
  func matroskasPoseIsApplied(yaw: Int, roll: Int, exif: Int) throws {
    let tags = [
      "-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range",
      "tv",
    ]
    try makeCard(
      "a.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv444p", "-chroma_sample_location", "left"] + tags)
    try makeCard("plain.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv444p"])
    var bytes = try data("a.mkv")
    // The element's id, a size of one byte, and the id of its first part.
    let places = bytes.indices.dropLast(4)
    let place = try #require(
      places.first {
        bytes[$0] == 0x55 && bytes[$0 + 1] == 0xB0 && bytes[$0 + 2] & 0xC0 == 0x80
          && bytes[$0 + 3] == 0x55
      })
    let size = Int(bytes[place + 2] & 0x7F)
    var pose: [UInt8] = []
    for (id, angle) in [(UInt8(0x73), yaw), (0x75, roll)] {
      pose += [0x76, id, 0x84] + withUnsafeBytes(of: Float(angle).bitPattern.bigEndian, Array.init)
    }
    try #require(bytes[place + 2] & 0x80 != 0 && size >= pose.count + 2)
    pose +=
      [0xEC, 0x80 | UInt8(size - pose.count - 2)]
      + [UInt8](repeating: 0, count: size - pose.count - 2)
    bytes.replaceSubrange(
      place..<(place + 3 + size), with: [0x76, 0x70, 0x80 | UInt8(size)] + pose)
    try bytes.write(to: URL(fileURLWithPath: folder.file("b.mkv")))
    #expect(try isShown("b.mkv", as: exif, of: first("plain.mkv")))
  }

  /// A TIFF header with one directory, which Exif is.
  private func exif(_ value: Int, isBig: Bool) -> Data {
    func number(_ value: Int, _ length: Int) -> [UInt8] {
      let bytes = (0..<length).map { UInt8(value >> (8 * $0) & 255) }
      return isBig ? bytes.reversed() : bytes
    }
    return Data(
      (isBig ? [0x4D, 0x4D] : [0x49, 0x49]) + number(42, 2) + number(8, 4) + number(1, 2)
        + number(0x112, 2)
        + number(3, 2) + number(1, 4) + number(value, 2) + [0, 0] + number(0, 4))
  }

  private func number(_ value: Int, _ length: Int) -> Data {
    Data((0..<length).map { UInt8(value >> (8 * $0) & 255) })
  }

  /// - Returns: The name of an image with an orientation.
  private func makeImage(_ kind: String, exif value: Int) throws -> String {
    let name = "turned." + kind
    var bytes = try data("card." + kind)
    let isBig = value % 2 == 0
    switch kind {
    case "webp":
      let marked = value > 4 ? Data("Exif\0\0".utf8) : Data()
      let content = marked + exif(value, isBig: isBig)
      let header =
        Data("VP8X".utf8) + number(10, 4) + Data([8, 0, 0, 0]) + number(63, 3) + number(47, 3)
      bytes.insert(contentsOf: header, at: 12)
      bytes += Data("EXIF".utf8) + number(content.count, 4) + content
      bytes.replaceSubrange(4..<8, with: number(bytes.count - 8, 4))
    case "png":
      let content = exif(value, isBig: isBig)
      // The checksum isn't verified.
      bytes.insert(
        contentsOf: Data(number(content.count, 4).reversed()) + Data("eXIf".utf8) + content
          + Data(count: 4),
        at: 33)
    case "jpg":
      let content = Data("Exif\0\0".utf8) + exif(value, isBig: isBig)
      bytes.insert(
        contentsOf: Data([0xFF, 0xE1]) + Data(number(content.count + 2, 2).reversed()) + content,
        at: 2)
    default:
      // A new directory at the end of the TIFF, with one entry more.
      let place = Int(bytes[4]) | Int(bytes[5]) << 8 | Int(bytes[6]) << 16
      let count = Int(bytes[place]) | Int(bytes[place + 1]) << 8
      var entries = (0..<count).map { bytes[(place + 2 + 12 * $0)..<(place + 14 + 12 * $0)] }.map {
        Data($0)
      }
      entries.append(number(0x112, 2) + number(3, 2) + number(1, 4) + number(value, 4))
      entries.sort { Int($0[0]) | Int($0[1]) << 8 < Int($1[0]) | Int($1[1]) << 8 }
      if bytes.count % 2 == 1 { bytes.append(0) }
      bytes.replaceSubrange(4..<8, with: number(bytes.count, 4))
      bytes += number(count + 1, 2) + entries.reduce(Data(), +) + number(0, 4)
    }
    try bytes.write(to: URL(fileURLWithPath: folder.file(name)))
    return name
  }

  @Test(arguments: ["webp -c:v libwebp -lossless 1", "png", "jpg -q:v 2", "tiff"])
  func exifTurnsImagesOfEveryFormat(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try makeCard("card." + words[0], ["-frames:v", "1"] + words.dropFirst())
    let card = try first("card." + words[0])
    for value in 1...8 {
      let name = try makeImage(words[0], exif: value)
      #expect(try isShown(name, as: value, of: card), "\(value)")
    }
  }

  /// A box of HEIF.
  private func box(_ name: String, _ content: [Data]) -> Data {
    let content = content.reduce(Data(), +)
    return Data(number(content.count + 8, 4).reversed()) + Data(name.utf8) + content
  }

  @Test(
    arguments: [
      (1, nil, 8), (3, nil, 6), (nil, 1, 2), (nil, 0, 4), (1, 0, 5), (1, 1, 7), (2, nil, 3),
    ]
      as [(UInt8?, UInt8?, Int)])
  func propertiesOfHEIFAreRead(turns: UInt8?, mirror: UInt8?, exif: Int) throws {
    var properties = [box("ispe", [Data(count: 12)])]
    var links: [UInt8] = [1]
    if let turns {
      properties.append(box("irot", [Data([turns])]))
      links.append(0x80 | UInt8(properties.count))
    }
    if let mirror {
      properties.append(box("imir", [Data([mirror])]))
      links.append(0x80 | UInt8(properties.count))
    }
    let header = Data(count: 4)
    let info = box("infe", [Data([2, 0, 0, 0, 0, 7, 0, 0]), Data("av01".utf8), Data([0])])
    let file = [
      box("ftyp", [Data("avif".utf8), header]),
      box(
        "meta",
        [
          header, box("pitm", [header, Data([0, 7])]), box("iinf", [header, Data([0, 1]), info]),
          box(
            "iprp",
            [
              box("ipco", properties),
              // Another item comes first, whose properties are ignored.
              box(
                "ipma", [header, Data([0, 0, 0, 2, 0, 3, 1, 1, 0, 7, UInt8(links.count)] + links)]),
            ]),
        ]),
    ].reduce(Data(), +)
    try file.write(to: URL(fileURLWithPath: folder.file("a.avif")))
    let found = try #require(FileBytes(path: folder.file("a.avif")).flatMap(HEIFProperties.init))
    #expect(found.itemType == "av01" && found.orientation == Orientation(exif: exif))
    #expect(FileOrientation.read(path: folder.file("a.avif")) == Orientation(exif: exif))
    // Truncated anywhere, nothing crashes.
    for count in 0..<file.count {
      try file.prefix(count).write(to: URL(fileURLWithPath: folder.file("cut.avif")))
      _ = FileOrientation.read(path: folder.file("cut.avif"))
    }
  }
}
