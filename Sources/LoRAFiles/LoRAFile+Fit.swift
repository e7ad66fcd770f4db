import LTX
import NN
import TensorFiles

/// Checks that the adapters of a file fit a checkpoint.
extension LoRAFile {
  /// - Throws: `WeightError` for a strength that isn't finite.
  func requireFinite(strength: Double) throws {
    guard strength.isFinite else {
      throw WeightError(file: path, key: "strength", problem: "must be finite (got \(strength))")
    }
  }

  /// Checks that a checkpoint has a layer for every adapter, in its shape.
  ///
  /// - Throws: `WeightError` that names the first module that doesn't fit, both shapes, and the
  ///   number of such modules.
  public func requireFit(_ checkpoint: Checkpoint) throws {
    let misfits = try misfits(checkpoint)
    guard let (module, problem) = misfits.first else { return }
    let count =
      misfits.count == modules.count
      ? modules.count == 1 ? "" : " None of the \(modules.count) adapters fits."
      : " \(modules.count - misfits.count) of \(modules.count) adapters fit, \(misfits.count) don't."
    let family = isNarrow ? " Its layers are as wide as those of LTX-Video 0.9 (2B)." : ""
    throw WeightError(
      file: path, key: module.name,
      problem: "\(problem); the LoRA was made for another model.\(count)\(family)")
  }

  /// The adapters that have no layer in a checkpoint, or one of another shape, with the reason.
  ///
  /// - Throws: `WeightError` for a layer that is stored in a format that can't be read.
  func misfits(_ checkpoint: Checkpoint) throws -> [(module: Module, problem: String)] {
    let index = WeightIndex(checkpoint.source)
    return try modules.compactMap { module in
      let layerPath = Self.checkpointPath(module.path)
      guard let layer = checkpoint.source.entries[layerPath + ".weight"] else {
        if let error = checkpoint.source.unsupportedFormatError(layer: layerPath + ".") {
          throw error
        }
        let known = module.name == module.path ? "" : " (\(layerPath) there)"
        return (module, "is not a layer of \(checkpoint.source.name)\(known)")
      }
      if layer.shape == module.adapter.weightShape { return nil }
      // Several elements of a packed weight share a byte.
      let shape = try index.format(of: layerPath + ".weight")?.shape ?? layer.shape
      guard shape == module.adapter.weightShape else {
        if let error = checkpoint.source.unsupportedFormatError(layer: layerPath + ".") {
          throw error
        }
        return (
          module,
          "has \(module.adapter.shapes), but the layer of \(checkpoint.source.name) is "
            + "\(shape)"
        )
      }
      return nil
    }
  }

  /// Whether its attention layers have the width of LTX-Video's smaller model, 2048. LTX-2's have
  /// 4096, and 2048 for audio.
  var isNarrow: Bool {
    modules.contains {
      $0.path.hasSuffix(".attn1.to_q") && $0.adapter.weightShape?.last == 2048
        && LoRAPart(path: $0.path) == .video
    }
  }
}
