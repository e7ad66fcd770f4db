import NN
import Torch

/// The 256 values of 8-bit codes, relative to the largest of their block (Dettmers, "8-Bit
/// Approximations for Parallelism in Deep Learning", 2016; bitsandbytes' `create_dynamic_map`):
/// seven powers of ten, of which the larger ones are divided more finely.
///
/// Like bitsandbytes on the CPU, codes are looked up in a table of the nearest codes of 65,536
/// evenly spaced values. The lookup is therefore off by up to 1/65,535 of the block's largest
/// value; zero gets the code of 1.5e-5 of it.
public struct DynamicMap: Sendable {
  /// float32 [256], ascending.
  public let map: Tensor
  /// uint8 [65536]
  public let table: Tensor

  private static let bits = 7
  private static let powers = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
  private static let tableSize = 65_536

  /// - Parameter isSigned: Whether the values range from -1 to 1 instead of from 0 to 1.
  public init(isSigned: Bool, device: Device = .cpu) throws {
    // The values are 0, 1, and the means of the intervals into which each power of ten is divided.
    var values: [Float] = [0, 1]
    for (index, power) in Self.powers.enumerated() {
      let parts = 1 << (isSigned ? index : index + 1)
      let boundaries = try Tensor.linspace(from: 0.1, to: 1, steps: parts + 1)
      let means = try (boundaries.narrow(0, 0, parts) + boundaries.narrow(0, 1, parts)) / 2 * power
      let part: [Float] = try means.array()
      values += isSigned ? part + part.map { -$0 } : part
    }
    values.sort()
    let map = try Tensor(values)
    let count = values.count
    let midpoints = try (map.narrow(0, 0, count - 1) + map.narrow(0, 1, count - 1)) * 0.5
    let numbers =
      try Tensor.arange(to: Scalar(Self.tableSize), dtype: .float32) * 2
      / Double(Self.tableSize - 1)
      - .scalar(1)
    self.map = try map.to(device)
    table = try numbers.unsqueeze(1).greater(than: midpoints).sum([1], dtype: .int32).to(
      device, .uint8)
  }

  /// - Returns: uint8 codes with the shape of `x`, and the largest absolute value of each block of
  ///   256, float32.
  public func quantized(_ x: Tensor) throws -> (codes: Tensor, largest: Tensor) {
    try x.quantizedBlockwise(table: table)
  }

  /// Returns the float32 values of codes.
  public func dequantized(_ codes: Tensor, largest: Tensor) throws -> Tensor {
    try codes.dequantizedBlockwise(largest: largest, map: map)
  }
}
