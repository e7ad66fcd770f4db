import CTorch

/// Blockwise 8-bit quantization: each row is split into blocks of 256 values with one scale each.
extension Tensor {
  /// - Parameter table: uint8 [65536], the codes of evenly spaced values from -1 to 1.
  /// - Returns: uint8 codes with the shape of the tensor, and the largest absolute value of each
  ///   block, float32.
  public func quantizedBlockwise(table: Tensor) throws -> (codes: Tensor, largest: Tensor) {
    let (codes, largest) = try producePair { ct_quantize_blockwise(handle, table.handle, $0, $1) }
    return (codes, largest)
  }

  /// The dequantized values, float32.
  ///
  /// - Parameters:
  ///   - largest: The largest absolute value of each block.
  ///   - map: float32 [256], the value of each code.
  public func dequantizedBlockwise(largest: Tensor, map: Tensor) throws -> Tensor {
    try produce { ct_dequantize_blockwise(handle, largest.handle, map.handle, $0) }
  }

  /// An 8-bit moment of Adam, which a step updates in place.
  public struct BlockwiseMoment: Sendable {
    public let codes: Tensor
    public let largest: Tensor
    public let map: Tensor
    public let table: Tensor

    public init(codes: Tensor, largest: Tensor, map: Tensor, table: Tensor) {
      self.codes = codes
      self.largest = largest
      self.map = map
      self.table = table
    }

    var c: ct_moment_8bit {
      ct_moment_8bit(
        codes: codes.handle, largest: largest.handle, map: map.handle, table: table.handle)
    }
  }

  /// Takes a step of Adam with decoupled weight decay, updating parameters and their moments in
  /// place.
  ///
  /// - Parameters:
  ///   - firstMoment, secondMoment: The moments of all parameters, in which each parameter begins a
  ///     new block.
  ///   - number: The number of the step, from 1.
  public static func takeAdamW8bitStep(
    _ parameters: [Tensor], gradients: [Tensor], firstMoment: BlockwiseMoment,
    secondMoment: BlockwiseMoment, number: Int, learningRate: Double, beta1: Double, beta2: Double,
    eps: Double, weightDecay: Double
  ) throws {
    precondition(parameters.count == gradients.count, "one gradient per parameter")
    try withHandles(parameters) { parameterHandles, count in
      try withHandles(gradients) { gradientHandles, _ in
        try check(
          ct_adamw_8bit(
            parameterHandles, gradientHandles, count, firstMoment.c, secondMoment.c, Int64(number),
            learningRate, beta1, beta2, eps, weightDecay))
      }
    }
  }
}
