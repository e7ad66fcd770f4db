import Foundation
import LTX
import Support
import TestSupport
import Testing
import Torch

@testable import Training

/// The index of a cache, which rank 0 reads for the ranks that see the same folder.
@Suite struct SampleIndexTests {
  private static let strategies = Strategies.everything.modalities
  private let synthetic: SyntheticRun
  private let root: String

  init() throws {
    synthetic = try SyntheticRun((0..<150).map { $0 % 3 == 0 ? .init() : .other })
    try synthetic.writeRepeats(["clip-1": 3])
    root = synthetic.configuration(Strategies.everything).data.preprocessedDataRoot
  }

  /// A copy of the cache, as on the disk of another machine.
  private func copy() throws -> (root: String, folder: ScratchFolder) {
    let folder = try ScratchFolder()
    try FileManager.default.copyItem(atPath: root, toPath: folder.file("cache"))
    return (folder.file("cache"), folder)
  }

  @Test func theSentIndexIsTheOneThatWasRead() throws {
    try FileManager.default.removeItem(atPath: "\(root)/video_masks/clip-7.safetensors")
    var index = try SampleIndex(root: root, Self.strategies)
    #expect(index.entries.count == 149 && index.unmatched == ["video_masks": ["clip-7"]])
    #expect(index.entries.map(\.name) == index.entries.map(\.name).sorted())
    #expect(index.identities?.count == 149)
    index.entries[3].audioLevel = .init(peak: -.infinity, rms: -70.25)
    index.entries[4].models = ["a", "b"]
    index.entries[5].models = ["b"]
    index.entries[5].textEncoder = "b"
    index.entries[6].files["latents"] = "\(root)/latents/sub/other name.pt"
    index.entries[7].files["latents"] = "\(root)/latents/\(index.entries[7].name).pt"
    let bytes = index.encoded(root: root)
    #expect(bytes.count < 150 * 200)
    index.identities = nil
    #expect(try SampleIndex(encoded: bytes, root: root) == index)
    // The folder may have another name on another machine.
    let elsewhere = try SampleIndex(encoded: bytes, root: "/data")
    #expect(elsewhere.entries[6].files["latents"] == "/data/latents/sub/other name.pt")
    for damaged in [Array(bytes.dropLast()), bytes + [0], [0xFF], []] {
      #expect(throws: Issue.self) { try SampleIndex(encoded: damaged, root: root) }
    }
  }

  /// The ranks have the same samples in the same order, and the same fingerprint, as one process.
  @Test func onlyRank0ReadsTheHeadersOfASharedFolder() throws {
    let alone = try PrecomputedDataset(root: root, strategies: Self.strategies)
    let identity = try alone.identity(emptyPrompt: nil, group: .single)
    let (root, strategies) = (root, Self.strategies)
    let ranks = try asRanks(3) { group in
      let dataset = try PrecomputedDataset(root: root, strategies: strategies, group: group)
      return (
        dataset, try dataset.identities()?.count,
        try dataset.identity(emptyPrompt: nil, group: group)
      )
    }.map { try $0.get() }
    #expect(ranks.map(\.1) == [150, nil, nil])
    for (dataset, _, found) in ranks {
      #expect(dataset.entries == alone.entries && found == identity)
    }
  }

  @Test func aRankWithACopyReadsItAndTheCopiesAreCompared() throws {
    let (copy, folder) = try copy()
    defer { withExtendedLifetime(folder) {} }
    let c = synthetic.configuration(Strategies.everything)
    func read() throws -> [(isOwn: Bool, identity: String)] {
      try asRanks(3) { group -> (isOwn: Bool, identity: String) in
        let dataset = try PrecomputedDataset(
          root: group.rank == 1 ? copy : c.data.preprocessedDataRoot,
          strategies: c.trainingStrategy.modalities, group: group)
        return (
          try dataset.identities() != nil, try dataset.identity(emptyPrompt: nil, group: group)
        )
      }.map { try $0.get() }
    }
    let same = try read()
    #expect(same.map(\.isOwn) == [true, true, false])
    #expect(Set(same.map(\.identity)).count == 1)
    try Data(#"{"clip-2": 2}"#.utf8).write(to: URL(fileURLWithPath: "\(copy)/repeats.json"))
    let other = try asRanks(2) { group in
      var own = c
      if group.rank == 1 { own.data.preprocessedDataRoot = copy }
      return try Trainer(own, group: group).prepareFolder(.resume)
    }
    for result in other {
      let text = message { _ = try result.get() }
      #expect(text.contains("rank[1]: on ") && text.contains("the dataset: "), "\(text)")
    }
  }

  @Test func aRankWithoutTheFolderNamesIt() throws {
    let (root, strategies) = (root, Self.strategies)
    let ranks = try asRanks(2) { group in
      try PrecomputedDataset(
        root: group.rank == 1 ? root + "-missing" : root, strategies: strategies, group: group
      ).count
    }
    #expect(try ranks[0].get() == 150)
    let text = message { _ = try ranks[1].get() }
    #expect(text.contains("-missing/latents: does not exist"), "\(text)")
  }

  /// No rank waits for an index that rank 0 could not read.
  @Test func aDamagedFileIsNamedOnEachRank() throws {
    let path = "\(root)/latents/clip-120.safetensors"
    try Data([1, 2, 3]).write(to: URL(fileURLWithPath: path))
    let (root, strategies) = (root, Self.strategies)
    let ranks = try asRanks(2) { group in
      try PrecomputedDataset(root: root, strategies: strategies, group: group).count
    }
    for rank in ranks {
      let text = message { _ = try rank.get() }
      #expect(text.contains("clip-120.safetensors"), "\(text)")
    }
  }
}
