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
