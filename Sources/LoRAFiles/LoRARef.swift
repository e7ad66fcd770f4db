/// A LoRA file and the strength to use it with.
public struct LoRARef: Sendable, Equatable {
  /// A file, or a folder that peft or diffusers wrote.
  public var path: String
  /// The factor of the LoRA's effect; 0 is the same as leaving it out.
  public var strength: Double

  public init(path: String, strength: Double = 1) {
    self.path = path
    self.strength = strength
  }
}
