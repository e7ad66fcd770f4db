import LTX
import NN

/// Whether a version of LTX-2 has the layers that a LoRA changes.
public struct GenerationFit: Codable, Sendable, Equatable {
  public let generation: ModelGeneration
  public let fits: Bool
  /// The evidence, as a clause.
  public let reason: String
}

extension LoRAFile {
  /// For each version of LTX-2, whether it has all layers of this file, by their names and by the
  /// rows of the modulation. Sizes are not compared: only a checkpoint has them.
  ///
  /// - Throws: The errors of building a small model of each version in memory.
  public func generationFits() throws -> [GenerationFit] {
    try ModelGeneration.allCases.map { generation in
      let variants = try generation.variants.map(Variant.init)
      let lacking = modules.map { module in variants.filter { !$0.has(module) }.count }
      let misfits = modules.indices.filter { lacking[$0] == variants.count }
      if let first = misfits.first {
        let others = misfits.count - 1
        let more = others == 0 ? "" : ", and \(others) more \(others == 1 ? "layer" : "layers")"
        return GenerationFit(
          generation: generation, fits: false,
          reason: "\(generation.rawValue) does not have \(Self.layer(modules[first]))\(more)")
      }
      let all = modules.count == 1 ? "its layer" : "all \(modules.count) layers"
      let optional = modules.indices.first { lacking[$0] > 0 }.map { index in
        "; some of its models do not have \(modules[index].path.displayed())"
      }
      return GenerationFit(
        generation: generation, fits: true,
        reason: "\(generation.rawValue) has \(all) by name\(optional ?? "")")
    }
  }

  /// The layers of one kind of model.
  private struct Variant {
    let names: ModuleNames
    let modulationRows: Int

    init(_ transformer: TinyTransformer) throws {
      names = ModuleNames(try transformer.linearLayers())
      modulationRows = transformer.modulationRows
    }

    func has(_ module: Module) -> Bool {
      names.isKnown(module.path)
        && modulationRows == (LoRAFile.modulationRows(module) ?? modulationRows)
    }
  }

  /// The rows of a layer that computes the modulation of a modality's blocks; nil for other layers.
  private static func modulationRows(_ module: Module) -> Int? {
    guard let shape = module.adapter.weightShape, shape.count == 2, shape[1] > 0,
      module.path.hasSuffix(".adaln_single.linear")
        || module.path.hasSuffix(".audio_adaln_single.linear")
    else { return nil }
    return shape[0] / shape[1]
  }

  /// A layer, with its rows if the versions differ in them.
  private static func layer(_ module: Module) -> String {
    let rows = modulationRows(module).map { " with \($0) rows of modulation" }
    return module.path.displayed() + (rows ?? "")
  }
}
