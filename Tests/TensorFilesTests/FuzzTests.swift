import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch

/// Whatever a file contains, reading it gives tensors that can be read completely, or a
/// `TensorFileError`.
///
/// `LTX_FUZZ_FILES=1000000` sets the number of files of each kind instead of 10,000;
/// `LTX_FUZZ_SEED=n` selects others.
@Suite struct FuzzTests {
  private let files: Int
  private let seed: UInt64

  init() throws {
    let environment = ProcessInfo.processInfo.environment
    files = environment["LTX_FUZZ_FILES"].flatMap(Int.init) ?? 10_000
    seed = environment["LTX_FUZZ_SEED"].flatMap(UInt64.init) ?? 1
  }

  @Test func safetensors() throws {
    let seeds = try Self.safetensorsSeeds()
    let words = [
      "\"", "{", "}", "[", "]", ",", ":", "-1", "0", "18446744073709551616", "9223372036854775807",
      "1e9",
      "null",
      "\\u0000", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\"F8_E4M3\"",
      "\"BOOL\"",
      "\"I64\"",
      "[0,0]", "[1,2,3]", "{}", String(repeating: "[", count: 300), "4294967296", " ",
    ].map { Array($0.utf8) }
    // Every second file gets the correct header length, so that the change passes the first check.
    let repair: ([UInt8]) -> [UInt8] = { content in
      guard let brace = content.lastIndex(of: UInt8(ascii: "}")), brace >= 8 else { return content }
      let end = content[(brace + 1)...].firstIndex { $0 != UInt8(ascii: " ") } ?? content.count
      return withUnsafeBytes(of: UInt64(end - 8).littleEndian, Array.init) + content[8...]
    }
    try run("safetensors", seeds, words, repair) { content in
      let file = try SafetensorsFile(name: "fuzz", content: content)
      for (key, entry) in file.entries {
        let tensor = try file.tensor(key)
        #expect(tensor.shape == entry.shape && tensor.dtype == entry.dtype)
        #expect(entry.range.upperBound <= content.count)
        try readAll(tensor)
      }
    }
  }

