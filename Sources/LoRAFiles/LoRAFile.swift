import LTX
import NN
import TensorFiles
import Torch

/// A file of low-rank adapters, in any of the formats of `LoRAFormat`.
///
/// An adapter's effect is strength * scale * B A. The scale is alpha / rank where the file carries
/// an alpha, and 1 where it does not, as in everything that LTX-2's trainers write. DoRA has
/// magnitudes besides (`LowRankAdapter`).
public struct LoRAFile: Sendable {
  /// The adapter of one linear layer, as views of the file's memory map.
  public struct Module: Sendable {
    /// In ComfyUI's format, `diffusion_model.transformer_blocks.0.attn1.to_q`, whatever the file's.
    public let path: String
    /// As the file has it.
    public let name: String
    /// A: [rank, inputs].
    public let down: Tensor
    /// B: [outputs, rank].
    public let up: Tensor
    /// What B A is multiplied by, before any strength.
    public let scale: Double
    /// [outputs]; of DoRA.
    public let magnitude: Tensor?
    /// The keys of the factors in the file.
    let downKey: String
    let upKey: String
    let magnitudeKey: String?

    public var rank: Int { down.size(0) }

    /// - Parameters:
    ///   - dtype: of the factors; nil keeps the file's.
    ///   - isTrained: makes the factors leaves that record gradients.
    func adapter(
      strength: Double, dtype: DType?, device: Device, isTrained: Bool = false
    ) throws -> LowRankAdapter {
      func factor(_ stored: Tensor) throws -> Tensor {
        let tensor = try stored.to(device, dtype)
        guard isTrained else { return tensor }
        // Training writes into them, and the file's own pages can't be written to.
        return try (tensor.sharesStorage(with: stored) ? tensor.clone() : tensor).asLeaf()
      }
      return LowRankAdapter(
        down: try factor(down), up: try factor(up), scale: scale, strength: strength,
        magnitude: try magnitude.map(factor))
    }
  }

  public let path: String
  public let metadata: [String: String]
  public let format: LoRAFormat
  /// Sorted by path.
  public let modules: [Module]
  /// Changes of biases, which are left out as ltx-core leaves them out.
  public let ignoredKeys: [String]
  /// Modules of models beside the transformer, which are left out: their names by the component,
  /// "text encoder".
  public let otherModules: [String: [String]]
  let contents = ContentCache()

  /// Reads the file's header, and the alphas.
  ///
  /// - Parameter path: a file, or a folder that peft or diffusers wrote.
  /// - Throws: `TensorFileError` for a file that is not safetensors; `WeightError` that names the
  ///   first key that does not belong to a LoRA for LTX-2 and what the file is instead, the half of
  ///   a pair that is missing, or factors that don't go together; `ConfigurationError` for a
  ///   description of the adapters that is damaged or asks for more than LoRA.
  public init(path: String) throws {
    let path = Self.file(at: path)
    let file: SafetensorsFile
    do {
      file = try SafetensorsFile(path: path)
    } catch let error as TensorFileError where error.kind == .notFound && path.contains(":") {
      throw TensorFileError(
        .notFound, path: path,
        "there is no such file; to give a strength, write FILE:0.8 with a number after the colon")
    }
    var parts: [String: Parts] = [:]
    var content = UnreadKeys()
    for key in file.keys {
      switch LoRAFormat.read(key) {
      case .bias: content.biases.append(key)
      case .problem(let problem): content.problems.append((key, problem))
      case .other(let component, let name): content.others[component, default: []].insert(name)
      case .foreign(let name): content.foreign.append((key, name))
      case .factor(let factor, let name, let module, let format, let isKnown):
        if !isKnown { content.unknown.insert(name) }
        var found = parts[module] ?? Parts(name: name, format: format)
        guard found.name == name, found.keys.updateValue(key, forKey: factor) == nil else {
          throw WeightError(
            file: path, key: key,
            problem: "is a second adapter for the layer that \(found.name) changes")
        }
        parts[module] = found
      }
    }
    if let refusal = content.refusal(file: path, modules: parts.count) { throw refusal }
    guard let format = parts.min(by: { $0.key < $1.key })?.value.format else {
      throw WeightError(
        file: path, key: "*.lora_A.weight",
        problem: "and *.lora_down.weight match nothing: this is not a LoRA file")
    }
    let scales = try PEFTConfigurations(
      file: path, metadata: file.metadata,
      hasPEFTNames: parts.values.contains { $0.name.hasPrefix("base_model.model.") },
      hasMagnitudes: parts.values.contains { $0.keys[.magnitude] != nil })
    self.path = path
    self.metadata = file.metadata
    self.format = format
    ignoredKeys = content.biases
    otherModules = content.others.mapValues { $0.sorted() }
    modules = try parts.sorted { $0.key < $1.key }.map { try $1.module($0, of: file, scales) }
  }

