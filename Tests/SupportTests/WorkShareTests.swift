import Support
import Testing

@Suite struct WorkShareTests {
  @Test func sharesHoldEveryItemOnce() {
    for (total, count) in [(0, 1), (0, 3), (1, 1), (5, 1), (5, 2), (2, 4), (9, 3), (10, 3)] {
      let shares = (0..<count).map { WorkShare(index: $0, count: count) }
      #expect(shares.flatMap { $0.items(of: total) }.sorted() == Array(0..<total))
      for share in shares {
        let own = Array(share.items(of: total))
        #expect(own == (0..<total).filter(share.contains))
        #expect(own.count == share.count(of: total))
      }
      #expect(shares.map { $0.count(of: total) }.max() == shares[0].largest(of: total))
    }
  }

  @Test func filesOfOneOfSeveralProcessesCarryItsNumber() {
    #expect(WorkShare.whole.suffix.isEmpty)
    #expect(WorkShare(index: 2, count: 4).suffix == "-2-of-4")
  }
}
