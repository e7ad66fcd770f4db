import Testing

@testable import Datasets

@Suite struct CaptionQualityTests {
  private static let sentence = "A man in a blue coat walks slowly along the wet street. "

  @Test(
    arguments: [
      ("I'm sorry, but I can't describe this.", true),
      ("I’m unable to view videos.", true),
      ("As an AI language model, I have no eyes.", true),
      (" I cannot help with that request.", true),
      ("\"I'm sorry,\" says a woman in red.", false),
      ("A man says that he is sorry.", false), ("", false),
      ("I-beams are lifted by a crane.", false),
    ] as [(String, Bool)])
  func refusals(caption: String, isRefusal: Bool) {
    #expect(CaptionQuality.isRefusal(caption) == isRefusal)
  }

  @Test func onlyLongTextsThatEndInASentenceAreCut() {
    let long = String(repeating: Self.sentence, count: 5)
    #expect(!CaptionQuality.isCut(long))
    #expect(CaptionQuality.isCut(long + "He turns to the"))
    #expect(CaptionQuality.isCut(long + "He turns,"))
    #expect(!CaptionQuality.isCut(long + "A sign says \"Go\""))
    #expect(!CaptionQuality.isCut(long + "(with music)"))
    #expect(!CaptionQuality.isCut("a red ball on grass"))
    #expect(!CaptionQuality.isCut(String(repeating: "red ball, green grass, ", count: 20) + "film"))
    #expect(!CaptionQuality.isCut(""))
  }

  @Test func wrappedCaptionsAreFound() {
    #expect(
      CaptionQuality.problem(of: "{\"combined_caption_english\": \"A")?.contains("JSON") == true)
    #expect(CaptionQuality.problem(of: "{braces} at the start") == nil)
  }

  @Test func nearDuplicatesAreGrouped() {
    let base =
      String(repeating: Self.sentence, count: 1)
      + "Rain falls on the empty pavement while a tram passes behind him, its windows lit. "
      + "Nobody speaks, and only the rain and the tram are heard throughout the whole shot."
    let texts = [
      base, "Something else entirely happens in a kitchen.", base.replacing("blue", with: "green"),
      "a dog", "A dog!", base.uppercased(), "a cat", "", "",
      "Something else entirely happens in a garden.",
    ]
    #expect(NearDuplicates.groups(of: texts) == [[0, 2, 5], [3, 4]])
    #expect(NearDuplicates.groups(of: []).isEmpty)
  }

  /// Compares with every pair, for texts of random words.
  @Test func everyPairIsFound() {
    var generator = SystemRandomNumberGenerator()
    let words = (0..<30).map { "w\($0)" }
    var texts: [String] = []
    for _ in 0..<60 {
      let text = (0..<25).map { _ in words.randomElement(using: &generator) ?? "" }
      texts.append(text.joined(separator: " "))
      var changed = text
      for _ in 0..<Int.random(in: 0...3, using: &generator) {
        changed[Int.random(in: 0..<25, using: &generator)] = "x"
      }
      texts.append(changed.joined(separator: " "))
    }
    func runs(_ text: String) -> Set<[Substring]> {
      let words = text.split(separator: " ")
      return Set((0..<23).map { Array(words[$0..<$0 + 3]) })
    }
    let sets = texts.map(runs)
    let found = NearDuplicates.groups(of: texts)
    for a in texts.indices {
      for b in texts.indices where a < b {
        let shared = sets[a].intersection(sets[b]).count
        let isNear =
          Double(shared) >= NearDuplicates.similarity * Double(sets[a].union(sets[b]).count)
        if isNear { #expect(found.contains { $0.contains(a) && $0.contains(b) }) }
      }
    }
  }
}
