import Media

/// A detector by its name and options, as the command line gives them. What is left out is
/// PySceneDetect's default.
public struct DetectorOptions: Equatable, Sendable {
  public enum Kind: String, CaseIterable, Sendable {
    /// Hard cuts, found by the change of colors.
    case content
    /// Hard cuts, found by the change of colors relative to the frames around.
    case adaptive
    /// Fades through black.
    case threshold
    /// Hard cuts, by the distribution of brightness.
    case histogram
  }

  public var kind: Kind
  public var threshold: Double?
  /// In frames.
  public var minimumSceneLength: Int?
  public var lumaOnly: Bool
  public var adaptiveWindow: Int?
  public var fadeBias: Double?

  public init(
    _ kind: Kind = .content, threshold: Double? = nil, minimumSceneLength: Int? = nil,
    lumaOnly: Bool = false,
    adaptiveWindow: Int? = nil, fadeBias: Double? = nil
  ) {
    self.kind = kind
    self.threshold = threshold
    self.minimumSceneLength = minimumSceneLength
    self.lumaOnly = lumaOnly
    self.adaptiveWindow = adaptiveWindow
    self.fadeBias = fadeBias
  }

  /// - Throws: `MediaError` of the kind `badOption` for a value out of range or an option of
  ///   another detector.
  public func makeDetector() throws -> any SceneDetector {
    try checkBelonging()
    let length = minimumSceneLength ?? ContentDetector.defaultMinimumSceneLength
    guard length >= 0 else {
      throw Self.refusal("a scene length of \(length) is not possible", "Give 0 or more frames.")
    }
    let (usual, largest) = limits
    let threshold = threshold ?? usual
    guard (0...largest).contains(threshold) else {
      throw Self.refusal(
        "a threshold of \(threshold) is not possible", "Give 0 to \(Int(largest)).")
    }
    switch kind {
    case .content:
      return ContentDetector(threshold: threshold, minimumSceneLength: length, lumaOnly: lumaOnly)
    case .adaptive:
      let window = adaptiveWindow ?? AdaptiveDetector.defaultWindow
      guard (1...10_000).contains(window) else {
        throw Self.refusal("a window of \(window) frames is not possible", "Give 1 to 10000.")
      }
      return AdaptiveDetector(
        threshold: threshold, minimumSceneLength: length, window: window, lumaOnly: lumaOnly)
    case .threshold:
      let bias = fadeBias ?? 0
      guard (-1...1).contains(bias) else {
        throw Self.refusal("a fade bias of \(bias) is not possible", "Give -1 to 1.")
      }
      return ThresholdDetector(threshold: threshold, minimumSceneLength: length, fadeBias: bias)
    case .histogram:
      return HistogramDetector(threshold: threshold, minimumSceneLength: length)
    }
  }

  /// The default threshold and the largest possible one.
  private var limits: (usual: Double, largest: Double) {
    switch kind {
    case .content: (ContentDetector.defaultThreshold, 255)
    case .adaptive: (AdaptiveDetector.defaultThreshold, 255)
    case .threshold: (ThresholdDetector.defaultThreshold, 255)
    case .histogram: (HistogramDetector.defaultThreshold, 1)
    }
  }

  private func checkBelonging() throws {
    for (isGiven, option, kinds) in [
      (lumaOnly, "--luma-only", [Kind.content, .adaptive]),
      (adaptiveWindow != nil, "--adaptive-window", [.adaptive]),
      (fadeBias != nil, "--fade-bias", [.threshold]),
    ] where isGiven && !kinds.contains(kind) {
      throw Self.refusal(
        "\(option) means nothing to the detector \(kind.rawValue)",
        "Leave it out, or choose --detector \(kinds.map(\.rawValue).joined(separator: " or ")).")
    }
  }

  private static func refusal(_ what: String, _ remedy: String) -> MediaError {
    MediaError(.badOption, file: "", what, remedy: remedy)
  }
}
