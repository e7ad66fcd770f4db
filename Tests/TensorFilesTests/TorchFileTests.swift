import Foundation
import TensorFiles
import Testing
import Torch

/// The files written by Tests/Oracles/pt_files.py.
enum PtFixtures {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .appendingPathComponent("Fixtures/pt").path

  static func path(_ name: String) -> String { "\(folder)/\(name).pt" }

  static func content(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: path(name))))
  }

  struct Expected: Decodable {
    struct Tensor: Decodable {
      let dtype: String
      let shape: [Int]
      let values: [Double]
    }
    let files: [String: [String: Tensor]]
  }

  static func expected() throws -> [String: [String: Expected.Tensor]] {
    let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/expected.json"))
    return try JSONDecoder().decode(Expected.self, from: data).files
  }
}

/// A zip archive of uncompressed entries in the layout of `torch.save`.
func storedZip(_ entries: [(name: String, content: [UInt8])]) -> [UInt8] {
  func little(_ numbers: (Int, bytes: Int)...) -> [UInt8] {
    numbers.flatMap { number, bytes in
      (0..<bytes).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
  }
  var body: [UInt8] = []
  var directory: [UInt8] = []
  for (name, content) in entries {
    let sizes = little((content.count, 4), (content.count, 4), (name.utf8.count, 2), (0, 2))
    directory += little((0x0201_4B50, 4), (20, 2), (20, 2)) + little((0, 12)) + sizes
    directory += little((0, 2), (0, 2), (0, 2), (0, 4), (body.count, 4)) + Array(name.utf8)
    body += little((0x0403_4B50, 4), (20, 2)) + little((0, 12)) + sizes + Array(name.utf8) + content
  }
  return body + directory
    + little(
      (0x0605_4B50, 4), (0, 4), (entries.count, 2), (entries.count, 2), (directory.count, 4),
      (body.count, 4),
      (0, 2))
}

@Suite struct TorchFileTests {
  @Test(arguments: ["dtypes", "strided", "shared", "nested", "module", "parameter", "latents"])
  func valuesEqualPyTorchs(name: String) throws {
    let file = try TorchFile(path: PtFixtures.path(name))
    let expected = try #require(try PtFixtures.expected()[name])
    #expect(!expected.isEmpty)
    for (key, description) in expected {
      let tensor = try file.tensor(key)
      #expect(tensor.dtype.rawValue == description.dtype, "\(key)")
      #expect(tensor.shape == description.shape, "\(key)")
      #expect(try tensor.array(of: Double.self) == description.values, "\(key)")
    }
  }

  @Test func tensorsOfOneStorageShareMemory() throws {
    let file = try TorchFile(path: PtFixtures.path("shared"))
    let whole = try file.tensor("whole").withUnsafeBytes { $0.baseAddress }
    #expect(try file.tensor("again").withUnsafeBytes { $0.baseAddress } == whole)
    #expect(try file.tensor("tail").withUnsafeBytes { $0.baseAddress } == whole.map { $0 + 16 })
  }

  @Test func tensorsOutliveTheFileObject() throws {
    var file: TorchFile? = try TorchFile(path: PtFixtures.path("strided"))
    let sliced = try #require(try file?.tensor("sliced"))
    let offset = try #require(try file?.tensor("offset"))
    file = nil
    #expect(try sliced.array(of: Float.self) == [6, 8, 10, 12, 14, 16])
    #expect(try offset.array(of: Float.self) == [7, 8])
  }

  @Test func nestedContainers() throws {
    let file = try TorchFile(path: PtFixtures.path("nested"))
    let list = try #require(try file.value("list").elements)
    #expect(list.count == 9)
    #expect(list[0].int == 1)
    #expect(list[1].int == -2)
    #expect(list[2].number == 3.25)
    #expect(list[3].string == "text é")
    #expect(list[4].bool == true)
    #expect(list[5].bool == false)
    #expect(list[6].isNone)
    #expect(list[7].elements?.count == 0)
    #expect(list[8].members?.count == 0)
    let tuple = try #require(try file.value("tuple").elements)
    #expect(tuple.map { $0.int ?? 0 } == [1, 0, 0])
    #expect(tuple[2].elements?.compactMap(\.int) == [4, 5, 6, 7])
    #expect(try file.number("large") == Double(1 << 62))
    #expect(try file.value("negative").int == -(1 << 40))
    #expect(file.root.members?.first { $0.key.int == 5 }?.value.string == "integer key")
    #expect(try file.value("ordered")["a"]?.tensor?.item() == 1.5)
    #expect(try file.value("ordered")["b"]?.string == "x")
  }

  @Test func aCachedSample() throws {
    let file = try TorchFile(path: PtFixtures.path("latents"))
    #expect(try file.tensor("latents").shape == [2, 2, 2, 2])
    #expect(try file.number("num_frames") == 2)
    #expect(try file.number("fps") == 24)
    let missing = try failure { _ = try file.tensor("nothing") }
    #expect(missing?.kind == .missingTensor)
    #expect(missing?.message.contains("latents, num_frames") == true)
    #expect(try failure { _ = try file.tensor("fps") }?.kind == .wrongType)
    #expect(try failure { _ = try file.number("latents") }?.kind == .wrongType)
  }

  @Test(arguments: ["plain_zip", "zip64"]) func otherWritersArchives(name: String) throws {
    let tensor = try #require(try TorchFile(path: PtFixtures.path(name)).root.tensor)
    #expect(tensor.shape == [2, 2])
    #expect(try tensor.array(of: Float.self) == [1, 2, 3, 4])
  }

  @Test(
    arguments: [
      ("malicious", .forbiddenGlobal), ("whole_module", .forbiddenGlobal),
      ("legacy", .legacyFormat),
      ("protocol4", .badPickle), ("complex", .unsupportedDType), ("loop", .limit),
      ("compressed", .compressed),
      ("big_endian", .badArchive), ("no_storage", .missingTensor), ("short_storage", .truncated),
      ("bounds_past_end", .outOfBounds), ("bounds_wide_stride", .outOfBounds),
      ("bounds_rank", .outOfBounds),
      ("bounds_negative_offset", .outOfBounds), ("bounds_negative_stride", .outOfBounds),
      ("bounds_negative_size", .outOfBounds), ("bounds_overflow", .outOfBounds),
      ("bounds_overflowing_stride", .outOfBounds), ("huge_expansion", .limit), ("laughs", .limit),
      ("pickle_empty", .badPickle), ("pickle_no_stop", .badPickle),
      ("pickle_underflow", .badPickle),
      ("pickle_no_mark", .badPickle), ("pickle_unknown", .badPickle), ("pickle_memo", .badPickle),
      ("pickle_two_values", .badPickle), ("pickle_class", .badPickle), ("pickle_utf8", .badPickle),
      ("pickle_long_text", .badPickle), ("pickle_big_integer", .badPickle),
    ] as [(String, TensorFileError.Kind)])
  func refused(name: String, kind: TensorFileError.Kind) throws {
    let error = try #require(try failure { _ = try TorchFile(path: PtFixtures.path(name)) })
    #expect(error.kind == kind, "\(error)")
    #expect(error.path == PtFixtures.path(name))
  }

  @Test func theForbiddenNameIsReported() throws {
    let error = try failure { _ = try TorchFile(path: PtFixtures.path("malicious")) }
    #expect(error?.key == "posix.system")
  }

  @Test func deepNestingNeedsNoStack() throws {
    let count = 500_000
    for pickle: [UInt8] in [
      [0x80, 2] + Array(repeating: UInt8(ascii: "]"), count: count + 1)
        + Array(repeating: UInt8(ascii: "a"), count: count) + [UInt8(ascii: ".")],
      [0x80, 2, UInt8(ascii: ")")] + Array(repeating: 0x85, count: count) + [UInt8(ascii: ".")],
    ] {
      let content = storedZip([("x/data.pkl", pickle)])
      #expect(try failure { _ = try TorchFile(name: "x", content: content) }?.kind == .limit)
    }
  }

  @Test func otherFiles() throws {
    func kind(_ content: [UInt8]) throws -> TensorFileError.Kind? {
      try failure { _ = try TorchFile(name: "x", content: content) }?.kind
    }
    #expect(try kind([]) == .badArchive)
    #expect(try kind(Array("hello, this is a text, not an archive".utf8)) == .badArchive)
    #expect(try kind(safetensors("{}", data: 0)) == .badArchive)
    #expect(try kind(storedZip([])) == .badArchive)
    #expect(try kind(storedZip([("x/other", [1])])) == .badArchive)
    #expect(try kind(storedZip([("x/data.pkl", [1]), ("y/data.pkl", [1])])) == .badArchive)
    #expect(try kind(storedZip([("x/data.pkl", [1]), ("x/data.pkl", [1])])) == .badArchive)
    let none: [UInt8] = [0x80, 2, UInt8(ascii: "N"), UInt8(ascii: ".")]
    #expect(try kind(storedZip([("x/data.pkl", none)])) == nil)
    #expect(try failure { _ = try TorchFile(path: "/no/such/file.pt") }?.kind == .notFound)
    let whole = try PtFixtures.content("dtypes")
    for length in stride(from: 0, to: whole.count, by: 97) {
      #expect(try kind(Array(whole.prefix(length))) == .badArchive)
    }
  }
}
