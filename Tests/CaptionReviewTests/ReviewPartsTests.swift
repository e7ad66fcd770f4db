import Testing

@testable import CaptionReview

/// The token and ranges of bytes, without a server.
@Suite struct ReviewPartsTests {
  @Test func tokensAreRandomAndCompareExactly() {
    let tokens = (0..<100).map { _ in ReviewToken() }
    #expect(Set(tokens.map(\.text)).count == 100)
    for token in tokens {
      #expect(token.text.count == 48 && token.text.allSatisfy(\.isHexDigit))
      #expect(token.matches(token.text.utf8))
      #expect(!token.matches(token.text.dropLast().utf8) && !token.matches((token.text + "0").utf8))
      #expect(!token.matches("".utf8) && !token.matches(token.text.uppercased().utf8 + [0]))
    }
    // Every digit takes every value.
    for place in 0..<48 { #expect(Set(tokens.map { Array($0.text)[place] }).count > 8) }
  }

  @Test func rangesOfSmallFiles() {
    #expect(ByteRange("bytes=0-", size: 0) == .unsatisfiable)
    #expect(ByteRange("bytes=-1", size: 0) == .unsatisfiable)
    #expect(ByteRange(nil, size: 0) == .whole)
    #expect(ByteRange("bytes=0-9223372036854775807", size: 3) == .part(0..<3))
    #expect(ByteRange("bytes=2-2", size: 3) == .part(2..<3))
    #expect(ByteRange("bytes=-9223372036854775808", size: 3) == .part(0..<3))
    for text in ["", "=", "bytes", "bytes=", "bytes=+1-2", "bytes=1", "bytes=١-٢", "bytes=1-2-3"] {
      #expect(ByteRange(text, size: 10) == .whole, "\(text)")
    }
  }
}
