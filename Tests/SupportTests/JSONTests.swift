import Foundation
import Support
import Testing

@Suite struct JSONTests {
  private func parse(_ text: String) throws -> JSON { try JSON(parsing: text) }

  @Test func `Values keep their kind, members their order and numbers their text`() throws {
    let text = #"{"z":[1,2.50,true,null,"x/y"],"big":9007199254740993,"a":{"é":"\"\\"}}"#
    let value = try parse(text)
    #expect(value["z"] == [1, 2.5, true, nil, "x/y"])
    #expect(value["big"]?.int == 9_007_199_254_740_993)
    #expect(value.object?.keys == ["z", "big", "a"])
    #expect(value.text(JSONFormat(sortsKeys: false)) == text)
    #expect(
      value.text(JSONFormat(normalizesNumbers: true))
        == #"{"a":{"é":"\"\\"},"big":9007199254740993,"z":[1,2.5,true,null,"x/y"]}"#)
  }

  @Test(
    arguments: [
      ("1", 1), ("-0", 0), ("1.0", 1), ("1e3", 1000), ("12345678901234567890", nil), ("0.5", nil),
      ("9223372036854775807", Int.max), ("1e300", nil),
    ] as [(String, Int?)])
  func `Integers`(text: String, value: Int?) throws {
    let number = try parse(text)
    #expect(number.int == value)
    #expect(number.double == Double(text))
  }

  @Test func `Numbers are equal if their values are`() throws {
    #expect(try parse("1.0") == parse("1") && parse("1e-2") == parse("0.01"))
    #expect(try parse("9007199254740993") != parse("9007199254740992"))
    #expect(JSON(2.0) == 2 && JSON(0.1).text() == "0.1" && JSON(2.0).text() == "2.0")
    #expect(
      JSON.array([JSON(.nan), JSON(.infinity), JSON(-.infinity)]).text()
        == #"["NaN","Infinity","-Infinity"]"#)
  }

