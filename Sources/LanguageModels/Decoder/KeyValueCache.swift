// N prompts, K key heads, E width of a head, C capacity in tokens.

import Torch

/// The keys and values of the tokens that a decoder has read, for each of its layers.
///
/// Memory grows in steps, so that most tokens are written in place. A cache belongs to one pass at
/// a time, which the compiler can't check; hence `@unchecked Sendable`.
final class KeyValueCache: @unchecked Sendable {
  private let configuration: DecoderConfiguration
  /// The keys and values of each layer: [N, K, C, E].
  private var keys: [Tensor?]
  private var values: [Tensor?]
  /// The number of tokens that all layers have.
  private(set) var count = 0
  /// The capacity that is allocated when the cache is full, in tokens.
  private var capacity: Int

  /// The number of tokens by which a full cache grows at least.
  static let step = 256

  /// - Parameter capacity: The expected number of tokens.
  init(_ configuration: DecoderConfiguration, capacity: Int) {
    self.configuration = configuration
    self.capacity = capacity
    keys = Array(repeating: nil, count: configuration.layers.count)
    values = keys
  }

  /// Makes room for tokens that all layers will add next.
  func reserve(_ tokens: Int) {
    guard count + tokens > capacity else { return }
    capacity = max(count + tokens, capacity + max(Self.step, capacity / 2))
  }

  /// Adds the keys and values of new tokens of a layer, [N, K, T, E] each.
  ///
  /// - Returns: Those of all tokens, [N, K, count + T, E], as views of the cache.
  func append(_ key: Tensor, _ value: Tensor, layer: Int) throws -> (keys: Tensor, values: Tensor) {
    let tokens = key.size(2)
    func extended(_ stored: Tensor?, by new: Tensor) throws -> Tensor {
      if let stored, stored.size(2) >= count + tokens { return stored }
      var shape = new.shape
      shape[2] = max(capacity, count + tokens)
      let larger = try Tensor.empty(shape, dtype: new.dtype, device: new.device)
      if let stored, count > 0 {
        try larger.narrow(2, 0, count).copy_(stored.narrow(2, 0, count))
      }
      return larger
    }
    let allKeys = try extended(keys[layer], by: key)
    let allValues = try extended(values[layer], by: value)
    (keys[layer], values[layer]) = (allKeys, allValues)
    try allKeys.narrow(2, count, tokens).copy_(key)
    try allValues.narrow(2, count, tokens).copy_(value)
    return (
      try allKeys.narrow(2, 0, count + tokens), try allValues.narrow(2, 0, count + tokens)
    )
  }

  /// Counts tokens that all layers have added.
  func advance(_ tokens: Int) { count += tokens }
}
