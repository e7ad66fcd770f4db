import NN
import Torch

/// The 256 numbers that 8 bits stand for in a block, relative to its largest (Dettmers, "8-Bit
/// Approximations for Parallelism in Deep Learning", 2016; bitsandbytes' `create_dynamic_map`):
/// seven powers of ten, the larger ones divided the more finely.
///
/// Codes are found as bitsandbytes finds them on the CPU: by a table of 65,536 evenly spaced
/// numbers, each of which has the code that is nearest to it. A number is so taken for one up to
/// 1/65,535 of the block's largest away; zero has the code of 1.5e-5 of it.
public struct DynamicMap: Sendable {
  /// float32 [256], ascending.
  public let map: Tensor
  /// uint8 [65536]
  public let table: Tensor

  private static let bits = 7
  private static let powers = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
  private static let tableSize = 65_536

  /// - Parameter isSigned: for numbers from -1 to 1; otherwise from 0.
  public init(isSigned: Bool, device: Device = .cpu) throws {
    // 0 and 1 stand beside the means of what each power of ten is divided into.
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

  /// - Returns: uint8 codes shaped as `x`, and the largest absolute number of each block of 256,
  ///   float32.
  public func quantized(_ x: Tensor) throws -> (codes: Tensor, largest: Tensor) {
    try x.quantizedBlockwise(table: table)
  }

  /// The float32 numbers that codes stand for.
  public func dequantized(_ codes: Tensor, largest: Tensor) throws -> Tensor {
    try codes.dequantizedBlockwise(largest: largest, map: map)
  }
}
