import Foundation
import Support
import TensorFiles
import Torch

/// The input tensors of a probe, read by name.
///
/// Shapes are given as letters, `"B T C"`: each letter takes its size from the first tensor that
/// has it, and later tensors must agree. A number stands for itself. Unused inputs are an error at
/// the end.
public final class ProbeInputs {
  private let file: String
  private let source: (any TensorSource)?
  private var sizes: [String: (size: Int, reason: String)] = [:]
  private var known: Set<String> = []
  /// The number of blocks of the model that the inputs are for; nil without a model.
  var blockCount: Int?
  /// The inputs that were requested, for messages.
  private var expected: [String] = []

  /// - Parameter path: nil for components without inputs.
  public init(path: String?) throws {
    file = path ?? "the inputs"
    source = try path.map { try SafetensorsFile(path: $0) }
  }

  /// Fixes a letter's size; the message about a wrong input names the reason.
  public func fix(_ letter: String, _ size: Int, _ reason: String = "the size that the model takes")
  {
    sizes[letter] = (size, reason)
  }

  public func has(_ name: String) -> Bool { source?.entries[name] != nil }

  /// All names, for components with numbered inputs.
  public var names: [String] { source.map { $0.entries.keys.sorted() } ?? [] }

  /// A floating-point tensor (F32), as float32.
  public func float(_ name: String, _ shape: String) throws -> Tensor {
    try read(name, shape, .float32, "numbers (F32)")
  }

  /// A tensor of integers, flags or masks (I64).
  public func int(_ name: String, _ shape: String) throws -> Tensor {
    try read(name, shape, .int64, "integers (I64)")
  }

  public func optionalFloat(_ name: String, _ shape: String) throws -> Tensor? {
    note(name, shape)
    return has(name) ? try float(name, shape) : nil
  }

  public func optionalInt(_ name: String, _ shape: String) throws -> Tensor? {
    note(name, shape)
    return has(name) ? try int(name, shape) : nil
  }

  /// A single number of shape [1].
  public func number(_ name: String, default fallback: Double? = nil) throws -> Double {
    if let fallback, !has(name) {
      note(name, "1")
      return fallback
    }
    let number = try float(name, "1").item()
    guard number.isFinite else {
      throw Issue([.file(file)], "\(name) is \(number) (expected a finite number)")
    }
    return number
  }

  /// A single integer of shape [1].
  public func integer(_ name: String, default fallback: Int? = nil) throws -> Int {
    if let fallback, !has(name) {
      note(name, "1")
      return fallback
    }
    // `item()` converts to floating point, which can't represent every integer.
    return try int(name, "1").array(of: Int.self)[0]
  }

  /// Throws if the file has a tensor that was never requested.
  public func requireAllUsed() throws {
    guard let stray = names.first(where: { !known.contains($0) }) else { return }
    throw Issue(
      [.file(file)], "has an unknown input \(stray); expected \(expected.joined(separator: ", "))"
    )
  }

  private func note(_ name: String, _ shape: String) {
    if known.insert(name).inserted {
      expected.append("\(name) [\(shape.replacingOccurrences(of: " ", with: ", "))]")
    }
  }

  private func read(_ name: String, _ shape: String, _ dtype: DType, _ kind: String) throws
    -> Tensor
  {
    note(name, shape)
    let wanted = "\(name) [\(shape.replacingOccurrences(of: " ", with: ", "))] of \(kind)"
    guard let source, let entry = source.entries[name] else {
      throw Issue([.file(file)], "the input \(name) is missing (expected \(wanted))")
    }
    guard entry.dtype == dtype else {
      throw Issue([.file(file)], "\(name) has dtype \(entry.dtype) (expected \(wanted))")
    }
    let letters = shape.split(separator: " ").map(String.init)
    guard letters.count == entry.shape.count else {
      throw Issue([.file(file)], "\(name) has shape \(entry.shape) (expected \(wanted))")
    }
    // A list may be empty, but an empty batch or sequence has no meaning.
    guard entry.shape.count == 1 || !entry.shape.contains(0) else {
      throw Issue(
        [.file(file)], "\(name) has shape \(entry.shape) (expected \(wanted) with sizes above 0)")
    }
    for (letter, size) in zip(letters, entry.shape) {
      if let fixed = Int(letter) {
        guard fixed == size else {
          throw Issue([.file(file)], "\(name) has shape \(entry.shape) (expected \(wanted))")
        }
      } else if let known = sizes[letter] {
        guard known.size == size else {
          throw Issue(
            [.file(file)],
            "\(name) has shape \(entry.shape); expected \(wanted) with \(letter) = \(known.size), \(known.reason)"
          )
        }
      } else {
        sizes[letter] = (size, "as in earlier inputs")
      }
    }
    return try source.tensor(name)
  }
}
