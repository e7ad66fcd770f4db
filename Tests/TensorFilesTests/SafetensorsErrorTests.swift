import Foundation
import TensorFiles
import Testing
import Torch

/// A malformed file and the expected error.
struct MalformedHeader: CustomTestStringConvertible, Sendable {
  let kind: TensorFileError.Kind
  let header: String
  let data: Int
  let key: String?

  init(_ kind: TensorFileError.Kind, _ header: String, data: Int = 0, key: String? = nil) {
    self.kind = kind
    self.header = header
    self.data = data
    self.key = key
  }

  var testDescription: String { "\(kind): \(header.prefix(90))" }

  private static func entry(_ dtype: String, _ shape: String, _ offsets: String) -> String {
    "{\"a\":{\"dtype\":\(dtype),\"shape\":\(shape),\"data_offsets\":\(offsets)}}"
  }

  static let all: [MalformedHeader] = [
    .init(.notJSON, ""), .init(.notJSON, "hello"), .init(.notJSON, "[]"), .init(.notJSON, "{"),
    .init(.notJSON, "{}{}"), .init(.notJSON, "{\"a\"}"), .init(.notJSON, "{\"a\":}"),
    .init(.notJSON, "{,}"),
    .init(.notJSON, "{\"__metadata__\":{},}"), .init(.notJSON, "{'a':1}"),
    .init(.notJSON, "{\"a\n\":1}"),
    .init(.notJSON, "{\"\\x\":1}"), .init(.notJSON, "{\"\\u12\":1}"),
    .init(.notJSON, "{\"\\ud800\":1}"),
    .init(.notJSON, "{\"\\udc00\":1}"), .init(.notJSON, "{\"\\ud800\\u0041\":1}"),
    .init(.notJSON, "{\"a"),
    .init(.notJSON, "{\"a\":tru}"), .init(.notJSON, "{\"a\":01}"), .init(.notJSON, "{\"a\":1.}"),
    .init(.notJSON, "{\"a\":-}"), .init(.notJSON, "{\"a\":1e}"),
    .init(.notJSON, entry("\"U8\"", "[01]", "[0,1]"), data: 1, key: "a"),
    .init(.notJSON, "{\"a\":" + String(repeating: "[", count: 1_000_000)),
    .init(.notJSON, "{\"a\":{\"x\":" + String(repeating: "{\"x\":", count: 200_000)),
    .init(.badEntry, "{\"a\":1}", key: "a"), .init(.badEntry, "{\"a\":[]}", key: "a"),
    .init(.badEntry, "{\"a\":{}}", key: "a"), .init(.badEntry, "{\"a\":null}", key: "a"),
    .init(.badEntry, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", data: 1, key: "a"),
    .init(.badEntry, "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", data: 1, key: "a"),
    .init(.badEntry, "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", data: 1, key: "a"),
    .init(
      .badEntry, "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
      data: 1,
      key: "a"),
    .init(.badEntry, entry("8", "[1]", "[0,1]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "1", "[0,1]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[-1]", "[0,1]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[1.0]", "[0,1]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[\"1\"]", "[0,1]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[99999999999999999999999]", "[0,1]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"F32\"", "[4611686018427387904]", "[0,0]"), key: "a"),
    .init(.badEntry, entry("\"F32\"", "[4294967296,4294967296]", "[0,0]"), key: "a"),
    .init(.badEntry, entry("\"F32\"", "[4611686018427387904,0]", "[0,0]"), key: "a"),
    .init(.badEntry, entry("\"F32\"", "[2]", "[0,7]"), data: 7, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[1]", "[1,0]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[1]", "[0]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[1]", "[0,1,2]"), data: 1, key: "a"),
    .init(.badEntry, entry("\"U8\"", "[1]", "[9223372036854775806,9223372036854775807]"), key: "a"),
    .init(
      .badEntry, entry("\"U8\"", "[" + String(repeating: "1,", count: 99) + "1]", "[0,1]"), data: 1,
      key: "a"),
    .init(.badEntry, "{\"__metadata__\":[]}", key: "__metadata__"),
    .init(.badEntry, "{\"__metadata__\":{\"a\":1}}", key: "__metadata__"),
    .init(.unsupportedDType, entry("\"C64\"", "[1]", "[0,8]"), data: 8, key: "a"),
    .init(.unsupportedDType, entry("\"f32\"", "[1]", "[0,4]"), data: 4, key: "a"),
    .init(
      .duplicateKey,
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
        + "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", data: 1, key: "a"),
    .init(.duplicateKey, "{\"__metadata__\":{},\"__metadata__\":{}}", key: "__metadata__"),
    .init(.duplicateKey, "{\"__metadata__\":{\"x\":\"\",\"x\":\"\"}}", key: "x"),
    .init(
      .overlap,
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
        + "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", data: 3, key: "b"),
    .init(.gap, entry("\"U8\"", "[1]", "[1,2]"), data: 2, key: "a"),
    .init(.gap, entry("\"U8\"", "[1]", "[0,1]"), data: 2),
    .init(.gap, "{}", data: 1),
    .init(.truncated, entry("\"F32\"", "[4]", "[0,16]"), data: 15, key: "a"),
    .init(.truncated, entry("\"U8\"", "[1099511627776]", "[0,1099511627776]"), data: 15, key: "a"),
  ]
}

@Suite struct SafetensorsErrorTests {
  @Test(arguments: MalformedHeader.all) func malformed(header: MalformedHeader) throws {
    let error = try #require(
      try failure {
        _ = try SafetensorsFile(
          name: "dir/x.safetensors", content: safetensors(header.header, data: header.data))
      })
    #expect(error.kind == header.kind, "\(error)")
    #expect(error.path == "dir/x.safetensors")
    if let key = header.key { #expect(error.key == key) }
    #expect(error.description.hasPrefix("dir/x.safetensors: "))
  }

  @Test func headerLengths() throws {
    func kind(_ bytes: [UInt8]) throws -> TensorFileError.Kind? {
      try failure { _ = try SafetensorsFile(name: "x", content: bytes) }?.kind
    }
    #expect(try kind([]) == .truncated)
    #expect(try kind([1, 2, 3]) == .truncated)
    #expect(try kind([9, 0, 0, 0, 0, 0, 0, 0, 0x7B]) == .truncated)
    #expect(try kind([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7B]) == .oversizedHeader)
    #expect(
      try kind(withUnsafeBytes(of: UInt64(100_000_001).littleEndian, Array.init))
        == .oversizedHeader)
    #expect(
      try kind(withUnsafeBytes(of: UInt64(100_000_000).littleEndian, Array.init)) == .truncated)
    #expect(try kind([2, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFE]) == .notJSON)
    let notUTF8: [UInt8] = [0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D]
    #expect(try kind([7, 0, 0, 0, 0, 0, 0, 0] + notUTF8) == .notJSON)
  }
}

@Suite struct SafetensorsWritingErrorTests {
  @Test func keysThatHaveNoPlace() throws {
    let folder = try ScratchFolder()
    let one = try Tensor.scalar(1)
    #expect(
      try failure { try writeSafetensors([("a", one), ("a", one)], to: folder("x")) }?.kind
        == .duplicateKey)
    #expect(
      try failure { try writeSafetensors([("__metadata__", one)], to: folder("x")) }?.kind
        == .badEntry)
    #expect(try folder.names() == [])
  }

  @Test func aFailureLeavesNothingNew() throws {
    let folder = try ScratchFolder()
    let one = try Tensor.scalar(1)
    let missing = try failure { try writeSafetensors([("a", one)], to: folder("no/such/x")) }
    #expect(missing?.kind == .notWritten)

    // A folder with the name of the file.
    try FileManager.default.createDirectory(
      atPath: folder("taken"), withIntermediateDirectories: false)
    #expect(
      try failure { try writeSafetensors([("a", one)], to: folder("taken")) }?.kind == .notWritten)
    #expect(try folder.names() == ["taken"])
  }

  @Test func aFailureMidwayLeavesTheOldFile() throws {
    let folder = try ScratchFolder()
    try writeSafetensors([("a", try .scalar(1))], to: folder("x"))
    // Writing it needs a contiguous copy of 4 PB, which fails after the first tensor has been
    // written.
    let endless = try Tensor.scalar(0).expand([1 << 50])
    let failing = [("a", try Tensor.zeros([100_000], dtype: .float64)), ("b", endless)]
    let error = #expect(throws: TorchError.self) { try writeSafetensors(failing, to: folder("x")) }
    #expect(error?.kind == .outOfMemory)
    #expect(throws: TorchError.self) { try writeSafetensors(failing, to: folder("new")) }
    #expect(try SafetensorsFile(path: folder("x")).tensor("a").item() == 1)
    #expect(try folder.names() == ["x"])
  }

  @Test func readersKeepTheFileThatWasReplaced() throws {
    let folder = try ScratchFolder()
    try writeSafetensors([("a", try .full([1000], 1))], to: folder("x"))
    let old = try SafetensorsFile(path: folder("x")).tensor("a")
    try writeSafetensors([("a", try .full([10], 2))], to: folder("x"))
    #expect(try old.sum().item() == 1000)
    #expect(try SafetensorsFile(path: folder("x")).tensor("a").sum().item() == 20)
    #expect(try folder.names() == ["x"])
  }
}

