import TensorFiles
import Testing

@Suite struct DisplayTextTests {
  @Test(arguments: [
    ("plain", "plain"), ("é 日本 👩‍👩‍👧 naïve", "é 日本 👩‍👩‍👧 naïve"), ("", ""),
    ("a\nb\r\tc", "a\\nb\\r\\tc"), ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
    ("\u{7f}\u{9b}2J", "\\u{7f}\\u{9b}2J"),
    ("abc\u{202e}fdp.exe\u{2066}", "abc\\u{202e}fdp.exe\\u{2066}"),
    ("\u{200b}\u{feff}\u{2028}\0", "\\u{200b}\\u{feff}\\u{2028}\\u{0}"),
  ])
  func hiddenCharactersAreEscaped(_ text: String, _ shown: String) {
    #expect(text.displayed() == shown)
  }

  @Test func longTextIsCutAndItsSizeReported() {
    #expect(String(repeating: "a", count: 200).displayed() == String(repeating: "a", count: 200))
    #expect(
      String(repeating: "a", count: 340).displayed()
        == String(repeating: "a", count: 200) + "... (340 bytes in all)")
    #expect(
      String(repeating: "ab", count: 13_000_000).displayed(limit: 3) == "aba... (26.0 MB in all)")
    // One visible character can have any number of marks.
    let marks = "e" + String(repeating: "\u{301}", count: 10_000)
    #expect(marks.displayed().unicodeScalars.count < 250)
  }

  @Test func linesStayLines() {
    #expect("one\ntwo\tthree".displayedLines() == "one\ntwo\tthree")
    #expect(
      "one\n\u{1b}]0;title\u{7}\r\ntwo\n".displayedLines() == "one\n\\u{1b}]0;title\\u{7}\\r\ntwo\n"
    )
    let long = String(repeating: "x", count: 5000)
    #expect("a\n\(long)\nb".displayedLines(limit: 10) == "a\nxxxxxxxxxx... (5000 bytes in all)\nb")
  }
}
