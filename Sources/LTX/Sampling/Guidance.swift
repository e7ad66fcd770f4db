// B batch, T tokens, C latent channels.

import Torch

/// The strength with which one modality's prediction is pushed away from worse ones (ltx-core,
/// `components/guiders.py`).
public struct Guidance: Sendable {
  /// Classifier-free guidance: away from the prediction for the negative prompt. 1 is off.
  public var cfg = 1.0
  /// Spatio-temporal guidance: away from the prediction without self-attention in some blocks. 0 is
  /// off.
  public var stg = 0.0
  /// Modality guidance: away from the prediction without the other modality. 1 is off.
  public var modality = 1.0
  /// The fraction by which the result's standard deviation is pulled back to the plain
  /// prediction's, 0 to 1.
  public var rescale = 0.0
  /// The number of steps that are skipped between predictions of the modality, which keeps its last
  /// prediction in them.
  public var skipSteps = 0
  /// The blocks in which spatio-temporal guidance skips self-attention; nil for all.
  public var stgBlocks: Set<Int>?

  public init() {}

  func isPredicted(at step: Int) -> Bool { step.isMultiple(of: skipSteps + 1) }

  /// Combines predictions of x0 in float32; nil for passes that this modality doesn't need.
  func combine(_ conditional: Tensor, _ others: GuidancePasses) throws -> Tensor {
    let c = try conditional.to(.float32)
    var result = c
    for (weight, other) in [
      (cfg - 1, others.unconditional), (stg, others.perturbed), (modality - 1, others.isolated),
    ] {
      guard let other, weight != 0 else { continue }
      result = try result.adding(c - other.to(.float32), scale: Scalar(weight))
    }
    if rescale != 0 {
      let factor = try c.std(nil) / result.std(nil)
      result = try result * (factor * rescale + (1 - rescale))
    }
    return try result.to(conditional.dtype)
  }
}

/// The predictions of x0 in addition to the conditional one.
struct GuidancePasses {
  var unconditional: Tensor?
  var perturbed: Tensor?
  var isolated: Tensor?
}
