import NN
import Torch

/// Between the adapters of a training run and files.
extension LoRAFile {
  /// The key that a parameter of an adapter is saved by.
  public static func key(of parameter: Parameter) -> String {
    let magnitude = "lora_magnitude_vector"
    let key = filePath(parameter.key)
    return key.hasSuffix(".\(magnitude)") ? key.dropLast(magnitude.count) + "dora_scale" : key
  }

  /// What a run's adapters are in a file in ComfyUI's keys:
  /// `diffusion_model.<module>.lora_A.weight`, `….lora_B.weight` and, of DoRA, `….dora_scale`
  /// [outputs, 1].
  ///
  /// The file carries no alpha: the scale of training is part of B there, so that strength 1 acts
  /// as the adapters did.
  ///
  /// - Parameter scale: `FreshAdapters.scale`.
  public static func tensors(
    of parameters: [Parameter], scale: Double, dtype: DType
  ) throws -> [(key: String, tensor: Tensor)] {
    try parameters.map { parameter in
      var value = try parameter.tensor.detach()
      let key = key(of: parameter)
      if key.hasSuffix(".lora_B.weight"), scale != 1 { value = try value * scale }
      if key.hasSuffix(".dora_scale") { value = try value.reshape([-1, 1]) }
      return (key, try value.to(.cpu, dtype).contiguous())
    }
  }

  /// The adapters as what a run goes on from, in float32.
  ///
  /// - Parameter scale: `FreshAdapters.scale` of that run, by which B is divided: the run starts
  ///   with the file's effect.
  /// - Throws: `WeightError` for a scale of 0, by which nothing can be trained, and for factors
  ///   that are not finite.
  public func initialAdapters(scale: Double) throws -> InitialAdapters {
    try requireFinite()
    guard scale.isFinite, scale != 0 else {
      throw WeightError(
        file: path, key: "alpha",
        problem: "gives the run a scale of \(scale), with which nothing is trained")
    }
    var values: [String: InitialAdapters.Value] = [:]
    for module in modules {
      let up = try module.up.to(.float32)
      values[Self.checkpointPath(module.path)] = InitialAdapters.Value(
        down: try module.down.to(.float32),
        up: module.scale == scale ? up : try up * (module.scale / scale),
        magnitude: try module.magnitude?.to(.float32))
    }
    return InitialAdapters(file: path, values: values)
  }
}
