import Support
import Torch

/// Reads a stored state and checks that it fits.
struct StoredState {
  private let load: (String) throws -> Tensor

  init(_ load: @escaping (String) throws -> Tensor) { self.load = load }

  /// Fills a tensor of the state.
  ///
  /// - Throws: `Issue` if the stored tensor has another shape or dtype.
  func fill(_ tensor: Tensor, _ key: String) throws {
    let stored = try load(key)
    guard stored.shape == tensor.shape, stored.dtype == tensor.dtype else {
      throw Issue(
        [.name(key)],
        "is \(stored.dtype) of shape \(stored.shape), but the optimizer's is \(tensor.dtype) of shape "
          + "\(tensor.shape); the state was stored with other options")
    }
    try withoutGrad { _ = try tensor.copy_(stored) }
  }

  func fill(_ tensors: [(key: String, tensor: Tensor)]) throws {
    for (key, tensor) in tensors { try fill(tensor, key) }
  }

  func number(_ key: String) throws -> Double {
    let stored = try load(key)
    guard stored.count == 1 else {
      throw Issue([.name(key)], "has shape \(stored.shape), but must be one number")
    }
    return try stored.item()
  }

  /// Reads a counter.
  func count(_ key: String) throws -> Int {
    let number = try number(key)
    guard let count = Int(exactly: number), count >= 0 else {
      throw Issue([.name(key)], "is \(number), but must be an integer of at least 0")
    }
    return count
  }

  /// Returns a copy of a tensor with one of several shapes.
  func tensor(_ key: String, shapes: [[Int]]) throws -> Tensor {
    let stored = try load(key)
    guard shapes.contains(stored.shape) else {
      throw Issue(
        [.name(key)],
        "has shape \(stored.shape), but must have "
          + shapes.map { "\($0)" }.joined(separator: " or "))
    }
    return try withoutGrad { try stored.clone() }
  }
}

/// The state of one parameter, with the number of its steps.
protocol CountedState {
  /// The parameter's key.
  var key: String { get }
  var tensors: [(key: String, tensor: Tensor)] { get }
  var step: Int { get set }
}

extension Array where Element: CountedState {
  var stored: [(key: String, tensor: Tensor)] {
    get throws {
      try flatMap { try $0.tensors + [("\($0.key).step", Tensor([$0.step], shape: []))] }
    }
  }

  mutating func restore(from stored: StoredState) throws {
    for index in indices {
      try stored.fill(self[index].tensors)
      self[index].step = try stored.count("\(self[index].key).step")
    }
  }
}
