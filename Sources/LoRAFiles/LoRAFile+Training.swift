import NN
import Torch

/// Conversions between the adapters of a training run and files.
extension LoRAFile {
  /// The tensors of a run's adapters in a file with ComfyUI's keys.
  ///
  /// A LoRA has no alpha: the scale of training is multiplied into B, so that strength 1 has the
  /// effect that the adapters had in training.
  ///
  /// - Parameters:
  ///   - parameters: Parameters whose keys are a module's path in a checkpoint, a dot and a role.
  ///   - scale: `FreshAdapters.scale`.
  /// - Throws: `Issue` for parameters that don't make adapters; `TorchError`.
  public static func tensors(
    of parameters: [Parameter], scale: Double, dtype: DType
  ) throws -> [(key: String, tensor: Tensor)] {
    try fileTensors(of: parameters, scale: scale).map { key, tensor in
      let isAlpha = key.hasSuffix(".\(AdapterRole.alpha.name)")
      return (key, try tensor.to(.cpu, isAlpha ? nil : dtype).contiguous())
    }
  }

  /// The keys and shapes of the same tensors.
  public static func shapes(of parameters: [Parameter]) throws -> [(key: String, shape: [Int])] {
    try fileTensors(of: parameters, scale: 1).map { ($0.key, $0.tensor.shape) }
  }

  private static func fileTensors(
    of parameters: [Parameter], scale: Double
  ) throws -> [(key: String, tensor: Tensor)] {
    try AdapterKinds.adapters(of: parameters, scale: scale).flatMap { module, adapter in
      let path = filePath(module)
      return try adapter.mapTensors { try $1.detach() }.fileTensors(.comfyUI)
        .map { ("\(path).\($0.name)", $0.tensor) }
    }
  }

  /// The adapters for a run that continues from them, in float32.
  ///
  /// - Parameter scale: `FreshAdapters.scale` of that run. Tensors are divided by it, so that the
  ///   run starts with the file's effect.
  /// - Throws: `WeightError` for a scale of 0, with which nothing can be trained, and for tensors
  ///   that aren't finite.
  public func initialAdapters(scale: Double) throws -> InitialAdapters {
    try requireFinite()
    guard scale.isFinite, scale != 0 else {
      throw WeightError(
        file: path, key: "alpha",
        problem: "gives the run a scale of \(scale), with which nothing is trained")
    }
    var adapters: [String: any Adapter] = [:]
    for module in modules {
      adapters[Self.checkpointPath(module.path)] = try module.adapter
        .mapTensors { try $1.to(.float32) }.rescaled(to: scale)
    }
    return InitialAdapters(file: path, adapters: adapters)
  }
}
