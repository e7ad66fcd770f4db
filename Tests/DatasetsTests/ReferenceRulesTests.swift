import Foundation
import TestSupport
import Testing

@testable import Datasets

/// Choices and names that must match upstream's, or two caches of one dataset differ.
@Suite struct ReferenceRulesTests {
  private struct BucketCase: Decodable {
    let width, height, frames: Int
    let buckets: [[Int]]
    let best: [Int]?
  }

  @Test func bucketsAreChosenAsUpstreamIncludingTies() throws {
    let cases = try ReferenceFixtures.cases("buckets", of: BucketCase.self)
    #expect(cases.count == 200)
    for one in cases {
      let buckets = one.buckets.map { ResolutionBucket(width: $0[0], height: $0[1], frames: $0[2]) }
      let best = buckets.best(width: one.width, height: one.height, frames: one.frames)
      #expect(
        best.map { [$0.width, $0.height, $0.frames] } == one.best,
        "\(one.width)x\(one.height), \(one.frames) frames, of \(buckets)")
    }
  }

  private struct NameCase: Decodable {
    let folder, media, output: String
  }

  @Test func cachedFilesAreNamedAsUpstream() throws {
    let scratch = try ScratchFolder()
    for one in try ReferenceFixtures.cases("names", of: NameCase.self) {
      // The fixture's folder stands for one that is here.
      let media =
        one.media.hasPrefix(one.folder + "/")
        ? scratch.path + one.media.dropFirst(one.folder.count) : one.media
      let row = try JSONEncoder().encode([["video": media, "caption": "c"]])
      let dataset = try Dataset(
        path: scratch.write(String(decoding: row, as: UTF8.self), to: "d.json"))
      let sample = try #require(dataset.samples.first)
      #expect(Array(sample.name.utf8) == Array(one.output.utf8), "\(one.media)")
    }
  }

  private struct CaptionCase: Decodable {
    let caption: String
    let trigger: String?
    let removesPrefixes: Bool
    let text: String
  }

  @Test func captionsReachTheTextEncoderAsUpstream() throws {
    let cases = try ReferenceFixtures.cases("captions", of: CaptionCase.self)
    #expect(cases.contains { $0.trigger != nil } && cases.contains { !$0.removesPrefixes })
    for one in cases {
      let cleaning = CaptionCleaning(trigger: one.trigger, removesPrefixes: one.removesPrefixes)
      // With a trigger of spaces upstream leaves one space, which its tokenizer strips.
      let isBlank = one.trigger.map { !$0.isEmpty && $0.allSatisfy(\.isWhitespace) } ?? false
      #expect(cleaning.prompt(one.caption) == (isBlank ? String(one.text.dropFirst()) : one.text))
    }
  }
}