@Suite struct ShardedSafetensorsTests {
  let folder: ScratchFolder

  init() throws {
    folder = try ScratchFolder()
    try writeSafetensors(
      [("a", try .scalar(1)), ("extra", try .scalar(9))], metadata: ["format": "pt"],
      to: folder("model-1.safetensors"))
    try writeSafetensors(
      [("b", try .scalar(2))], metadata: ["format": "x", "y": "z"],
      to: folder("model-2.safetensors"))
  }

  private func index(_ text: String) throws {
    _ = try folder.write(Array(text.utf8), as: "model.safetensors.index.json")
  }

  private func kind() throws -> TensorFileError.Kind? {
    try failure { _ = try ShardedSafetensors(folder: folder.path) }?.kind
  }

  @Test func readsAcrossShards() throws {
    try index(
      #"{"metadata":{"total_size":8},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#
    )
    let shards = try openTensors(at: folder.path)
    #expect(shards.keys == ["a", "b"])
    #expect(try shards.tensor("a").item() == 1)
    #expect(try shards.tensor("b").item() == 2)
    #expect(shards.metadata == ["format": "pt", "y": "z"])
    #expect(try failure { _ = try shards.tensor("extra") }?.kind == .missingTensor)
  }

  @Test func oneFileNeedsNoIndex() throws {
    #expect(try kind() == .badIndex)  // two files need one
    try FileManager.default.removeItem(atPath: folder("model-2.safetensors"))
    #expect(try openTensors(at: folder.path).keys == ["a", "extra"])
    #expect(try openTensors(at: folder("model-1.safetensors")).keys == ["a", "extra"])
    try FileManager.default.removeItem(atPath: folder("model-1.safetensors"))
    #expect(try kind() == .notFound)
    #expect(try failure { _ = try ShardedSafetensors(folder: folder("none")) }?.kind == .notFound)
  }

