import BlockExecution
import NN
import Support

/// A part of a command that is planned by itself, with its predicted memory and time.
public struct WorkPlan: Sendable {
  /// Such as `sampling`.
  public var work: String
  /// The predicted maximum of the device's memory, in bytes.
  public var peakBytes: Int
  /// The predicted seconds of a unit of the work, such as a step; nil if they are not predicted.
  public var time: (seconds: Double, unit: String)?
  /// The treatment of the blocks, in words; empty for work without blocks.
  public var treatment: String
  /// The locations of the blocks' weights.
  public var placements: WeightPlacements

  public init(
    _ work: String, peakBytes: Int, time: (seconds: Double, unit: String)? = nil,
    treatment: String = "", placements: WeightPlacements = .resident
  ) {
    self.work = work
    self.peakBytes = peakBytes
    self.time = time
    self.treatment = treatment
    self.placements = placements
  }

  /// Peak, time and treatment: `22.2 GB, 2.9 s per step, all blocks recomputed`.
  public var words: String {
    ([peakBytes.gigabytes, timeWords, treatment].filter { !$0.isEmpty }).joined(separator: ", ")
  }

  private var timeWords: String {
    time.map { "\(Self.rounded($0.seconds)) s per \($0.unit)" } ?? ""
  }

  /// Two significant digits.
  private static func rounded(_ seconds: Double) -> String {
    guard seconds > 0, seconds < 1e9 else { return seconds > 0 ? "more than 1e9" : "0" }
    var scale = 1.0
    while seconds * scale < 10 { scale *= 10 }
    let value = (seconds * scale).rounded() / scale
    return value >= 10 ? "\(Int(value))" : "\(value)"
  }

  /// The lines of a table of plans.
  ///
  /// - Parameter limitBytes: The memory that they were made for.
  public static func table(_ plans: [WorkPlan], limitBytes: Int) -> [String] {
    let rows =
      [["", "peak", "time", "blocks"]]
      + plans.map { [$0.work, $0.peakBytes.gigabytes, $0.timeWords, $0.treatment] }
    let widths = (0..<3).map { column in rows.map { $0[column].count }.max() ?? 0 }
    return ["memory plan for \(limitBytes.gigabytes), predicted:"]
      + rows.map { row in
        let cells = zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
        let line = "  " + (cells + [row[3]]).joined(separator: "  ")
        return String(line.reversed().drop { $0 == " " }.reversed())
      }
  }
}

extension PlannedExecution {
  /// The plan in words: `48 blocks recomputed, weights of 30 streamed from the file`.
  public func words(of blocks: Int) -> String {
    [activationWords(blocks), weightWords(blocks)].filter { !$0.isEmpty }.joined(separator: ", ")
  }

  /// The plan in words without a backward pass.
  public func inferenceWords(of blocks: Int) -> String {
    streamedBlocks == 0 ? "all weights on the device" : weightWords(blocks)
  }

  private func activationWords(_ blocks: Int) -> String {
    let recomputed = blocks - keptBlocks
    guard recomputed > 0 else { return "activations of all blocks kept" }
    let which = recomputed == blocks ? "all" : "\(recomputed) of \(blocks)"
    let attention =
      switch attentionBlocks {
      case 0: ""
      case recomputed: " except self-attention"
      default: ", in \(attentionBlocks) of them except self-attention"
      }
    return "activations of \(which) blocks recomputed\(attention)"
      + (offloadsInputs ? " from inputs in host memory" : "")
  }

  private func weightWords(_ blocks: Int) -> String {
    guard streamedBlocks > 0 else { return "" }
    let count = streamedBlocks == blocks ? "all" : "\(streamedBlocks) of \(blocks)"
    return switch placement {
    case .sharded: "weights of \(count) blocks divided among the ranks"
    case .file: "weights of \(count) blocks streamed from the file"
    case .host, .resident: "weights of \(count) blocks streamed from host memory"
    }
  }
}
