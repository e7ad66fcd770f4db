import Foundation
import TensorFiles
import Testing
import Torch

@Suite struct SafetensorsRoundTripTests {
  @Test(arguments: DType.allCases) func everyElementType(dtype: DType) throws {
    let folder = try ScratchFolder()
    let values = try Tensor((0..<24).map { Float($0 % 2) }, shape: [2, 3, 4]).to(dtype)
    try writeSafetensors(
      [
        ("a", values), ("scalar", try values.select(0, 1).select(0, 2).select(0, 3)),
        ("empty", try .empty([3, 0], dtype: dtype)),
      ],
      to: folder("x.safetensors"))
    let file = try SafetensorsFile(path: folder("x.safetensors"))
    #expect(file.keys == ["a", "empty", "scalar"])
    let read = try file.tensor("a")
    #expect(read.shape == [2, 3, 4])
    #expect(read.dtype == dtype)
    #expect(try bytes(read) == bytes(values))
    #expect(try file.tensor("scalar").shape == [])
    #expect(try file.tensor("scalar").to(.float32).item() == 1)
    #expect(try file.tensor("empty").shape == [3, 0])
    #expect(file.entries["a"]?.byteCount == 24 * dtype.size)
  }

  @Test func metadataAndDifficultNames() throws {
    let folder = try ScratchFolder()
    let metadata = [
      "config": "{\"a\": [1, \"é\"]}", "tab\there": "line\nbreak \u{1} \\ \"", "": "🎞",
    ]
    let names = ["a.b", "with \"quotes\"", "umlaut ä", "control \u{7}", ""]
    try writeSafetensors(
      try names.enumerated().map { ($1, try .scalar(Double($0))) }, metadata: metadata,
      to: folder("x"))
    let file = try SafetensorsFile(path: folder("x"))
    #expect(file.metadata == metadata)
    for (number, name) in names.enumerated() {
      #expect(try file.tensor(name).item() == Double(number))
    }
  }

  @Test func stridedTensorsAreWrittenInOrder() throws {
    let folder = try ScratchFolder()
    let transposed = try Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3]).transpose(0, 1)
    try writeSafetensors([("t", transposed)], to: folder("x"))
    #expect(
      try SafetensorsFile(path: folder("x")).tensor("t").array(of: Float.self) == [
        1, 4, 2, 5, 3, 6,
      ])
  }

  @Test func mixedTypesStayAligned() throws {
    let folder = try ScratchFolder()
    try writeSafetensors(
      [
        ("bytes", try Tensor([1, 2, 3] as [UInt8])),
        ("doubles", try Tensor([0.5, 0.25] as [Double])),
        ("halves", try Tensor([1] as [Float]).to(.bfloat16)), ("longs", try Tensor([7] as [Int])),
      ], to: folder("x"))
    let file = try SafetensorsFile(path: folder("x"))
    for (key, entry) in file.entries {
      #expect(entry.range.lowerBound % entry.dtype.size == 0, "\(key) is aligned")
    }
    #expect(try file.tensor("doubles").array(of: Double.self) == [0.5, 0.25])
    #expect(try file.tensor("longs").array(of: Int.self) == [7])
  }

  @Test func equalContentMakesEqualFiles() throws {
    let folder = try ScratchFolder()
    let a = ("a", try Tensor([1, 2] as [Float]))
    let b = ("b", try Tensor([3] as [Float]))
    let metadata = Dictionary(uniqueKeysWithValues: (0..<20).map { ("key \($0)", "\($0)") })
    try writeSafetensors([a, b], metadata: metadata, to: folder("1"))
    try writeSafetensors([b, a], metadata: metadata, to: folder("2"))
    #expect(
      FileManager.default.contents(atPath: folder("1"))
        == FileManager.default.contents(atPath: folder("2")))
  }

  @Test func anEmptyFileOfNoTensors() throws {
    let folder = try ScratchFolder()
    try writeSafetensors([], to: folder("x"))
    #expect(try SafetensorsFile(path: folder("x")).entries.isEmpty)
  }
}

@Suite struct SafetensorsReadingTests {
  @Test func tensorsAreViewsThatKeepTheMapAlive() throws {
    let folder = try ScratchFolder()
    let count = 1 << 20
    try writeSafetensors([("x", try .full([count], 3))], to: folder("x"))
    var file: SafetensorsFile? = try SafetensorsFile(path: folder("x"))
    let first = try #require(try file?.tensor("x"))
    let again = try #require(try file?.tensor("x"))
    let address = try first.withUnsafeBytes { $0.baseAddress }
    #expect(try again.withUnsafeBytes { $0.baseAddress } == address)
    weak let observed = file
    file = nil
    #expect(observed == nil)
    // a deleted file remains readable through its map
    try FileManager.default.removeItem(atPath: folder("x"))
    #expect(try first.sum().item() == Double(3 * count))
  }

  @Test func fortyGigabytesOpenWithoutMemory() throws {
    let folder = try ScratchFolder()
    let size = 40 << 30
    let bytes = safetensors(
      "{\"a\":{\"dtype\":\"BF16\",\"shape\":[\(size / 4)],\"data_offsets\":[0,\(size / 2)]},"
        + "\"b\":{\"dtype\":\"F32\",\"shape\":[\(size / 8)],\"data_offsets\":[\(size / 2),\(size)]}}",
      data: 0, aligned: true)
    let path = try folder.write(bytes, as: "x")
    #expect(truncate(path, bytes.count + size) == 0)
    let before = try residentBytes()
    let start = ContinuousClock.now
    let file = try SafetensorsFile(path: path)
    let last = try file.tensor("b").narrow(0, size / 8 - 4, 4)
    #expect(try last.array(of: Float.self) == [0, 0, 0, 0])
    // The limit is generous: opening takes microseconds, but this machine may be busy. Reading 40
    // GB takes more than ten seconds.
    #expect(ContinuousClock.now - start < .seconds(2))
    // Other tests run at the same time and may load libtorch, but reading 40 GB would still be
    // noticed.
    #expect(try residentBytes() - before < 4 << 30)
  }