  @Test func torchFiles() throws {
    let seeds = try [
      "dtypes", "strided", "shared", "nested", "module", "parameter", "latents", "plain_zip",
      "zip64",
      "malicious",
    ].map(PtFixtures.content)
    let words: [[UInt8]] =
      [
        [0x80, 2], [0x8A, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        [0x4A, 0xFF, 0xFF, 0xFF, 0x7F],
        [0x50, 0x4B, 1, 2], [0x50, 0x4B, 3, 4], [0x50, 0x4B, 5, 6], [0x50, 0x4B, 6, 6],
        [0x50, 0x4B, 6, 7],
        [0xFF, 0xFF, 0xFF, 0xFF], [0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0x80],
      ]
      + ["(", ")", "t", "}", "]", "u", "s", "e", "a", "Q", "R", "b", "h\u{1}", "q\u{1}", "N", "."]
      .map {
        Array($0.utf8)
      }
    // After that, archives with a changed pickle.
    let pickles = try seeds.map { try Self.pickle(in: $0) }
    let storages = (0..<12).map {
      (name: "x/data/\($0)", content: [UInt8](repeating: 1, count: 96))
    }
    let wrap: ([UInt8]) -> [UInt8] = { storedZip([("x/data.pkl", $0)] + storages) }
    try run("pt", seeds, words) { try readAll(try TorchFile(name: "fuzz", content: $0).root) }
    try run("pickle", pickles, words, wrap) {
      try readAll(try TorchFile(name: "fuzz", content: $0).root)
    }
  }

  /// The pickle of an archive written by `torch.save`: the first entry.
  private static func pickle(in archive: [UInt8]) throws -> [UInt8] {
    let start = try #require(archive.firstRange(of: [0x80, 2])?.lowerBound)
    let rest = archive[start...]
    let ends = [[0x50, 0x4B, 7, 8], [0x50, 0x4B, 3, 4]].compactMap {
      rest.firstRange(of: $0)?.lowerBound
    }
    return Array(rest[..<(try #require(ends.min()))])
  }

  /// - Parameter complete: Creates a file from a changed seed.
  private func run(
    _ format: String, _ seeds: [[UInt8]], _ words: [[UInt8]],
    _ complete: ([UInt8]) -> [UInt8] = { $0 },
    _ read: ([UInt8]) throws -> Void
  ) throws {
    for seed in seeds {
      do {
        try read(complete(seed))
      } catch let error as TensorFileError {
        #expect(error.key == "posix.system", "only the malicious one is refused: \(error)")
      }
    }
    var random = SplitMix(seed: seed)
    var accepted = 0
    var refused: [TensorFileError.Kind: Int] = [:]
    for number in 0..<files {
      let change = mutated(seeds[number % seeds.count], words, &random)
      let content = format == "pickle" || number / seeds.count % 2 == 0 ? complete(change) : change
      do {
        try read(content)
        accepted += 1
      } catch let error as TensorFileError {
        refused[error.kind, default: 0] += 1
      } catch {
        Issue.record("\(format) file \(number) of seed \(seed): \(error)")
      }
    }
    print(
      "\(format): \(files) mutated files, \(accepted) accepted, refused: "
        + refused.sorted { $0.value > $1.value }.map { "\($0.key.rawValue) \($0.value)" }.joined(
          separator: ", "))
    // If all mutations were accepted, or all rejected, nothing would be tested.
    #expect(accepted > files / 100)
    #expect(refused.count >= 6)
  }

  private func mutated(_ original: [UInt8], _ words: [[UInt8]], _ random: inout SplitMix) -> [UInt8]
  {
    var bytes = original
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      guard !bytes.isEmpty else { break }
      // Half of all changes hit the first 300 bytes, where a header is, or the last ones, where a
      // zip's directory is.
      let near = min(bytes.count, 300)
      let place =
        switch Int.random(in: 0..<4, using: &random) {
        case 0: Int.random(in: 0..<near, using: &random)
        case 1: bytes.count - 1 - Int.random(in: 0..<near, using: &random)
        default: Int.random(in: 0..<bytes.count, using: &random)
        }
      switch Int.random(in: 0..<8, using: &random) {
      case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[place] = .random(in: .min ... .max, using: &random)
      case 2: bytes[place] &+= 1
      case 3:
        let word = words.randomElement(using: &random) ?? []
        bytes.replaceSubrange(place..<min(place + word.count, bytes.count), with: word)
      case 4: bytes.insert(contentsOf: words.randomElement(using: &random) ?? [], at: place)
      case 5:
        bytes.removeSubrange(
          place..<min(place + Int.random(in: 1...8, using: &random), bytes.count))
      case 6:
        let length = min(Int.random(in: 1...64, using: &random), bytes.count - place)
        bytes.insert(
          contentsOf: Array(bytes[place..<place + length]),
          at: .random(in: 0...bytes.count, using: &random))
      default: bytes.removeLast(min(Int.random(in: 1...200, using: &random), bytes.count))
      }
    }
    return bytes
  }

  private func readAll(_ value: PickleValue) throws {
    switch value {
    case .tensor(let tensor): try readAll(tensor)
    case .list(let elements), .tuple(let elements): for element in elements { try readAll(element) }
    case .dictionary(let members):
      for (key, value) in members {
        try readAll(key)
        try readAll(value)
      }
    default: break
    }
  }

  /// Reads every byte, here and in libtorch.
  private func readAll(_ tensor: Tensor) throws {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: tensor.byteCount, alignment: 1)
    defer { copy.deallocate() }
    try tensor.copyBytes(to: copy)
  }

  private static func safetensorsSeeds() throws -> [[UInt8]] {
    let folder = try ScratchFolder()
    var seeds: [[UInt8]] = []
    for (number, dtypes) in [DType.allCases, [.float32], [.bool, .int16], []].enumerated() {
      var tensors: [(key: String, tensor: Tensor)] = []
      for dtype in dtypes {
        tensors.append(
          (
            "block.\(dtype).weight",
            try Tensor([0, 1, 1, 0, 1, 0] as [Float], shape: [2, 3]).to(dtype)
          ))
        tensors.append(("\(dtype) empty", try .empty([0, 3], dtype: dtype)))
      }
      let path = folder("\(number)")
      try writeSafetensors(
        tensors, metadata: number == 1 ? [:] : ["config": "{\"a\": \"b\\n\"}"], to: path)
      seeds.append(Array(try Data(contentsOf: URL(fileURLWithPath: path))))
    }
    return seeds
  }
}
