import LanguageModels
import NN
import Torch

extension Checkpoint {
  /// The plan of encoding prompts: with the text encoder and the projection of its features, and
  /// then with the connectors.
  ///
  /// - Parameters:
  ///   - path: The text encoder's folder or file; nil gives no plan.
  ///   - limitBytes: The memory that tensors may take.
  ///   - connects: Whether the connectors run too, not only the text encoder.
  /// - Throws: `Issue` if it does not fit; `Issue` or `TensorFileError` for files that can't be
  ///   read; `TorchError` if the device fails.
  public func textEncoderPlan(
    at path: String?, dtype: DType, device: Device, storage: WeightStorage,
    _ settings: MemorySettings, limitBytes: Int, connects: Bool = true
  ) throws -> WorkPlan? {
    guard let path else { return nil }
    var costs = try textEncoderCosts(at: path, dtype: dtype, storage: storage)
    costs.fixedBytes += try textProjectionBytes(textEncoder: path, dtype: dtype)
    var plan = try settings.plan(
      "encoding text", per: ("prompt", 1), on: device, limitBytes: limitBytes, readingFrom: path,
      costs)
    guard connects else { return plan }
    let connectors = try settings.plan(
      "encoding text", peakBytes: textConnectorBytes(dtype: dtype), limitBytes: limitBytes,
      suggestion: "Use a device with more memory.")
    plan.peakBytes = max(plan.peakBytes, connectors.peakBytes)
    return plan
  }
}
