import Foundation
import NN
import TensorFiles
import Torch

/// Quantized layers for tests, computed from the definitions.
public enum QuantizedFile {
  /// An element of the rotation: the regular Hadamard matrix of order 4 has -1 where the indices
  /// add up to 3, and the Kronecker power multiplies over the digits to base 4.
  public static func rotation(_ group: Int) throws -> Tensor {
    var elements: [Float] = []
    for row in 0..<group {
      for column in 0..<group {
        var (i, j, sign) = (row, column, Float(1))
        var rest = group
        while rest > 1 {
          if i % 4 + j % 4 == 3 { sign = -sign }
          (i, j, rest) = (i / 4, j / 4, rest / 4)
        }
        elements.append(sign / Float(group).squareRoot())
      }
    }
    return try Tensor(elements, shape: [group, group])
  }

  /// Rotates groups of columns.
  public static func rotated(_ weight: Tensor, _ group: Int) throws -> Tensor {
    let (rows, columns) = (weight.size(0), weight.size(1))
    return try weight.to(.float32).reshape([rows, columns / group, group]).matmul(
      rotation(group).transpose(0, 1)
    )
    .reshape([rows, columns])
  }

  /// int8 with a scale for each row: [O, I] and [O, 1].
  public static func int8(_ weight: Tensor) throws -> (elements: Tensor, scale: Tensor) {
    let weight = try weight.to(.float32)
    let scale = try weight.abs().amax([1], keepdim: true).clamped(min: 1e-30) / 127
    return (try (weight / scale).round().to(.int8), scale)
  }

  public static func bytes(_ text: String) throws -> Tensor {
    let bytes = Array(text.utf8)
    return try Tensor(bytes, shape: [bytes.count])
  }

  public static func convRot(_ group: Int) -> String {
    "{\"format\": \"int8_tensorwise\", \"convrot\": true, \"convrot_groupsize\": \(group)}"
  }

  /// Writes a copy of a checkpoint in which every matrix that `isQuantized` accepts is in INT8
  /// ConvRot, with the largest group that fits.
  public static func writeConvRot(
    _ source: any TensorSource, to path: String, where isQuantized: (String) -> Bool
  ) throws {
    var tensors: [(key: String, tensor: Tensor)] = []
    for key in source.keys {
      let tensor = try source.tensor(key)
      guard isQuantized(key), tensor.rank == 2, key.hasSuffix(".weight"),
        let group = [256, 64, 16, 4].first(where: { tensor.size(1).isMultiple(of: $0) })
      else {
        tensors.append((key, tensor))
        continue
      }
      let (elements, scale) = try int8(rotated(tensor, group))
      let prefix = key.dropLast("weight".count)
      tensors += [
        (key, elements), ("\(prefix)weight_scale", scale),
        ("\(prefix)comfy_quant", try bytes(convRot(group))),
      ]
    }
    try writeSafetensors(tensors, metadata: source.metadata, to: path)
  }
}
