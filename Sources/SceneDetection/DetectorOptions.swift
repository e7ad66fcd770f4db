import Support

/// A detector by its name and options, as on the command line. Missing options have PySceneDetect's
/// defaults.
public struct DetectorOptions: Equatable, Sendable {
  public enum Kind: String, CaseIterable, Sendable {
    /// Hard cuts, found by the change of colors.
    case content
    /// Hard cuts, found by the change of colors relative to the neighboring frames.
    case adaptive
    /// Fades through black.
    case threshold
    /// Hard cuts, found by the distribution of brightness.
    case histogram
  }

  public var kind: Kind
  public var threshold: Double?
  /// The minimum length of a scene in frames.
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

  /// - Throws: `Issue` for a value out of range or an option of another detector.
  public func makeDetector() throws -> any SceneDetector {
    try checkBelonging()
    let length = minimumSceneLength ?? ContentDetector.defaultMinimumSceneLength
    guard length >= 0 else {
      throw Issue(["minimumSceneLength"], "must be 0 or more frames (got \(length))")
    }
    let (usual, largest) = limits
    let threshold = threshold ?? usual
    guard (0...largest).contains(threshold) else {
      throw Issue(["threshold"], "must be between 0 and \(Int(largest)) (got \(threshold))")
    }
    switch kind {
    case .content:
      return ContentDetector(threshold: threshold, minimumSceneLength: length, lumaOnly: lumaOnly)
    case .adaptive:
      let window = adaptiveWindow ?? AdaptiveDetector.defaultWindow
      guard (1...10_000).contains(window) else {
        throw Issue(["adaptiveWindow"], "must be between 1 and 10000 frames (got \(window))")
      }
      return AdaptiveDetector(
        threshold: threshold, minimumSceneLength: length, window: window, lumaOnly: lumaOnly)
    case .threshold:
      let bias = fadeBias ?? 0
      guard (-1...1).contains(bias) else {
        throw Issue(["fadeBias"], "must be between -1 and 1 (got \(bias))")
      }
      return ThresholdDetector(threshold: threshold, minimumSceneLength: length, fadeBias: bias)
    case .histogram:
      return HistogramDetector(threshold: threshold, minimumSceneLength: length)
    }
  }

  /// The default threshold and the maximum.
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
      (lumaOnly, "lumaOnly", [Kind.content, .adaptive]),
      (adaptiveWindow != nil, "adaptiveWindow", [.adaptive]),
      (fadeBias != nil, "fadeBias", [.threshold]),
    ] where isGiven && !kinds.contains(kind) {
      throw Issue(
        [.name(option)], "has no effect with the detector \(kind.rawValue)",
        suggestion: "Remove it, or set `detector` to "
          + "\(kinds.map(\.rawValue).joined(separator: " or ")).")
    }
  }
}
