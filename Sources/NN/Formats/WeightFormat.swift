// O outputs, I inputs of a linear layer.

import TensorFiles
import Torch

/// A storage format of weights in files.
///
/// A value describes one weight of a file in this format. To add a format, write one file with a
/// conforming type and add the type to `WeightFormats.all`.
package protocol WeightFormat: Sendable {
  /// The format's names in `comfy_quant`; empty for a format that only the tensors themselves show.
  static var names: [String] { get }

  /// The names of the tensors that the format supports beside a `weight`, such as `weight_scale`. A
  /// tensor of another name that belongs to the weight is an error.
  static var companions: [String] { get }

  /// Recognizes the format of a weight. Reads headers and the description, never elements.
  ///
  /// - Returns: Nil for a weight in another format.
  /// - Throws: `WeightError` or `Issue` for a weight that is in this format but can't be read.
  init?(_ header: WeightHeader) throws

  /// The shape of the values, [O, I] of a linear layer.
  var shape: [Int] { get }
  /// The default dtype of the values.
  var dtype: DType { get }
  /// The format's name for users: `int8_tensorwise (ConvRot 256)`.
  var title: String { get }
  /// Whether the weight is stored in fewer bits than a layer computes in.
  var isQuantized: Bool { get }

  /// Loads the weight for a layer.
  ///
  /// - Parameter dtype: The dtype of the values; nil for the format's own.
  /// - Throws: `WeightError` for companion tensors with implausible values.
  func load(dtype: DType?, from store: WeightStore) throws -> any StoredWeight

  /// Loads the values that adapters are added to, in the dtype in which the sum is stored.
  ///
  /// - Parameter dtype: As in `load`.
  func valuesToFuse(dtype: DType?, from store: WeightStore) throws -> Tensor

  /// The weight's tensors in a file.
  var tensors: [WeightTensor] { get }

  /// The reason why other values can't be stored in this format; nil if they can.
  var writingProblem: String? { get }

  /// Stores new values in this format, if `writingProblem` is nil.
  ///
  /// - Parameter values: The new values in the shape of the weight, float32 and finite.
  /// - Returns: The tensors listed by `tensors`, by key.
  func encode(_ values: Tensor) throws -> [String: Tensor]
}

extension WeightFormat {
  package var isQuantized: Bool { true }
  package var writingProblem: String? { nil }

  package func valuesToFuse(dtype: DType?, from store: WeightStore) throws -> Tensor {
    try load(dtype: dtype, from: store).dequantized()
  }
}

/// A tensor of a weight in a file.
package struct WeightTensor: Sendable {
  package let key: String
  package let dtype: DType
  package let shape: [Int]

  package init(key: String, dtype: DType, shape: [Int]) {
    self.key = key
    self.dtype = dtype
    self.shape = shape
  }
}

/// The formats that the program reads.
package enum WeightFormats {
  /// The order in which a weight without a description is compared with them.
  static let all: [any WeightFormat.Type] = [
    QuantoFormat.self, Int8Format.self, NVFP4Format.self, BitsAndBytesFormat.self,
    ScaledFloatFormat.self, DenseFormat.self,
  ]

  /// The names of all tensors that a format supports beside a `weight`.
  package static let companions: Set<String> = Set(
    all.flatMap { $0.companions } + [QuantizationDescription.tensorName])

  /// The names of the formats in descriptions.
  static let names = all.flatMap { $0.names }

  /// Whether a key names a tensor beside a weight, and not a weight itself.
  package static func isCompanion(_ key: String) -> Bool {
    companions.contains { key == $0 || key.hasSuffix(".\($0)") }
  }
}
