import Testing

@testable import LanguageModels

@Suite struct CaptionAnswerTests {
  @Test(arguments: [
    ("  A boat. \n", "A boat."),
    (#"{"combined_caption_english": "A boat."}"#, "A boat."),
    ("```json\n{\"combined_caption_english\": \"A boat.\"}\n```", "A boat."),
    ("<think>Hm.</think> A boat.", "A boat."),
    ("Hm.</think>A boat.", "A boat."),
    ("<think>Hm.</think>", "<think>Hm.</think>"),
    (#"{"combined_caption_english": "A bo"#, "A bo"),
    (#"{"combined_caption_english": "A \"bo\" \"#, "A \"bo\""),
    (#"{"combined_caption_english": "A line\nand more" "#, "A line\nand more"),
    // A value that is not text is not a caption.
    (#"{"combined_caption_english": ["A boat."]}"#, #"{"combined_caption_english": ["A boat."]}"#),
    ("", ""),
  ]) func captionsAreUnwrapped(answer: String, caption: String) {
    #expect(CaptionAnswer(answer).caption == caption)
  }
}
