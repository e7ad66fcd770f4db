import Foundation
import Testing

/// The bytes that ranks write to their connections, as the system counts them.
@Suite struct SentBytesTests {
  /// Each of N ranks sends 2 (N - 1) / N of the bytes of the gradients in a step, and little else.
  @Test(arguments: [2, 3]) func aStepSendsTheFloor(ranks: Int) throws {
    let prepared = try PreparedTraining.shared.get()
    let shop = try Workshop()
    // Two runs that differ in the number of steps only: files of the same sizes are written.
    let steps = [2, 10]
    let written = try steps.map { count in
      let config = try prepared.configure(
        "sent-bytes-\(ranks)-\(count)", steps: count,
        "report: {enabled: false}\ntensorboard: {enabled: false}")
      let script = #"""
        "$0" train "$1" --threads 1 --set 'checkpoints.save_training_state="off"' || exit
        cat /proc/$$/io > io-$2-$RANK
        """#
      let result = try Program.run(
        [
          "launch", "--nproc-per-node", "\(ranks)", "sh", "-c", script, Program.path, config,
          "\(count)",
        ], in: shop.path)
      try #require(result.status == 0, "\(result.errors)")
      return try (0..<ranks).map { rank in
        let lines = try shop.lines("io-\(count)-\(rank)").filter { $0.hasPrefix("wchar: ") }
        return try #require(lines.first.flatMap { Int($0.dropFirst("wchar: ".count)) })
      }
    }
    let facts = try Program.run(
      ["train", "\(prepared.path)/sent-bytes-\(ranks)-2.yaml", "--dry-run", "--overwrite"],
      in: shop.path)
    try #require(facts.status == 0, "\(facts.errors)")
    let parameters = try #require(facts.output.firstMatch(of: /parameters: (\d+) in/))
    let gradients = 4 * (try #require(Double(parameters.1)))
    let floor = 2 * Double(ranks - 1) / Double(ranks) * gradients
    for rank in 0..<ranks {
      let sent = Double(written[1][rank] - written[0][rank]) / Double(steps[1] - steps[0])
      #expect((0.999 * floor...1.01 * floor).contains(sent), "rank \(rank): \(sent), not \(floor)")
    }
  }
}
