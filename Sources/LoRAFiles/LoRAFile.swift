import LTX
import NN
import Support
import TensorFiles
import Torch

/// A file of adapters, in any of the formats of `LoRAFormat`.
///
/// The effect of an adapter is strength * scale * its change. The scale is alpha / rank if the file
/// has an alpha, and 1 otherwise, as in all LoRAs that LTX-2's trainers write.
public struct LoRAFile: Sendable {
  /// The adapter of one linear layer.
  public struct Module: Sendable {
    /// The layer in ComfyUI's format, `diffusion_model.transformer_blocks.0.attn1.to_q`.
    public let path: String
    /// The layer's name in the file.
    public let name: String
    /// The adapter, with views of the file's memory map and strength 1.
    public let adapter: any Adapter
    /// The keys of the adapter's tensors in the file, by role.
    let keys: [String: String]

    public var kind: AdapterKind { type(of: adapter).kind }
  }

  public let path: String
  public let metadata: [String: String]
  public let format: LoRAFormat
  /// The modules, sorted by path.
  public let modules: [Module]
  /// Changes of biases, which are skipped, like in ltx-core.
  public let ignoredKeys: [String]
  /// Modules of models other than the transformer, which are skipped: their names by the component,
  /// "text encoder".
  public let otherModules: [String: [String]]
  let contents = ContentCache()

  /// Reads the file's header, and the alphas.
  ///
  /// - Parameter path: A file, or a folder written by peft or diffusers.
  /// - Throws: `TensorFileError` for a file that isn't safetensors; `WeightError` that names the
  ///   first key that doesn't belong to a LoRA for LTX-2 and the likely content of the file, or an
  ///   adapter with missing tensors or tensors that don't fit together; `Issue` for a
  ///   description of the adapters that is damaged or asks for unsupported settings.
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
    let names = try ModuleNames.ltx2
    var parts: [String: ModuleParts] = [:]
    var content = UnreadKeys()
    for key in file.keys {
      switch LoRAKey(key, names) {
      case .bias: content.biases.append(key)
      case .problem(let problem): content.problems.append((key, problem))
      case .other(let component, let name): content.others[component, default: []].insert(name)
      case .foreign(let name): content.foreign.append((key, name))
      case .tensor(let role, let name, let module, let format, let isKnown):
        if !isKnown { content.unknown.insert(name) }
        var found = parts[module] ?? ModuleParts(name: name, format: format)
        guard found.name == name, found.keys.updateValue(key, forKey: role) == nil else {
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
      hasMagnitudes: parts.values.contains { $0.kind == DoRAAdapter.kind })
    self.path = path
    self.metadata = file.metadata
    self.format = format
    ignoredKeys = content.biases
    otherModules = content.others.mapValues { $0.sorted() }
    modules = try parts.sorted { $0.key < $1.key }.map { try $1.module($0, of: file, scales) }
  }

  /// The file in a folder written by peft or diffusers; other paths unchanged.
  private static func file(at path: String) -> String {
    guard !path.isEmpty, !isFile(path) else { return path }
    let names = [PEFTConfigurations.weightsName, "pytorch_lora_weights.safetensors"]
    return names.map { "\(path)/\($0)" }.first(where: isFile) ?? path
  }

  /// Whether a file holds adapters, by the names of its tensors. False also for a file that can't
  /// be read, which is reported by the code that reads it as something else.
  public static func isLoRA(path: String) -> Bool {
    let keys: [String]
    do { keys = Array(try SafetensorsFile(path: path).entries.keys) } catch { return false }
    let roles = keys.compactMap { AdapterKinds.role(ofKey: $0)?.role }
    let tensors = roles.count { $0 != AdapterRole.alpha.name }
    return tensors > 0 && 2 * tensors >= keys.count
  }

  /// The path in a checkpoint of a module of a file in ComfyUI's format.
  public static func checkpointPath(_ module: String) -> String {
    module.hasPrefix(ModuleNames.textProjection) ? module : "model." + module
  }

  /// The path in a LoRA file of a module of a checkpoint.
  public static func filePath(_ checkpointPath: String) -> String {
    checkpointPath.hasPrefix("model.")
      ? String(checkpointPath.dropFirst("model.".count)) : checkpointPath
  }

  /// Stacks the adapters on the modules that they change.
  ///
  /// - Parameters:
  ///   - dtype: The dtype of the adapters; nil keeps the file's.
  ///   - isTrained: Makes the adapters' tensors leaves that record gradients.
  /// - Throws: `WeightError` for tensors that aren't finite.
  public func add(
    to adapters: inout AdapterSet, strength: Double, dtype: DType?, device: Device = .cpu,
    isTrained: Bool = false
  ) throws {
    try requireFinite()
    for module in modules {
      let adapter = try module.adapter.mapTensors { _, stored in
        let tensor = try stored.to(device, dtype)
        guard isTrained else { return tensor }
        // Training writes into the tensors, and the file's own pages can't be written to.
        return try (tensor.sharesStorage(with: stored) ? tensor.clone() : tensor).asLeaf()
      }
      adapters.add(adapter.with(strength: strength), to: Self.checkpointPath(module.path))
    }
  }
}

/// The tensors of one module of a file.
private struct ModuleParts {
  let name: String
  let format: LoRAFormat
  /// The keys by role.
  var keys: [String: String] = [:]

