import NN
import Synchronization
import Torch

/// Findings from reading all factors of a file.
struct LoRAContents: Sendable {
  /// Keys of tensors that hold NaN or infinite values, in the order of the modules.
  var nonFiniteKeys: [String] = []
  /// Modules whose adapter is exactly zero.
  var zeroModules: Set<String> = []
}

/// The contents of one file, read once: a LoRA may have gigabytes, and every stage of a generation
/// needs them.
final class ContentCache: Sendable {
  private let contents = Mutex<LoRAContents?>(nil)

  func value(_ find: () throws -> LoRAContents) rethrows -> LoRAContents {
    if let known = contents.withLock({ $0 }) { return known }
    let found = try find()
    contents.withLock { $0 = found }
    return found
  }
}

extension LoRAFile {
  /// Reads all factors on first use.
  func readContents() throws -> LoRAContents {
    try contents.value {
      var result = LoRAContents()
      for module in modules {
        let largest = try module.adapter.tensors.map { ($0.role, try $0.tensor.largestValue()) }
        for (role, value) in largest where !value.isFinite {
          result.nonFiniteKeys.append(module.keys[role] ?? module.name)
        }
        let isZero = module.adapter.scale == 0 || largest.contains { $0.1 == 0 }
        if isZero, !type(of: module.adapter).dependsOnWeight {
          result.zeroModules.insert(module.path)
        }
      }
      return result
    }
  }

  /// Checks all factors.
  ///
  /// - Throws: `WeightError` that names the first tensor that holds NaN or infinite values.
  public func requireFinite() throws {
    let keys = try readContents().nonFiniteKeys
    guard let first = keys.first else { return }
    throw WeightError(
      file: path, key: first, problem: Self.nonFiniteProblem(others: keys.count - 1))
  }

  /// The problem of a tensor with values that aren't finite, to be read after its key.
  public static func nonFiniteProblem(others: Int) -> String {
    "holds values that are not finite (NaN or infinity\(others == 0 ? "" : "; so do \(others) other tensors")). "
      + "The file is damaged, or training diverged: use an earlier checkpoint"
  }

  /// A note about adapters that are zero; nil without any.
  public var zeroNote: String? {
    get throws {
      let zero = try readContents().zeroModules.count
      guard zero > 0 else { return nil }
      return zero == modules.count
        ? "\(path): all \(zero) adapters are zero; the LoRA changes nothing"
        : "\(path): \(zero) of \(modules.count) adapters are zero and change nothing"
    }
  }

  /// A note about modules of other models, which no command uses; nil without any.
  public var otherModulesNote: String? {
    guard !otherModules.isEmpty else { return nil }
    let parts = otherModules.sorted { $0.key < $1.key }.map { component, names in
      "\(names.count) \(component) \(names.count == 1 ? "adapter" : "adapters")"
    }
    let first = otherModules.values.joined().min() ?? ""
    return "\(path): \(parts.joined(separator: " and ")) left out, such as \(first.displayed()); "
      + "LoRAs act on the transformer"
  }
}
