import Foundation
import Testing
import Yams

@testable import Training

/// Scalars against PyYAML and pydantic (`Tests/Oracles/yaml_scalars.py`).
@Suite struct YAMLScalarTests {
  private struct Row: Decodable {
    struct Box<Value: Decodable>: Decodable { let value: Value }

    let text: String
    let type: String
    let int: Box<Int>?
    let float: Box<Number>?
    let bool: Box<Bool>?
    let str: Box<String>?
  }

  /// JSON has no infinity.
  private struct Number: Decodable {
    let value: Double

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      do {
        value = try container.decode(Double.self)
      } catch DecodingError.typeMismatch {
        value = try #require(Double(container.decode(String.self)))
      }
    }
  }

  @Test func conversions() throws {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Fixtures/yaml-scalars.json")
    let rows = try JSONDecoder().decode([Row].self, from: Data(contentsOf: path))
    #expect(rows.count > 100)
    for row in rows {
      let node = try #require(try ConfigurationParser.parse("x: \(row.text)", .file("f")))
      guard case .mapping(let entries) = node.content,
        case .scalar(let scalar) = entries[0].value.content
      else {
        Issue.record("\(row.text) is not a scalar")
        continue
      }
      let type =
        switch scalar.value {
        case .null: "NoneType"
        case .bool: "bool"
        case .integer: "int"
        case .number: "float"
        case .text: "str"
        case .timestamp: row.type == "datetime" ? "datetime" : "date"
        }
      #expect(type == row.type, "\(row.text)")
      #expect(scalar.asInteger == row.int?.value, "\(row.text)")
      #expect(scalar.asBool == row.bool?.value, "\(row.text)")
      #expect(scalar.asText == row.str?.value, "\(row.text)")
      let (number, wanted) = (scalar.asNumber, row.float?.value.value)
      #expect(number == wanted || (number?.isNaN == true && wanted?.isNaN == true), "\(row.text)")
    }
  }
}
