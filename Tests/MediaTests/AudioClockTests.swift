import Testing

@testable import Media

@Suite struct AudioClockTests {
  private struct Numbers {
    var state: UInt64

    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
  }

  /// Frames of 20 ms at 48 kHz, and timestamps in seconds.
  private func place(
    _ stamps: [Double?], count: Int = 960, tick: Double = 0.001
  ) -> (placements: [AudioClock.Placement], clock: AudioClock) {
    var clock = AudioClock(rate: 48000, tick: tick)
    var placements: [AudioClock.Placement] = []
    for stamp in stamps { placements += clock.add(stamp: stamp.map { $0 * 48000 }, count: count) }
    placements += clock.finish()
    return (placements, clock)
  }

  private func rounded(_ seconds: Double) -> Double { (seconds * 1000).rounded() / 1000 }

  @Test func roundedStampsAreContiguous() {
    for count in [1024, 1152, 120] {
      let stamps = (0..<400).map { index -> Double? in
        rounded(Double(index * count) / 48000 + 0.0004)
      }
      let (placements, clock) = place(stamps, count: count)
      #expect(
        placements == (0..<400).map { AudioClock.Placement(start: $0 * count) }
          && clock.events.isEmpty)
    }
    // A copy in a finer unit.
    let stamps = (0..<400).map { rounded(Double($0 * 1024) / 48000) }
    #expect(
      place(stamps, count: 1024, tick: 1 / 48000).placements
        == (0..<400).map { AudioClock.Placement(start: $0 * 1024) })
  }

  @Test func lostPacketsLeaveGaps() {
    var random = Numbers(state: 7)
    let kept = (0..<500).filter { $0 == 0 || $0 == 499 || random.next() % 5 != 0 }
    let (placements, clock) = place(kept.map { rounded(Double($0) * 0.02) })
    #expect(placements == kept.map { AudioClock.Placement(start: $0 * 960) })
    let missing = clock.events.reduce(0) { sum, event in
      if case .gap(_, let count) = event { sum + count } else { sum }
    }
    #expect(missing == (500 - kept.count) * 960)
  }

  @Test func repeatedPacketsAreCut() {
    let stamps = [
      0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
    ]
    let (placements, clock) = place(stamps.map { Double($0) * 0.02 })
    #expect(placements[4].skip == 960 && placements[5].skip == 960)
    #expect(
      placements[6] == AudioClock.Placement(start: 4 * 960)
        && placements.last == AudioClock.Placement(start: 22 * 960))
    #expect(clock.events == [.overlap(at: 4 * 960, count: 2 * 960)])
    // A part of a packet.
    let late = (0..<40).map { index -> Double? in
      let seconds = Double(index) * 0.02
      return index < 10 ? seconds : seconds - 0.005
    }
    let part = place(late).placements
    #expect(part[10] == AudioClock.Placement(start: 9600, skip: 240))
    #expect(part[11] == AudioClock.Placement(start: 10320))
  }

  @Test func wrongStampsArePassedOver() {
    var stamps: [Double?] = (0..<100).map { Double($0) * 0.02 }
    stamps[30] = 5000
    stamps[60] = 0
    stamps[61] = nil
    let (placements, clock) = place(stamps)
    #expect(
      placements == (0..<100).map { AudioClock.Placement(start: $0 * 960) } && clock.events.isEmpty)
  }

  @Test func jitterIsPassedOverAndGapsInItAreNot() {
    var random = Numbers(state: 3)
    func noisy(_ seconds: Double) -> Double {
      seconds + 0.008 * (Double(random.next() % 1000) / 500 - 1)
    }
    let even = place(
      (0..<500).map { index -> Double? in index == 0 ? 0 : noisy(Double(index) * 0.02) })
    #expect(even.clock.events.isEmpty && even.placements.count == 500)
    #expect(even.placements.enumerated().allSatisfy { abs($1.start - $0 * 960) < 200 })
    #expect(even.clock.jitterSeconds > 0.005)
    let gap = place((0..<500).map { $0 == 0 ? 0 : noisy(Double($0) * 0.02 + ($0 < 250 ? 0 : 0.3)) })
    #expect(gap.clock.events.count == 1)
    #expect(
      gap.placements.enumerated().allSatisfy {
        abs($1.start - $0 * 960 - ($0 < 250 ? 0 : 14400)) < 600
      })
  }

  @Test(arguments: [0.0001, 0.001, -0.001, 0.003]) func driftIsFollowed(ratio: Double) {
    let (placements, clock) = place(
      (0..<1500).map { index -> Double? in rounded(Double(index) * 0.02 * (1 + ratio)) })
    #expect(clock.events.isEmpty)
    for (index, placement) in placements.enumerated() {
      let wanted = Double(index) * 960 * (1 + ratio)
      #expect(abs(Double(placement.start) - wanted) <= 72, "frame \(index)")
      #expect(abs(placement.stretch) <= 5 && placement.skip == 0)
    }
    // There is no gap between stretched frames.
    for (a, b) in zip(placements, placements.dropFirst()) {
      #expect(a.start + 960 + a.stretch == b.start)
    }
  }

  @Test func stampsThatOutrunStretchingAreFollowedInSteps() {
    let (placements, clock) = place((0..<1000).map { Double($0) * 0.02 * 1.03 })
    #expect(!clock.events.isEmpty)
    #expect(
      placements.enumerated().allSatisfy {
        abs(Double($1.start) - Double($0) * 960 * 1.03) < 0.08 * 48000
      })
  }

  @Test func aClockThatRestartsContinues() {
    let (placements, clock) = place(
      (0..<200).map { index -> Double? in Double(index < 100 ? 1000 + index : index - 100) * 0.02 })
    #expect(placements == (0..<200).map { AudioClock.Placement(start: (1000 + $0) * 960) })
    #expect(clock.events == [.restart(at: 1100 * 960, count: 1100 * 960)])
  }

  @Test func stampsMayBeMissing() {
    #expect(
      place([nil, nil, nil]).placements == [
        AudioClock.Placement(start: 0), AudioClock.Placement(start: 960),
        AudioClock.Placement(start: 1920),
      ])
    #expect(place([nil, nil, 1.04]).placements.map(\.start) == [48000, 48960, 49920])
    #expect(place([]).placements.isEmpty)
  }
}