  /// Nil for an alpha without an adapter.
  var kind: AdapterKind? {
    AdapterKinds.kind(of: Set(keys.keys).subtracting([AdapterRole.alpha.name]))
  }

  func module(
    _ path: String, of file: SafetensorsFile, _ scales: PEFTConfigurations
  ) throws -> LoRAFile.Module {
    func fail(_ key: String, _ problem: String) -> WeightError {
      WeightError(file: file.name, key: key, problem: problem)
    }
    let kind = kind ?? LoRAAdapter.kind
    var tensorKeys = keys
    let alphaKey = tensorKeys.removeValue(forKey: AdapterRole.alpha.name)
    let own = Set(kind.type.roles.map(\.name))
    if let other = tensorKeys.filter({ !own.contains($0.key) }).min(by: { $0.key < $1.key }) {
      throw fail(
        other.value, "is beside tensors of \(kind.title), which it can't be combined with")
    }
    var adapter: any Adapter
    do {
      adapter = try kind.type.init(tensorKeys.mapValues { try file.tensor($0) })
    } catch let issue as Issue {
      let role = issue.subject.pathDescription
      throw fail(tensorKeys[role] ?? name, issue.problem)
    }
    let alpha = try alphaKey.map { try self.alpha($0, of: file) }
    if let rank = adapter.rank {
      adapter.scale = try scales.scale(name, rank: rank)
      if let alpha { adapter.scale = alpha / Double(rank) }
    }
    guard adapter.scale.isFinite, alpha?.isFinite ?? true else {
      throw fail(
        alphaKey ?? name,
        "gives a scale of \(adapter.rank == nil ? alpha ?? .nan : adapter.scale), which must be "
          + "finite. The file is damaged, or training diverged.")
    }
    return LoRAFile.Module(path: path, name: name, adapter: adapter, keys: tensorKeys)
  }

  private func alpha(_ key: String, of file: SafetensorsFile) throws -> Double {
    let alpha = try file.tensor(key)
    guard alpha.count == 1 else {
      throw WeightError(
        file: file.name, key: key,
        problem: "has shape \(alpha.shape) (expected a single number, the alpha of the adapter)")
    }
    return try alpha.to(.float64).reshape([]).item()
  }
}

/// A LoRA file and the strength to use it with.
public struct LoRARef: Sendable, Equatable {
  /// A file, or a folder written by peft or diffusers.
  public var path: String
  /// The factor of the LoRA's effect; 0 is the same as no LoRA.
  public var strength: Double

  public init(path: String, strength: Double = 1) {
    self.path = path
    self.strength = strength
  }
}
