import CFFmpeg
import Media

/// Finds fades through black: a cut is between the frame that becomes darker than a level and the
/// frame that becomes brighter again.
///
/// Equals PySceneDetect's `ThresholdDetector` with its default, which has no scene after a final
/// fade-out.
public struct ThresholdDetector: SceneDetector {
  public static let defaultThreshold = 12.0
  public static let metricName = "average_rgb"

  /// The mean of all bytes of a frame, 0 to 255, below which the frame is dark.
  public let threshold: Double
  /// The position of the cut within the dark part: -1 at its beginning, 0 in the middle, 1 at its
  /// end.
  public let fadeBias: Double
  public var collectsMeasurements = false
  public private(set) var measurements: [SceneMeasurement] = []
  public var metricNames: [String] { [Self.metricName] }
  public var measurementDelay: Int { 0 }

  private let minimumSceneLength: Int
  private var lastCut: Int?
  private var isDark = false
  private var lastChange = 0

  /// - Parameters:
  ///   - threshold: The level; its fraction is dropped, like in PySceneDetect.
  ///   - minimumSceneLength: The minimum number of frames from one fade-in to the next.
  ///   - fadeBias: -1 to 1.
  public init(
    threshold: Double = Self.defaultThreshold,
    minimumSceneLength: Int = ContentDetector.defaultMinimumSceneLength, fadeBias: Double = 0
  ) {
    self.threshold = threshold.rounded(.towardZero)
    self.minimumSceneLength = minimumSceneLength
    self.fadeBias = fadeBias
  }

  public mutating func process(_ frame: DetectionFrame) -> [Int] {
    let mean =
      Double(cffmpeg_sum(frame.bytes, frame.bytes.count)) / Double(max(1, frame.bytes.count))
    measurements =
      collectsMeasurements ? [SceneMeasurement(frame: frame.index, column: 0, value: mean)] : []
    guard let last = lastCut else {
      lastCut = frame.index
      isDark = mean < threshold
      lastChange = frame.index
      return []
    }
    guard (mean < threshold) != isDark else { return [] }
    defer {
      isDark.toggle()
      lastChange = frame.index
    }
    guard isDark, frame.index - last >= minimumSceneLength else { return [] }
    lastCut = frame.index
    return [cut(fadingInAt: frame.index)]
  }

  private func cut(fadingInAt frame: Int) -> Int {
    let share = Double(frame - lastChange) * (1 + fadeBias) / 2
    return lastChange + Int(share.rounded(.toNearestOrEven))
  }

  public func firstOpenFrame(next: Int) -> Int { isDark ? min(next, cut(fadingInAt: next)) : next }
}
