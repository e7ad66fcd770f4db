import Foundation
import Testing

@testable import Tracking

@Suite struct JSONTests {
  @Test func valuesKeepTheirKind() throws {
    let text = #"{"a":[1,2.5,true,null,"x/y"],"big":9007199254740993,"z":{"é":"\"\\"}}"#
    let value = try JSON(Data(text.utf8))
    #expect(value["a"] == [1, .number(2.5), true, nil, "x/y"])
    #expect(value["big"]?.integer == 9_007_199_254_740_993)
    #expect(value.text == text)
  }

  @Test func numbersThatJSONLacks() throws {
    let value = JSON.array([.number(.nan), .number(.infinity), .number(-.infinity)])
    #expect(value.text == #"["NaN","Infinity","-Infinity"]"#)
  }

  @Test(arguments: [
    "", "a \"b\" \\ c", "tab\tline\nreturn\r", "\u{0}\u{1F}\u{7F}\u{85}\u{2028}", "ü 🎬 /",
  ])
  func quotedStringsAreReadBack(text: String) throws {
    #expect(try JSON(Data(JSON.quoted(text).utf8)) == .string(text))
  }

  @Test(arguments: ["", "{", "[1", "nul"])
  func whatIsNoJSON(text: String) {
    #expect(throws: (any Error).self) { try JSON(Data(text.utf8)) }
  }
}
