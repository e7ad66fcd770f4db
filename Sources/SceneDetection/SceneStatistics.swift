import Foundation
import Media
import Support

/// A detector's measurements as a table, written as they arrive; equals PySceneDetect's stats file
/// byte for byte.
///
/// It has a row for each frame with a measurement, with its number from 1 and its time; missing
/// values are `None`.
final class SceneStatistics {
  private let file: AtomicFile
  private let columnCount: Int
  private let delay: Int
  private var rows: [(frame: Int, seconds: Double, values: [Double?])] = []
  private var text = ""

  /// - Throws: `MediaError` if the file can't be created.
  init(path: String, detector: any SceneDetector) throws {
    file = try AtomicFile(path: path, failing: MediaError.init(_:))
    columnCount = detector.metricNames.count
    delay = detector.measurementDelay
    text = (["Frame Number", "Timecode"] + detector.metricNames).joined(separator: ",") + "\n"
  }

  /// - Parameters:
  ///   - frame: The frame that the detector has just processed.
  ///   - seconds: Its time from the video's first frame.
  func add(_ measurements: [SceneMeasurement], frame: Int, seconds: Double) throws {
    rows.append((frame, seconds, Array(repeating: nil, count: columnCount)))
    for measurement in measurements {
      guard let row = rows.lastIndex(where: { $0.frame == measurement.frame }) else { continue }
      rows[row].values[measurement.column] = measurement.value
    }
    while rows.count > delay { append(rows.removeFirst()) }
    if text.utf8.count > 1 << 16 { try write() }
  }

  /// Writes the rows that were waiting for a measurement.
  func flush() throws {
    for row in rows { append(row) }
    rows = []
    try write()
  }

  /// Writes the remaining rows; the file still has its temporary name.
  func finish() throws {
    try flush()
  }

  /// Renames the finished file.
  func commit() throws {
    try file.commit()
  }

  private func append(_ row: (frame: Int, seconds: Double, values: [Double?])) {
    guard row.values.contains(where: { $0 != nil }) else { return }
    let values = row.values.map { $0.map { "\($0)" } ?? "None" }
    let fields = ["\(row.frame + 1)", timeCode(row.seconds)] + values
    text += fields.joined(separator: ",") + "\n"
  }

  private func write() throws {
    try text.withUTF8 { try file.write(UnsafeRawBufferPointer($0)) }
    text = ""
  }
}

/// Formats hours, minutes, seconds and thousandths: `00:01:02.500`.
func timeCode(_ seconds: Double) -> String {
  let thousandths = Int((min(max(seconds, 0), 1e12) * 1000).rounded(.toNearestOrEven))
  let (whole, rest) = (thousandths / 1000, thousandths % 1000)
  return String(format: "%02d:%02d:%02d.%03d", whole / 3600, whole / 60 % 60, whole % 60, rest)
}
