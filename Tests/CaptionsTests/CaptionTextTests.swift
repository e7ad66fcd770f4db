import Testing

@testable import Captions

@Suite struct CaptionTextTests {
  private static let key = CaptionAnswer.key

  @Test(
    arguments: [
      ("{\"\(key)\": \"A cat.\"}", "A cat."),
      ("  bare words \n", "bare words"),
      ("a thought </think>\n {\"\(key)\": \"Then this.\"}", "Then this."),
      ("<think>\nx\n</think>{\"\(key)\": \"B \\\"q\\\" \\u00e9\"}", "B \"q\" é"),
      ("<think>a</think>one<think>b</think> two", "one two"),
      ("```json\n{\"\(key)\": \"in a fence\"}\n```", "in a fence"),
      ("{\"\(key)\": \"ends in the mid", "ends in the mid"),
      ("{\"\(key)\": \"ends at \\", "ends at"),
      ("{\"\(key)\" : \t\"ends \\u00e9 at \\u12", "ends \\u00e9 at \\u12"),
      ("Sure: {\"\(key)\": \"inside\", \"x\": 1} bye", "inside"),
      ("{\"a\": {\"\(key)\": \"nested\"}}", "nested"),
      ("{\"\(key)\": \"with {braces} inside\", }", "with {braces} inside"),
      ("{\"other\": \"key\"}", "{\"other\": \"key\"}"),
      ("{\"\(key)\": 5}", "{\"\(key)\": 5}"),
      ("<think>only thoughts</think>", "<think>only thoughts</think>"),
      ("<think>never closed", "<think>never closed"),
      ("[\"\(key)\"]", "[\"\(key)\"]"),
      ("{\"\(key)\": \"two\\nlines\"}", "two\nlines"),
      ("a</think>b</think> c ", "c"),
      ("", ""), (" \n", ""), ("</think>", "</think>"),
      ("{\"\(key)\": \"raw\nline end\"}", "raw\nline end"),
      // A value that is not text is not a caption.
      ("{\"\(key)\": [\"A boat.\"]}", "{\"\(key)\": [\"A boat.\"]}"),
    ] as [(String, String)])
  func answersAreReadByTheRulesOfTheOfficialTrainer(answer: String, caption: String) {
    #expect(CaptionAnswer(answer).caption == caption)
  }

  @Test(
    arguments: [
      ("Sure! Here is the caption:\n\nA man walks.", "A man walks."),
      ("Here's a detailed caption of the video: A man walks.", "A man walks."),
      ("**Caption:** A man walks.", "A man walks."),
      ("Detailed video description: A man walks.", "A man walks."),
      ("## Caption:\nA man walks.", "A man walks."),
      ("Certainly.\nA man walks.", "A man walks."),
      ("```\nA man walks.\n```", "A man walks."),
      ("\"A man walks.\"", "A man walks."),
      ("A man walks.\n\nLet me know if you need another one!", "A man walks."),
      // None of these is an introduction.
      ("Sure of himself, a man walks.", "Sure of himself, a man walks."),
      ("Okay, says the man: it is late.", "Okay, says the man: it is late."),
      ("Here is a man at 5:30 in the morning.", "Here is a man at 5:30 in the morning."),
      ("\"Go\", says a man. \"Now\"", "\"Go\", says a man. \"Now\""),
      ("A sign reads \"Caption: none\".", "A sign reads \"Caption: none\"."),
      ("Caption:", "Caption:"),
    ] as [(String, String)])
  func introductionsAndClosingsAreRemoved(answer: String, caption: String) {
    #expect(CaptionText.cleaned(answer) == caption)
  }

  @Test func theDefaultInstructionsAskForTheKeyAndNotForAudioThatIsMissing() {
    let contents: [CaptionInstructions.Content] = [
      .video(hasAudio: true), .video(hasAudio: false), .image, .audio,
    ]
    let texts = contents.map { CaptionInstructions().text(for: $0) }
    #expect(Set(texts).count == 4)
    #expect(texts.allSatisfy { $0.contains("\"\(CaptionAnswer.key)\"") })
    #expect(texts.map { $0.contains("speech") } == [true, false, false, true])
    #expect(CaptionInstructions(custom: "Why?").text(for: .image) == "Why?")
  }
}