  @Test func badIndices() throws {
    for (text, expected): (String, TensorFileError.Kind) in [
      ("", .notJSON), ("[]", .notJSON), ("{\"weight_map\":{}}x", .notJSON), ("{}", .badIndex),
      ("{\"weight_map\":{}}", .badIndex), ("{\"weight_map\":3}", .badIndex),
      ("{\"weight_map\":{\"a\":3}}", .badIndex),
      ("{\"weight_map\":{\"a\":\"../model-1.safetensors\"}}", .badIndex),
      ("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", .badIndex),
      ("{\"weight_map\":{\"a\":\"\"}}", .badIndex),
      ("{\"weight_map\":{\"a\":\"..\"}}", .badIndex),
      ("{\"weight_map\":{\"a\":\"model-3.safetensors\"}}", .notFound),
      ("{\"weight_map\":{\"a\":\"model-2.safetensors\"}}", .missingTensor),
      (
        "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"a\":\"model-1.safetensors\"}}",
        .duplicateKey
      ),
    ] {
      try index(text)
      #expect(try kind() == expected, "\(text)")
    }
  }

  @Test func aBrokenShardIsNamed() throws {
    try index(#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#)
    _ = try folder.write([1, 2, 3], as: "model-2.safetensors")
    let error = try failure { _ = try ShardedSafetensors(folder: folder.path) }
    #expect(error?.kind == .truncated)
    #expect(error?.path == folder("model-2.safetensors"))
  }
}
