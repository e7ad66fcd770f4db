import Foundation
import Support
import Testing

@Suite struct HashingTests {
  /// The examples of FIPS 180-4, and the output of `sha256sum`.
  private static let digests = [
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (
      String(repeating: "a", count: 1_000_000),
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    ),
  ]

  @Test(arguments: digests) func sha256OfTheStandard(text: String, digest: String) throws {
    #expect(SHA256.hex(of: Data(text.utf8)) == digest)
    let folder = try Folder()
    try folder.write(text, "x")
    #expect(try SHA256.hex(ofFile: folder.file("x")) == digest)
  }

  @Test func thePiecesThatBytesArriveInDontMatter() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    for length in [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000] {
      let whole = SHA256.hex(of: Array(bytes.prefix(length)))
      for size in [1, 3, 63, 64, 65, 200] {
        var hash = SHA256()
        for start in stride(from: 0, to: length, by: size) {
          hash.update(Array(bytes[start..<min(length, start + size)]))
        }
        #expect(hash.hexDigest() == whole, "\(length) bytes in pieces of \(size)")
      }
    }
  }

  @Test func aFileThatCantBeRead() throws {
    let folder = try Folder()
    let issue = #expect(throws: Support.Issue.self) {
      try SHA256.hex(ofFile: folder.file("none"))
    }
    #expect(issue?.file == folder.file("none"))
    #expect(issue?.problem == "can't be read (No such file or directory)")
  }

  /// RFC 3720, appendix B.4, and the check value of "123456789".
  @Test(
    arguments: [
      (Data(repeating: 0, count: 32), 0x8A91_36AA), (Data(repeating: 0xFF, count: 32), 0x62A8_AB43),
      (Data(0..<32), 0x46DD_794E), (Data((0..<32).reversed()), 0x113F_DB5C),
      (Data("123456789".utf8), 0xE306_9283), (Data(), 0),
    ] as [(Data, UInt32)])
  func crc32COfTheStandard(data: Data, checksum: UInt32) {
    #expect(CRC32.castagnoli.checksum(data) == checksum)
  }

  @Test(arguments: [("123456789", 0xCBF4_3926), ("", 0), ("a", 0xE8B7_BE43)] as [(String, UInt32)])
  func crc32OfZlib(text: String, checksum: UInt32) {
    #expect(CRC32.ethernet.checksum(Data(text.utf8)) == checksum)
  }

  @Test func eightBytesAtATimeGiveWhatOneAtATimeGives() {
    let bytes = (0..<300).map { UInt8(truncatingIfNeeded: $0 &* 101) }
    for length in 0...40 {
      var crc = UInt32.max
      for byte in bytes.dropFirst(7).prefix(length) {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 1 ? 0xEDB8_8320 : 0) }
      }
      #expect(CRC32.ethernet.checksum(Array(bytes.dropFirst(7).prefix(length))) == ~crc)
    }
  }
}
