import Torch

/// The values that the codes of a 4-bit format stand for.
struct CodeBook: Sendable {
  /// The value of each of the 16 codes.
  let values: [Float]
  /// The limits between codes in ascending order of their values: a value up to the first limit has
  /// the first code, and so on.
  private let limits: [Float]
  /// The codes in ascending order of their values; nil if that is the order of the codes.
  private let order: [UInt8]?

  /// bitsandbytes' NF4: quantiles of the normal distribution, scaled to -1 ... 1 ("QLoRA: Efficient
  /// Finetuning of Quantized LLMs", 2023).
  static let normalFloat: CodeBook = {
    let values: [Float] = [
      -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
      -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
      0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
      0.7229568362236023, 1.0,
    ]
    return CodeBook(
      values: values, limits: zip(values, values.dropFirst()).map { ($0 + $1) / 2 }, order: nil)
  }()

  /// The 4-bit float with 2 bits of exponent and 1 of mantissa, E2M1. Values between two neighbors
  /// are rounded to the one with an even mantissa.
  static let e2m1: CodeBook = {
    let positive: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    let middles = zip(positive, positive.dropFirst()).map { ($0 + $1) / 2 }
    // A limit belongs to the code below it. Below zero, everything is mirrored.
    let above = middles.enumerated().map { $0.isMultiple(of: 2) ? $1 : $1.nextDown }
    let below = middles.enumerated().map { $0.isMultiple(of: 2) ? (-$1).nextDown : -$1 }
    // Zero has two codes; the negative one is for values that are rounded up to zero.
    return CodeBook(
      values: positive + positive.map { -$0 },
      limits: below.reversed() + [(-Float(0)).nextDown] + above,
      order: [15, 14, 13, 12, 11, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7])
  }()

  /// The code of the nearest value for each element, uint8 in the shape of the tensor.
  ///
  /// - Parameter scaled: float32
  func codes(of scaled: Tensor) throws -> Tensor {
    let places = try scaled.bucketize(Tensor(limits).to(scaled.device), isInt32: true)
    guard let order else { return try places.to(.uint8) }
    return try Tensor(order).to(scaled.device).indexSelect(0, places.flatten())
      .reshape(scaled.shape)
  }

  /// The two values of each byte, float32 [256, 2], for `PackedMatrix.Coding.pairs`.
  func pairs(on device: Device) throws -> Tensor { try Self.pairs(of: values, on: device) }

  /// The bytes of the values of all pairs.
  static let pairBytes = 512 * DType.float32.size

  static func pairs(of values: [Float], on device: Device) throws -> Tensor {
    try Tensor(values.flatMap { first in values.flatMap { [first, $0] } }, shape: [256, 2])
      .to(device)
  }

  /// Packs two codes into each byte, the first in the upper bits.
  ///
  /// - Parameter codes: uint8, an even number.
  static func packed(_ codes: Tensor) throws -> Tensor {
    let pairs = try codes.reshape([codes.count / 2, 2])
    return try pairs.select(1, 1).adding(pairs.select(1, 0), scale: 16)
  }
}
