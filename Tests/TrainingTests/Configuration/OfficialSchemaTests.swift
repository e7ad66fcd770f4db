import Foundation
import NN
import Support
import Testing

@testable import Training

/// Keys and defaults against the official trainer's schema
/// (`Tests/Oracles/configuration_defaults.py`).
@Suite struct OfficialSchemaTests {
  private struct Case: Decodable {
    let given: JSON
    let resolved: JSON
  }

  /// Older keys, which are read as parts of others.
  private static let older = [
    "validation.prompts", "validation.images", "validation.reference_videos",
    "validation.reference_downscale_factor", "validation.include_reference_in_output",
  ]

  /// Keys that only the other side has, and differing values.
  private func differences(_ ours: JSON, _ official: JSON, at path: String = "")
    -> [String]
  {
    switch (ours, official) {
    case (.object(let a), .object(let b)):
      Set(a.keys).union(b.keys).sorted().flatMap { key -> [String] in
        let path = path.isEmpty ? key : "\(path).\(key)"
        switch (a[key], b[key]) {
        case (let x?, let y?): return differences(x, y, at: path)
        // Null equals an absent value.
        case (.null?, nil), (nil, .null?): return []
        case (nil, _): return ["\(path) is missing"]
        case (_, nil): return ["\(path) is ours"]
        }
      }
    case (.array(let a), .array(let b)) where a.count == b.count:
      zip(a, b).enumerated().flatMap { differences($1.0, $1.1, at: "\(path)[\($0)]") }
    default: ours == official ? [] : ["\(path) is \(ours), not \(official)"]
    }
  }

  @Test func everyKeyHasTheOfficialDefault() throws {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Fixtures/configuration-defaults.json")
    let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: path))
    #expect(cases.count == 3)
    for test in cases {
      // JSON is YAML.
      let text = String(decoding: try JSONEncoder().encode(test.given), as: UTF8.self)
      let c = try TrainingConfiguration(yaml: text, file: "c", checksPaths: false)
      #expect(
        differences(c.json, test.resolved).filter { !$0.hasSuffix("is ours") && !Self.isOlder($0) }
          == ["output_dir is string(\"\(c.outputDir)\"), not string(\"outputs\")"])
      // Files for the official trainer have only keys that it knows.
      let written = try TrainingConfiguration(yaml: c.resolvedYAML, file: "c", checksPaths: false)
      #expect(written == c)
      #expect(Set(try ownKeys(of: c.resolvedYAML, test.resolved)) == ["validation.negative_prompt"])
    }
  }

  private static func isOlder(_ difference: String) -> Bool {
    older.contains { difference.hasPrefix("\($0) ") }
  }

  /// The keys of a written configuration that the official one lacks.
  private func ownKeys(of yaml: String, _ official: JSON) throws -> [String] {
    guard let node = try ConfigurationParser.parse(yaml, .file("c")) else { return [] }
    return differences(json(node), official).filter { $0.hasSuffix("is ours") }
      .map { String($0.dropLast(" is ours".count)) }
  }

  /// The keys alone: every value is null, and a list holds the keys of its items.
  private func json(_ node: ConfigurationNode) -> JSON {
    switch node.content {
    case .scalar: .bool(true)
    case .list(let items): .array(items.map(json))
    case .mapping(let entries):
      .object(Dictionary(entries.map { ($0.key, json($0.value)) }, uniquingKeysWith: { $1 }))
    }
  }
}
