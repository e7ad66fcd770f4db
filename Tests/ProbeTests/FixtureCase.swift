import Foundation
import Probe
import TensorFiles
import TestSupport
import Testing
import Torch

/// An upstream case in Tests/Fixtures, written by Tests/Oracles.
struct FixtureCase: Sendable, CustomTestStringConvertible {

  let name: String
  let component: String
  let options: Probe.Options
  let expected: String
  /// The largest difference relative to the largest expected value, by tensor; `*` for the rest.
  let tolerances: [String: Double]
  /// The largest distance between all tensors of a prefix as one vector and the expected one,
  /// relative to the latter in the 2-norm.
  let together: [String: Double]
  /// The tensors that must be equal.
  let exact: [String]

  var testDescription: String { name }

  /// All cases of the given components.
  static func all() -> [FixtureCase] {
    let enumerator = FileManager.default.enumerator(atPath: Fixtures.root)
    let files = (enumerator?.compactMap { $0 as? String } ?? []).filter {
      $0.hasSuffix("/case.json")
    }
    .sorted()
    return files.map { read(folder: String($0.dropLast("/case.json".count))) }
  }

  /// An unreadable case file is a programmer's mistake.
  private static func read(folder: String) -> FixtureCase {
    let path = "\(Fixtures.root)/\(folder)"
    guard let data = FileManager.default.contents(atPath: "\(path)/case.json"),
      let json = try? JSONSerialization.jsonObject(with: data) as? [String: Any],
      let component = json["component"] as? String
    else { preconditionFailure("\(path)/case.json can't be read") }
    var options = Probe.Options()
    options.dtype = json["dtype"] as? String == "bfloat16" ? .bfloat16 : .float32
    options.inputs = (json["inputs"] as? String).map { "\(path)/\($0)" }
    var arguments = (json["args"] as? [String] ?? []).map {
      $0.replacingOccurrences(of: "{root}", with: Fixtures.root).replacingOccurrences(
        of: "{case}", with: path)
    }[...]
    while let flag = arguments.popFirst() {
      if flag == "--use-8bit" {
        options.use8Bit = true
        continue
      }
      let value = arguments.popFirst() ?? ""
      switch flag {
      case "--model": options.model = value
      case "--text-encoder": options.textEncoder = value
      case "--config": options.config = value
      case "--captioner-model": options.captionerModel = value
      case "--lora":
        let parts = value.split(separator: ":")
        options.loras.append(
          .init(path: String(parts[0]), strength: parts.count > 1 ? Double(parts[1]) ?? .nan : 1))
      default: preconditionFailure("\(path)/case.json has the unknown argument \(flag)")
      }
    }
    let tolerances: [String: Double] =
      (json["tolerance"] as? [String: Double]) ?? ["*": json["tolerance"] as? Double ?? 1e-4]
    return FixtureCase(
      name: folder, component: component, options: options,
      expected: "\(path)/\(json["expected"] as? String ?? "expected.safetensors")",
      tolerances: tolerances,
      together: json["together"] as? [String: Double] ?? [:],
      exact: json["exact"] as? [String] ?? [])
  }

  /// Runs the component and compares every value of all expected tensors.
  func check() throws {
    let outputs = Dictionary(
      uniqueKeysWithValues: try Probe.run(component, options).map { ($0.key, $0.tensor) })
    let wanted = try SafetensorsFile(path: expected)
    #expect(!wanted.entries.isEmpty)
    for (prefix, tolerance) in together {
      let keys = wanted.entries.keys.filter { $0.hasPrefix(prefix) }
      var (far, all) = (0.0, 0.0)
      for key in keys {
        let want = try wanted.tensor(key).to(.float64)
        let got = try #require(outputs[key], "\(key) is missing").to(.float64)
        far += try (got - want).square().sum().item()
        all += try want.square().sum().item()
      }
      let error = (far / all).squareRoot()
      #expect(
        error <= tolerance, "\(prefix)*: relative distance \(error) over all, allowed \(tolerance)")
    }
    for key in wanted.entries.keys.sorted() {
      let want = try wanted.tensor(key)
      let got = try #require(outputs[key], "\(key) is missing")
      #expect(got.shape == want.shape, "\(key)")
      guard got.shape == want.shape, want.count > 0 else { continue }
      if exact.contains(key) {
        #expect(try Tensor.isEqual(got.to(want.dtype), want), "\(key) differs")
        continue
      }
      let (g, w) = (try got.to(.float64), try want.to(.float64))
      let error = try (g - w).abs().max().item() / max(w.abs().max().item(), 1e-12)
      let tolerance = tolerances[key] ?? tolerances["*"] ?? 1e-4
      #expect(error <= tolerance, "\(key): relative error \(error), allowed \(tolerance)")
    }
  }
}