  /// The file that a folder of peft or diffusers holds; other paths as they are.
  private static func file(at path: String) -> String {
    guard !path.isEmpty, !isFile(path) else { return path }
    let names = [PEFTConfigurations.weightsName, "pytorch_lora_weights.safetensors"]
    return names.map { "\(path)/\($0)" }.first(where: isFile) ?? path
  }

  /// The keys of one module.
  private struct Parts {
    let name: String
    let format: LoRAFormat
    var keys: [LoRAFormat.Factor: String] = [:]

    func module(_ path: String, of file: SafetensorsFile, _ scales: PEFTConfigurations) throws
      -> Module
    {
      func fail(_ key: String, _ problem: String) -> WeightError {
        WeightError(file: file.name, key: key, problem: problem)
      }
      guard let downKey = keys[.down] else {
        let what =
          keys[.up] != nil ? "a B" : keys[.magnitude] != nil ? "a magnitude of DoRA" : "an alpha"
        throw fail(name, "has \(what) but no A (lora_A or lora_down)")
      }
      guard let upKey = keys[.up] else { throw fail(name, "has an A but no B (lora_B or lora_up)") }
      let (down, up) = (try file.tensor(downKey), try file.tensor(upKey))
      for (key, tensor) in [(downKey, down), (upKey, up)]
      where tensor.rank != 2 || !tensor.dtype.isFloatingPoint || tensor.count == 0 {
        throw fail(
          key,
          "is \(tensor.dtype) of shape \(tensor.shape); a factor of a LoRA is a matrix of fractions"
        )
      }
      guard down.size(0) == up.size(1) else {
        throw fail(
          name,
          "has A of \(down.shape) and B of \(up.shape), whose ranks \(down.size(0)) and \(up.size(1)) differ"
        )
      }
      let rank = down.size(0)
      var scale = try scales.scale(name, rank: rank)
      if let alphaKey = keys[.alpha] {
        let alpha = try file.tensor(alphaKey)
        guard alpha.count == 1 else {
          throw fail(alphaKey, "has shape \(alpha.shape); an alpha is one number")
        }
        scale = try alpha.to(.float64).reshape([]).item() / Double(rank)
      }
      guard scale.isFinite else {
        throw fail(
          keys[.alpha] ?? name,
          "gives a scale of \(scale), which must be finite. The file is damaged, or training diverged"
        )
      }
      var magnitude: Tensor?
      if let key = keys[.magnitude] {
        let tensor = try file.tensor(key)
        let outputs = up.size(0)
        guard tensor.dtype.isFloatingPoint, [[outputs], [outputs, 1]].contains(tensor.shape) else {
          throw fail(
            key,
            "is \(tensor.dtype) of shape \(tensor.shape); DoRA's magnitude is a fraction for each of the \(outputs) outputs"
          )
        }
        magnitude = try tensor.reshape([outputs])
      }
      return Module(
        path: path, name: name, down: down, up: up, scale: scale, magnitude: magnitude,
        downKey: downKey,
        upKey: upKey, magnitudeKey: keys[.magnitude])
    }
  }

  /// Where a module of a file in ComfyUI's format lies in a checkpoint.
  public static func checkpointPath(_ module: String) -> String {
    module.hasPrefix(ModuleNames.textProjection) ? module : "model." + module
  }

  /// Where a module of a checkpoint lies in a LoRA file.
  public static func filePath(_ checkpointPath: String) -> String {
    checkpointPath.hasPrefix("model.")
      ? String(checkpointPath.dropFirst("model.".count)) : checkpointPath
  }

  /// Stacks the adapters on the modules that they modify.
  ///
  /// - Parameters:
  ///   - isTrained: makes the factors leaves that record gradients.
  /// - Throws: `WeightError` for factors that are not finite.
  public func add(
    to adapters: inout AdapterSet, strength: Double, dtype: DType?, device: Device = .cpu,
    isTrained: Bool = false
  ) throws {
    try requireFinite()
    for module in modules {
      adapters.add(
        try module.adapter(strength: strength, dtype: dtype, device: device, isTrained: isTrained),
        to: Self.checkpointPath(module.path))
    }
  }