  private func residentBytes() throws -> Int {
    let status = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
    return try #require(Int(status.split(separator: " ")[1])) * Int(getpagesize())
  }

  @Test func unalignedTensorsAreCopied() throws {
    let header =
      #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"I32","shape":[2],"data_offsets":[1,9]}}"#
    for padding in 0..<8 {
      let file = try SafetensorsFile(
        name: "x", content: safetensors(header + String(repeating: " ", count: padding), data: 9))
      #expect(try file.tensor("a").array(of: UInt8.self) == [0])
      #expect(try file.tensor("b").array(of: Int32.self) == [0x0403_0201, 0x0807_0605])
    }
  }

  @Test func boolsAreNormalized() throws {
    let header = #"{"a":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}"#
    let file = try SafetensorsFile(name: "x", content: safetensors(header, data: 4))
    #expect(try file.tensor("a").array(of: Bool.self) == [false, true, true, true])
    #expect(try bytes(file.tensor("a")) == [0, 1, 1, 1])
  }

  @Test func headersThatUpstreamsReaderAccepts() throws {
    let accepted = [
      ("{}", 0), (" \n{ } \t", 0),
      (#"{"__metadata__":null}"#, 0), (#"{"__metadata__":{}}"#, 0),
      (
        #"{"a":{"shape":[],"dtype":"U8","data_offsets":[0,1],"more":[{"x":[1.5e3,-0,true,null,"\u00e9"]}]}}"#,
        1
      ),
      (
        #"{"a":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        4
      ),
      (
        #"{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        3
      ),
      (#"{"😀":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1),
    ]
    for (header, count) in accepted {
      let file = try SafetensorsFile(name: "x", content: safetensors(header, data: count))
      for key in file.keys { _ = try file.tensor(key) }
    }
    let escaped = #"{"\ud83d\ude00\/":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
    #expect(try SafetensorsFile(name: "x", content: safetensors(escaped, data: 1)).keys == ["😀/"])
  }

  /// Strings of every length and alignment, with escapes, control characters and other alphabets in
  /// every position.
  @Test func metadataIsWhatJSONSays() throws {
    let pieces = [
      "", "a", "seven77", "eight888", "\"", "\\", "/", "\n", "\u{1}", "\u{7f}", "é", "日本", "😀",
      String(repeating: "long ", count: 9),
    ]
    var metadata: [String: String] = [:]
    for (i, a) in pieces.enumerated() {
      for (j, b) in pieces.enumerated() {
        for c in pieces { metadata["\(i) \(j) \(c)"] = a + c + b + c + a }
      }
    }
    let content = try JSONSerialization.data(withJSONObject: ["__metadata__": metadata])
    for header in [
      String(decoding: content, as: UTF8.self),
      String(decoding: content, as: UTF8.self).unicodeScalars.map {
        $0.isASCII ? String($0) : $0.utf16.map { String(format: "\\u%04x", $0) }.joined()
      }.joined(),
    ] {
      #expect(
        try SafetensorsFile(name: "x", content: safetensors(header, data: 0)).metadata == metadata)
    }
    for bytes: [UInt8] in [[0xFF], [0xC3], [0xE2, 0x82], [0xC0, 0x80], [0xED, 0xA0, 0x80]] {
      for before in ["", "1234567", "\\n"] {
        let header =
          Array("{\"__metadata__\":{\"a\":\"\(before)".utf8) + bytes + Array("12345678\"}}".utf8)
        let size = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) }
        #expect(throws: TensorFileError.self) {
          try SafetensorsFile(name: "x", content: size + header)
        }
      }
    }
  }

  @Test func fiveThousandKeysParseQuickly() throws {
    let members = (0..<5000).map {
      #""transformer.blocks.\#($0).attention.to_q.weight":{"dtype":"BF16","shape":[4,2],"data_offsets":[\#($0 * 16),\#($0 * 16 + 16)]}"#
    }
    let content = safetensors("{" + members.joined(separator: ",") + "}", data: 80_000)
    let start = ContinuousClock.now
    let file = try SafetensorsFile(name: "x", content: content)
    print("a header of 5000 keys: \(ContinuousClock.now - start)")
    #expect(file.entries.count == 5000)
  }

  @Test func missingTensorsAndFiles() throws {
    let folder = try ScratchFolder()
    try writeSafetensors([("a", try .scalar(1))], to: folder("x"))
    let file = try SafetensorsFile(path: folder("x"))
    let missing = try failure { _ = try file.tensor("b") }
    #expect(missing?.kind == .missingTensor)
    #expect(missing?.key == "b")
    #expect(missing?.path == folder("x"))
    #expect(try failure { _ = try SafetensorsFile(path: folder("none")) }?.kind == .notFound)
    #expect(try failure { _ = try SafetensorsFile(path: folder.path) }?.kind == .unreadable)
    #expect(
      try failure { _ = try SafetensorsFile(path: folder.write([], as: "empty")) }?.kind
        == .truncated)
  }
}
