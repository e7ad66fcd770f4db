import CFFmpeg
import Media

/// Finds hard cuts by the mean change of hue, saturation and brightness from one frame to the next.
///
/// Equals PySceneDetect's `ContentDetector` with its default weights (1 for hue, saturation and
/// brightness, 0 for edges) bit for bit. Lengths are counted in frames, even if the frame rate
/// varies.
public struct ContentDetector: SceneDetector {
  public static let defaultThreshold = 27.0
  public static let defaultMinimumSceneLength = 15

  /// The minimum score at which a frame starts a new scene.
  public let threshold: Double
  /// The change from the previous frame, 0 to 255 (180 for hue); 0 for the first frame.
  public var lastScore: Double { change.score }

  private var change: ContentChange
  private var merger: CutMerger

  /// - Parameters:
  ///   - minimumSceneLength: The minimum number of frames between cuts; closer ones are merged.
  ///   - lumaOnly: Whether only brightness counts.
  public init(
    threshold: Double = Self.defaultThreshold,
    minimumSceneLength: Int = Self.defaultMinimumSceneLength,
    lumaOnly: Bool = false
  ) {
    self.threshold = threshold
    change = ContentChange(lumaOnly: lumaOnly)
    merger = CutMerger(minimumLength: minimumSceneLength)
  }

  public var metricNames: [String] { ContentChange.metricNames }
  public var measurementDelay: Int { 0 }
  public var measurements: [SceneMeasurement] { change.measurements }
  public var collectsMeasurements: Bool {
    get { change.measuresEdges }
    set { change.measuresEdges = newValue }
  }

  public mutating func process(_ frame: DetectionFrame) -> [Int] {
    change.process(frame)
    let cut = merger.process(frame: frame.index, isAbove: change.score >= threshold)
    return cut.map { [$0] } ?? []
  }

  public func firstOpenFrame(next: Int) -> Int { merger.firstOpenFrame(next: next) }
}

/// The difference of a frame from the previous one: the mean absolute differences of hue,
/// saturation and value.
struct ContentChange: Sendable {
  static let metricNames = ["content_val", "delta_edges", "delta_hue", "delta_lum", "delta_sat"]

  let lumaOnly: Bool
  /// Whether edges are measured. They only matter for statistics, not for the score.
  var measuresEdges = false
  /// The score; 0 for the first frame.
  private(set) var score = 0.0
  private(set) var measurements: [SceneMeasurement] = []
  private var previous: HSVPlanes?
  private var previousEdges: [UInt8] = []

  init(lumaOnly: Bool) { self.lumaOnly = lumaOnly }

  mutating func process(_ frame: DetectionFrame) {
    let current = HSVPlanes(rgb: frame.bytes)
    let edges =
      measuresEdges
      ? EdgeMap.edges(of: current.value, width: frame.width, height: frame.height) : []
    defer {
      previous = current
      previousEdges = edges
    }
    measurements = []
    guard let previous, previous.value.count == current.value.count else {
      score = 0
      return
    }
    let pixels = Double(max(1, current.value.count))
    let hue = Double(difference(previous.hue, current.hue)) / pixels
    let saturation = Double(difference(previous.saturation, current.saturation)) / pixels
    let value = Double(difference(previous.value, current.value)) / pixels
    score = lumaOnly ? value : (hue + saturation + value) / 3
    guard measuresEdges else { return }
    let edge = Double(difference(previousEdges, edges)) / pixels
    measurements = [score, edge, hue, value, saturation].enumerated().map {
      SceneMeasurement(frame: frame.index, column: $0, value: $1)
    }
  }

  /// The sum of absolute differences; 0 if there is no previous frame.
  private func difference(_ a: [UInt8], _ b: [UInt8]) -> Int {
    a.count == b.count ? Int(cffmpeg_difference(a, b, a.count)) : 0
  }
}

/// OpenCV's conversion of 8-bit RGB to 8-bit HSV (hue 0 to 179), bit for bit: 12-bit fixed point
/// with tables of reciprocals.
struct HSVPlanes: Sendable {
  private(set) var hue: [UInt8] = []
  private(set) var saturation: [UInt8] = []
  private(set) var value: [UInt8] = []

  private static let saturationScale = reciprocals(of: 255)
  private static let hueScale = reciprocals(of: 30)

  private static func reciprocals(of full: Double) -> [Int32] {
    [0] + (1...255).map { Int32((full * 4096 / Double($0)).rounded(.toNearestOrEven)) }
  }

  /// - Parameter rgb: Pixels of three bytes.
  init(rgb: [UInt8]) {
    let pixels = rgb.count / 3
    hue = [UInt8](repeating: 0, count: pixels)
    saturation = hue
    value = hue
    cffmpeg_hsv(rgb, Self.saturationScale, Self.hueScale, pixels, &hue, &saturation, &value)
  }
}
