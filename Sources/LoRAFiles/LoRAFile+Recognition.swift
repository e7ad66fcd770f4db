import TensorFiles

extension LoRAFile {
  /// Whether a file holds low-rank adapters, by the names of its tensors; false too for a file that
  /// can't be read, which is reported by whoever reads it as something else.
  public static func isLoRA(path: String) -> Bool {
    let keys: [String]
    do { keys = Array(try SafetensorsFile(path: path).entries.keys) } catch { return false }
    let factors = keys.count { key in
      ["lora_A", "lora_B", "lora_down", "lora_up"].contains { key.contains($0) }
    }
    return factors > 0 && 2 * factors >= keys.count
  }
}