  /// - Throws: `WeightError` for a strength that is not finite.
  func requireFinite(strength: Double) throws {
    guard strength.isFinite else {
      throw WeightError(
        file: path, key: "strength", problem: "must be finite (got \(strength))")
    }
  }

  /// Checks that every adapter has a layer in a checkpoint, and its sizes.
  ///
  /// - Throws: `WeightError` that names the first module that does not fit, both shapes, and how
  ///   many there are.
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

  /// The adapters that have no layer in a checkpoint, or one of another size, and why.
  ///
  /// - Throws: `WeightError` for a layer that is stored in a format that can't be read.
  func misfits(_ checkpoint: Checkpoint) throws -> [(module: Module, problem: String)] {
    try modules.compactMap { module in
      let layerPath = Self.checkpointPath(module.path)
      guard let layer = checkpoint.source.entries[layerPath + ".weight"] else {
        if let error = checkpoint.source.unsupportedFormatError(layer: layerPath + ".") {
          throw error
        }
        let known = module.name == module.path ? "" : " (\(layerPath) there)"
        return (module, "is not a layer of \(checkpoint.source.name)\(known)")
      }
      guard layer.shape == [module.up.size(0), module.down.size(1)] else {
        if let error = checkpoint.source.unsupportedFormatError(layer: layerPath + ".") {
          throw error
        }
        return (
          module,
          "has A of \(module.down.shape) and B of \(module.up.shape), but the layer of "
            + "\(checkpoint.source.name) is \(layer.shape)"
        )
      }
      return nil
    }
  }

  /// Whether its attention layers have the width of LTX-Video's smaller model, 2048; LTX-2's have
  /// 4096, and 2048 for audio.
  var isNarrow: Bool {
    modules.contains {
      $0.path.hasSuffix(".attn1.to_q") && $0.down.size(1) == 2048
        && LoRAPart(path: $0.path) == .video
    }
  }
}

/// Keys of a file that are not factors of LTX-2's layers.
private struct UnreadKeys {
  var biases: [String] = []
  var problems: [(key: String, problem: String)] = []
  var others: [String: Set<String>] = [:]
  var foreign: [(key: String, name: String)] = []
  /// Modules with a prefix of LTX-2's and a name that it does not have; a checkpoint may know
  /// better.
  var unknown: Set<String> = []

  /// Why the file can't be used.
  ///
  /// - Parameter modules: how many adapters it has for LTX-2, unknown ones included.
  func refusal(file: String, modules: Int) -> WeightError? {
    func fail(_ key: String, _ problem: String) -> WeightError {
      WeightError(file: file, key: key, problem: problem)
    }
    let strangers = Set(foreign.map(\.name)).union(unknown)
    let usable = modules - unknown.count
    // Beside layers of LTX-2's, only modules that it does not have tell of another model.
    let names =
      usable > 0 ? strangers : strangers.union(others.values.joined()).union(problems.map(\.key))
    if let family = ModelFamily.recognize(names), let first = strangers.min() ?? names.min() {
      let part = usable == 0 ? "" : " (\(usable) other adapters are for LTX-2)"
      let key = foreign.first { $0.name == first }?.key ?? first
      return fail(
        key, "belongs to \(family.rawValue): the LoRA was made for that model, not for LTX-2\(part)"
      )
    }
    if let (key, problem) = problems.first {
      let count =
        problems.count == 1 ? "" : " (\(problems.count) keys of the file, with others like it)"
      return fail(key, problem + count)
    }
    if let (key, name) = foreign.first {
      let count = Set(foreign.map(\.name)).count
      return fail(
        key,
        "belongs to \(name.displayed()), which is not a layer of LTX-2; the LoRA was made for another model "
          + "(\(count) of \(count + modules) modules are not LTX-2's)")
    }
    if modules == 0, let (component, names) = others.min(by: { $0.key < $1.key }),
      let first = names.min()
    {
      return fail(
        first,
        "belongs to a \(component): the file has adapters of the \(others.keys.sorted().joined(separator: " and ")) "
          + "only, and LoRAs act on the transformer")
    }
    return nil
  }
}