  @Test func `Equal objects have equal members in any order`() throws {
    let one = try parse(#"{"a":1,"b":[{"c":null}]}"#)
    #expect(try one == parse(#"{"b":[{"c":null}],"a":1}"#))
    #expect(try one != parse(#"{"a":1,"b":[{"d":null}]}"#) && one != parse(#"{"a":1}"#))
  }

  /// Small objects are searched, large ones have an index.
  @Test(arguments: [3, 8, 9, 200]) func `Members are found, changed and removed`(count: Int) {
    var object = JSONObject()
    for index in 0..<count { object["k\(index)"] = JSON(index) }
    #expect((0..<count).allSatisfy { object["k\($0)"]?.int == $0 })
    object["k1"] = "new"
    object["k0"] = nil
    #expect(object.count == count - 1 && object["k0"] == nil && object["k1"] == "new")
    #expect((2..<count).allSatisfy { object["k\($0)"]?.int == $0 })
    #expect(object.keys == (1..<count).map { "k\($0)" })
    object["more"] = true
    #expect(object["more"] == true && object.keys.last == "more")
  }

  @Test func `Names that Unicode calls equivalent are two`() throws {
    let value = try parse("{\"\u{C5}\":1,\"\u{212B}\":2,\"A\u{30A}\":3}")
    #expect(value["\u{C5}"] == 1 && value["\u{212B}"] == 2 && value["A\u{30A}"] == 3)
  }

  // MARK: Hostile text

  @Test(arguments: [
    ("", "the text ends too early"), ("  \n ", "the text ends too early"),
    ("{", "the text ends too early"), ("[1", "the text ends too early"),
    (#"{"a""#, "the text ends too early"), (#"{"a":"#, "the text ends too early"),
    (#"{"a" 1}"#, "':' is missing"), ("[1 2]", "',' or ']' is missing"),
    (#"{"a":1 "b":2}"#, "',' or '}' is missing"), ("[1,]", "nothing follows a comma"),
    (#"{"a":1,}"#, "nothing follows a comma"), ("[,1]", "a value is missing or unknown"),
    ("{,}", "a string in quotes is missing"), ("{1:2}", "a string in quotes is missing"),
    ("{'a':1}", "a string in quotes is missing"), ("nul", "a value is missing or unknown"),
    ("truth", "a value is missing or unknown"), ("NaN", "a value is missing or unknown"),
    ("Infinity", "a value is missing or unknown"), ("+1", "a value is missing or unknown"),
    (".5", "a value is missing or unknown"), ("[-]", "a value is missing or unknown"),
    ("01", "a number begins with 0"), ("-01", "a number begins with 0"),
    ("1.", "a number has no digit after its point"),
    ("1.e5", "a number has no digit after its point"),
    ("1e", "a number has no digit in its exponent"),
    ("1e+", "a number has no digit in its exponent"),
    ("1e999", "a number is too large"), ("-1e999", "a number is too large"),
    (String(repeating: "9", count: 400), "a number is too large"),
    ("1 2", "there is more text after the end of the value"),
    ("{}}", "there is more text after the end of the value"),
    ("1x", "there is more text after the end of the value"),
    ("\u{FEFF}1", "a value is missing or unknown"),
    ("[1]//", "there is more text after the end of the value"),
    (#""open"#, "a string has no end"), (#""a\"#, "a string has no end"),
    (#""\u12"#, "a string has no end"), (#""\u12G4""#, "\\u needs four hexadecimal digits"),
    (#""\x""#, "a string has an unknown escape"),
    (#""\ud800""#, "an escaped surrogate has no partner"),
    (#""\udc00""#, "an escaped surrogate has no partner"),
    (#""\ud800\u0041""#, "an escaped surrogate has no partner"),
    (#""\ud800\ud800""#, "an escaped surrogate has no partner"),
    ("\"a\nb\"", "a string has an unescaped control character"),
    ("\"long enough for a word \u{1}\"", "a string has an unescaped control character"),
  ])
  func `What is not JSON`(text: String, problem: String) {
    let error = #expect(throws: JSONError.self) { try parse(text) }
    #expect(error?.problem == problem && error?.kind == .notJSON)
  }

  @Test func `Every place has its line and column`() {
    let error = #expect(throws: JSONError.self) { try parse("{\n  \"a\": [1,\r\n  \"é\" ?]}") }
    #expect(error?.line == 3 && error?.column == 8 && error?.offset == 21)
    #expect(
      error?.description == "not valid JSON at line 3, column 8: ',' or ']' is missing")
  }

  @Test(arguments: [0, 20]) func `Two members of one name`(others: Int) {
    let members = (0..<others).map { "\"k\($0)\":0," }.joined()
    let error = #expect(throws: JSONError.self) {
      try parse(#"[{"x":{\#(members)"a":1,"\u0061":2}}]"#)
    }
    #expect(error?.kind == .duplicateKey("a"))
    #expect(error?.problem == "an object has two members named \"a\"")
  }

  @Test(arguments: ["[", "{\"a\":", "[{\"a\":"]) func `Nesting has a limit`(open: String) {
    let error = #expect(throws: JSONError.self) {
      try parse(String(repeating: open, count: 1 << 20))
    }
    #expect(error?.problem == "values are nested too deeply")
  }

  @Test func `Nesting up to the limit`() throws {
    let text = String(repeating: "[", count: 128) + String(repeating: "]", count: 128)
    #expect(try parse(text).text() == text)
    #expect(throws: JSONError.self) { try parse("[\(text)]") }
    // Closed arrays do not count toward the depth.
    #expect(
      try parse("[\((0..<500).map { _ in "[[]]" }.joined(separator: ","))]").array?.count == 500)
  }

  @Test(
    arguments: [
      [0xFF], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0x80],
    ] as [[UInt8]])
  func `Strings must be UTF-8`(bytes: [UInt8]) {
    for (before, after) in [("", ""), ("twelve bytes", "and more text"), ("\\n", "é")] {
      let text = [0x22] + Array(before.utf8) + bytes + Array(after.utf8) + [0x22]
      let error = #expect(throws: JSONError.self) { try JSON(parsing: text) }
      #expect(error?.problem == "a string is not UTF-8")
    }
    #expect(throws: JSONError.self) { try JSON(parsing: bytes) }
  }

  /// Strings of all lengths around the eight bytes that are read at a time.
  @Test func `Strings of any length and their escapes`() throws {
    for length in 0...40 {
      for end in ["", "\\n", "é", "\\u00e9\\ud83c\\udfac", "\\\\", "\\\""] {
        let plain = String(repeating: "x", count: length)
        let value = try parse("[\"\(plain)\(end)\(plain)\"]").array?[0].string
        let wanted = try JSONDecoder().decode(
          [String].self, from: Data("[\"\(plain)\(end)\(plain)\"]".utf8))[0]
        #expect(value == wanted)
      }
    }
  }

  /// Every prefix of a valid text, and the text with any one byte changed, gives a value or an
  /// error.
  @Test func `Damage never crashes`() throws {
    let text = Array(
      #" {"a":[1,-2.5e+3,"x\u00e9\n",true,false,null,{}],"é":{"b":"\ud83c\udfac"}} "#.utf8)
    for length in 0..<text.count - 1 {
      #expect(throws: JSONError.self) { try JSON(parsing: Array(text[..<length])) }
    }
    var errors = 0
    for position in text.indices {
      for byte in Array("\"\\{}[],:0-n \u{0}u".utf8) + [0xFF, 0x80] {
        var damaged = text
        damaged[position] = byte
        do {
          let value = try JSON(parsing: damaged)
          #expect(try JSON(parsing: value.data()) == value)
        } catch { errors += 1 }
      }
    }
    #expect(errors > text.count)
  }

  // MARK: Writing

  @Test func `Layouts are Foundation's`() throws {
    let value: JSON = [
      "b": ["x/y": "é\"\\\n\r\t\u{8}\u{C}\u{1}\u{7F}\u{2028}", "n": nil], "a": [],
      "c": [[1, 2], [:]],
      "B": false,
    ]
    for isPretty in [false, true] {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      if isPretty { encoder.outputFormatting.insert(.prettyPrinted) }
      #expect(value.data(isPretty ? .pretty : .compact) == (try encoder.encode(value)))
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    #expect(value.data(JSONFormat(escapes: .slashes)) == (try encoder.encode(value)))
  }

  @Test func `Quoted strings are read back`() throws {
    // These aren't arguments of the test, because they would be printed, including their zero
    // bytes.
    for text in [
      "", "a \"b\" \\ c", "tab\tline\nreturn\r", "\u{0}\u{1F}\u{7F}\u{85}\u{2028}", "ü 🎬 /",
    ] {
      for escapes in [JSON.Escapes.required, .slashes, .invisible] {
        #expect(try parse(JSON.quoted(text, escapes: escapes)) == .string(text))
      }
    }
  }

  @Test func `Escapes of all that is not seen`() {
    #expect(
      JSON.quoted("a/\u{7F}\u{85}\u{2028}\u{2029}é", escapes: .invisible)
        == #""a/\u007f\u0085\u2028\u2029é""#)
  }

  // MARK: Codable

  private struct Sample: Codable, Equatable {
    enum Kind: String, Codable, CodingKeyRepresentable { case one, two }
    var integer = -7
    var byte: UInt8 = 255
    var big = UInt64.max
    var double = 0.1
    var whole = 2.0
    var large = 1e16
    var float: Float = 0.1
    var text = "é/"
    var flag = true
    var none: Int?
    var list: [Double?] = [1, nil, 2.5]
    var nested: [[String]] = [["a"], []]
    var table: [String: Int] = ["b": 1, "a": 2]
    var kinds: [Kind: Bool] = [.two: false]
    var kind = Kind.one
    var json: JSON = ["x": [1, nil]]
    var inner: [Inner] = [Inner(), Inner(value: nil)]
    struct Inner: Codable, Equatable { var value: String? = "v" }
  }

  @Test func `Codable values are written as Foundation writes them, and read back`() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let value = Sample()
    let text = try JSON(encoding: value).data()
    #expect(
      String(decoding: text, as: UTF8.self)
        == String(decoding: try encoder.encode(value), as: UTF8.self))
    #expect(try JSON.decode(Sample.self, from: text) == value)
    #expect(try JSONDecoder().decode(Sample.self, from: text) == value)
  }

  @Test(arguments: [
    (#"{"value":1}"#, "value: a string is expected here, and this is a number"),
    ("[]", "an object is expected here, and this is a list"),
  ])
  func `Values of another kind are errors with their place`(text: String, problem: String) {
    #expect(message { _ = try JSON(parsing: text).decode(Sample.Inner.self) } == problem)
  }

  @Test func `Missing values and numbers out of range`() throws {
    #expect(
      message { _ = try parse(#"{"a":[1,300]}"#).decode([String: [UInt8]].self) }
        == "a.[1]: 300 is not an integer in the range of UInt8")
    #expect(message { _ = try parse("{}").decode(Sample.self) }.contains("is missing"))
    #expect(message { _ = try parse("[1.5]").decode([Int].self) }.contains("1.5 is not an integer"))
    #expect(message { _ = try JSON(encoding: [1.0, .infinity]) }.contains("not a number of JSON"))
    #expect(try JSON(encoding: [Double.nan]) { .string("\($0)") } == ["nan"])
  }
}
