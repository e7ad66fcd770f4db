import CFFmpeg
import Media

/// Finds hard cuts, where the distribution of brightness changes from one frame to the next.
///
/// Equals PySceneDetect's `HistogramDetector`: the correlation (OpenCV's `HISTCMP_CORREL`) of
/// histograms of the luma of `COLOR_BGR2YUV`, normalized by their Euclidean length.
public struct HistogramDetector: SceneDetector {
  public static let defaultThreshold = 0.2
  public static let bins = 128

  /// The distance from 1 to which the correlation must fall for a new scene, 0 to 1.
  public let threshold: Double
  public var collectsMeasurements = false
  public private(set) var measurements: [SceneMeasurement] = []
  public var metricNames: [String] { ["hist_diff [bins=\(Self.bins)]"] }
  public var measurementDelay: Int { 0 }

  private let minimumSceneLength: Int
  private var lastCut: Int?
  private var previous: [Float] = []

  /// - Parameter minimumSceneLength: The minimum number of frames between cuts; closer ones are
  ///   dropped.
  public init(
    threshold: Double = Self.defaultThreshold,
    minimumSceneLength: Int = ContentDetector.defaultMinimumSceneLength
  ) {
    self.threshold = threshold
    self.minimumSceneLength = minimumSceneLength
  }

  public mutating func process(_ frame: DetectionFrame) -> [Int] {
    let histogram = Self.histogram(of: frame.bytes)
    let last = lastCut ?? frame.index
    lastCut = last
    measurements = []
    defer { previous = histogram }
    guard !previous.isEmpty else { return [] }
    let correlation = Self.correlation(previous, histogram)
    if collectsMeasurements {
      measurements = [SceneMeasurement(frame: frame.index, column: 0, value: correlation)]
    }
    let limit = max(0, min(1, 1 - threshold))
    guard correlation <= limit, frame.index - last >= minimumSceneLength else { return [] }
    lastCut = frame.index
    return [frame.index]
  }

  public func firstOpenFrame(next: Int) -> Int { next }

  /// - Parameter rgb: Pixels of three bytes.
  static func histogram(of rgb: [UInt8]) -> [Float] {
    var counts = [Int64](repeating: 0, count: bins)
    cffmpeg_luma_histogram(rgb, rgb.count / 3, &counts)
    let length = counts.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    let scale = length > 0 ? Float(1 / length) : 0
    return counts.map { Float($0) * scale }
  }

  static func correlation(_ a: [Float], _ b: [Float]) -> Double {
    var (sumA, sumB, sumAA, sumBB, sumAB) = (0.0, 0.0, 0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      let (x, y) = (Double(x), Double(y))
      sumA += x
      sumB += y
      sumAA += x * x
      sumBB += y * y
      sumAB += x * y
    }
    let scale = 1 / Double(a.count)
    let spread = (sumAA - sumA * sumA * scale) * (sumBB - sumB * sumB * scale)
    return abs(spread) > Double.ulpOfOne ? (sumAB - sumA * sumB * scale) / spread.squareRoot() : 1
  }
}
