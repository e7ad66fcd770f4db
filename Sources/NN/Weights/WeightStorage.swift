import Torch

/// The storage of linear layers' weights in memory.
public struct WeightStorage: Sendable {
  enum Form: Sendable {
    case asStored
    case dequantized
    case quantized(any WeightQuantizer)
  }

  let form: Form
  /// Whether the weight of the layer at a path stays in the format of the file.
  let isExcluded: @Sendable (String) -> Bool

  init(_ form: Form, isExcluded: @escaping @Sendable (String) -> Bool = { _ in false }) {
    self.form = form
    self.isExcluded = isExcluded
  }

  /// Weights stay in the format of the file. Quantized weights are dequantized each time their
  /// layer runs. The values are those of `dequantized`, in half or a quarter of its memory.
  public static let asStored = WeightStorage(.asStored)
  /// Weights are stored in the dtype of the policy, so that layers don't dequantize while they run.
  public static let dequantized = WeightStorage(.dequantized)
  /// Weights are quantized to int8 with a scale for each row while loading: about half the memory
  /// of bfloat16. Weights that are quantized in the file stay in its format.
  public static let int8 = WeightStorage(
    .quantized(RowQuantizer(elementType: .int8, arithmetic: .float32)))

  /// Like `int8`, without the layers at some paths.
  ///
  /// - Parameter isExcluded: Whether the weight of the layer at a path stays in the file's format.
  public static func int8(
    excluding isExcluded: @escaping @Sendable (String) -> Bool
  ) -> WeightStorage {
    WeightStorage(int8.form, isExcluded: isExcluded)
  }

  /// Like `int8`, but with the values of optimum-quanto, which computes scales and quotients in the
  /// weight's own dtype, and also in `.float8E4M3`.
  ///
  /// - Parameter isExcluded: Whether the weight of the layer at a path stays in the file's format.
  /// - Precondition: `elementType` is one of the two.
  public static func quanto(
    _ elementType: DType, excluding isExcluded: @escaping @Sendable (String) -> Bool
  ) -> WeightStorage {
    precondition(
      [.int8, .float8E4M3].contains(elementType), "\(elementType) is no 8-bit dtype of quanto's")
    return WeightStorage(
      .quantized(RowQuantizer(elementType: elementType, arithmetic: nil)), isExcluded: isExcluded)
  }

  /// Weights are quantized while loading to 4 or 2 bits per element with optimum-quanto's values,
  /// with a scale and a shift in the weight's dtype for each group of up to 128 elements.
  ///
  /// - Parameter isExcluded: Whether the weight of the layer at a path stays in the file's format.
  /// - Precondition: There are 4 or 2 bits.
  public static func quanto(
    bits: Int, excluding isExcluded: @escaping @Sendable (String) -> Bool
  ) -> WeightStorage {
    precondition([4, 2].contains(bits), "quanto packs 4 or 2 bits (got \(bits))")
    return WeightStorage(.quantized(AffineQuantizer(bits: bits)), isExcluded: isExcluded)
  }

  /// Weights are quantized while loading to NF4 with bitsandbytes' values: 4 bits per element, and
  /// a float32 scale for each block of 64.
  ///
  /// - Parameter isExcluded: Whether the weight of the layer at a path stays in the file's format.
  public static func normalFloat(
    excluding isExcluded: @escaping @Sendable (String) -> Bool
  ) -> WeightStorage {
    WeightStorage(.quantized(NormalFloatQuantizer()), isExcluded: isExcluded)
  }
}
