import NN
import TensorFiles
import Torch

/// A file of low-rank adapters as LTX-2's trainers and ComfyUI write it: `diffusion_model.<module>.lora_A.weight` and
/// `.lora_B.weight`. It carries no alpha: the adapters' effect is strength * B A.
public struct LoRAFile: Sendable {
  public let path: String
  public let metadata: [String: String]
  /// By the module's path in the file, `diffusion_model.transformer_blocks.0.attn1.to_q`; sorted.
  public let modules: [(path: String, down: Tensor, up: Tensor)]

  /// - Throws: `WeightError` when half of a pair is missing or the file holds no adapters.
  public init(path: String) throws {
    let file = try SafetensorsFile(path: path)
    self.path = path
    metadata = file.metadata
    let suffix = ".lora_A.weight"
    var found: [(path: String, down: Tensor, up: Tensor)] = []
    for key in file.entries.keys.sorted() {
      if key.hasSuffix(suffix) {
        let module = String(key.dropLast(suffix.count))
        let up = "\(module).lora_B.weight"
        guard file.entries[up] != nil else {
          throw WeightError(file: path, key: up, problem: "is missing, though its lora_A is there")
        }
        found.append((module, try file.tensor(key), try file.tensor(up)))
      } else if key.hasSuffix(".lora_B.weight"), file.entries[key.replacing("lora_B", with: "lora_A")] == nil
      {
        throw WeightError(file: path, key: key, problem: "has no lora_A beside it")
      }
    }
    guard !found.isEmpty else {
      throw WeightError(
        file: path, key: "*.lora_A.weight", problem: "matches nothing: this is not a LoRA in ComfyUI's format"
      )
    }
    modules = found
  }

  /// Where a module of the file lies in a checkpoint.
  public static func checkpointPath(_ module: String) -> String {
    module.hasPrefix("diffusion_model.") ? "model." + module : "\(Checkpoint.Prefix.transformer).\(module)"
  }

  /// Where a module of a checkpoint lies in a LoRA file.
  public static func filePath(_ checkpointPath: String) -> String {
    checkpointPath.hasPrefix("model.") ? String(checkpointPath.dropFirst("model.".count)) : checkpointPath
  }

  /// Stacks the adapters on the modules that they modify.
  ///
  /// - Parameters:
  ///   - isTrained: makes the factors leaves that record gradients.
  public func add(
    to adapters: inout AdapterSet, strength: Double, dtype: DType?, device: Device = .cpu,
    isTrained: Bool = false
  ) throws {
    for module in modules {
      let (down, up) = (try module.down.to(device, dtype), try module.up.to(device, dtype))
      adapters.add(
        LowRankAdapter(
          down: isTrained ? try down.asLeaf() : down, up: isTrained ? try up.asLeaf() : up, scale: strength),
        to: Self.checkpointPath(module.path))
    }
  }
}
