/// What losses in float16 are multiplied by, so that small gradients don't vanish (Micikevicius et
/// al., "Mixed Precision Training", 2018): as large as it can be, with PyTorch's `GradScaler`
/// constants.
struct LossScale: Sendable, Equatable {
  private(set) var value: Double
  /// Steps since the last change.
  private(set) var goodSteps: Int

  init(value: Double = 65536, goodSteps: Int = 0) {
    (self.value, self.goodSteps) = (value, goodSteps)
  }

  mutating func update(isFinite: Bool) {
    guard isFinite else {
      (value, goodSteps) = (value / 2, 0)
      return
    }
    goodSteps += 1
    if goodSteps == 2000 { (value, goodSteps) = (value * 2, 0) }
  }
}
