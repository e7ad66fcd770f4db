import Testing

@testable import LanguageModels

@Suite struct AssistantOpeningTests {
  /// Only what follows the last mention of the generation prompt matters: templates also remove
  /// thoughts from earlier turns.
  private func template(_ end: String) -> String {
    "{%- set c = m.content.split('</think>')[-1] %}{%- if add_generation_prompt %}"
      + "{{ '<|im_start|>assistant\\n' }}\(end){%- endif %}"
  }

  @Test func templatesSayHowAnAnswerBegins() {
    #expect(AssistantOpening(template: template("")) == .nothing)
    #expect(AssistantOpening(template: template("{{ '<think>\\n' }}")) == .thought)
    #expect(
      AssistantOpening(
        template: template(
          "{%- if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"))
        == .optionalThought)
    #expect(AssistantOpening(template: "{{ messages }}") == .nothing)
  }

  @Test func thinkingIsTurnedOffByAnEmptyThought() {
    #expect(AssistantOpening.optionalThought.text(thinking: false) == "<think>\n\n</think>\n\n")
    for thinking in [true, nil] {
      #expect(AssistantOpening.optionalThought.text(thinking: thinking).isEmpty)
      #expect(AssistantOpening.thought.text(thinking: thinking) == "<think>\n")
    }
    #expect(AssistantOpening.thought.text(thinking: false) == "<think>\n")
    #expect(AssistantOpening.nothing.text(thinking: false).isEmpty)
  }

  @Test func foldersWithoutATemplateCanTurnThinkingOff() throws {
    #expect(
      try AssistantOpening(folder: DecoderTests.folder("qwen3_omni"), family: .qwen3)
        == .optionalThought)
    #expect(
      try AssistantOpening(folder: DecoderTests.folder("qwen25_omni"), family: .qwen25) == .nothing)
  }
}
