import Foundation
import Testing

@testable import Tracking

@Suite struct ModelCardTests {
  private func card(_ base: String = "Lightricks/LTX-2") -> ModelCard {
    var card = ModelCard(
      title: "rain_lora", baseModel: base, method: .lora(rank: 16, alpha: 16),
      weights: "lora_step_00250.safetensors")
    card.triggerWords = "R41N, \"rain\""
    card.facts = [("Steps", "250"), ("Learning rate", "0.0001")]
    card.samples = [
      .init(path: "samples/sample_1.mp4", prompt: "A street: rain,\nat `night` # 1"),
      .init(path: "samples/sample_2.mp4", prompt: "- a dog"),
    ]
    return card
  }

  @Test func theWholeText() {
    #expect(
      card().text == """
        ---
        base_model: "Lightricks/LTX-2"
        base_model_relation: adapter
        library_name: diffusers
        license: other
        pipeline_tag: "text-to-video"
        instance_prompt: "R41N, \\"rain\\""
        tags:
          - "ltx-2"
          - "ltx-video"
          - "text-to-video"
          - "audio-video"
          - "lora"
        widget:
          - text: "A street: rain,\\nat `night` # 1"
            output:
              url: "samples/sample_1.mp4"
          - text: "- a dog"
            output:
              url: "samples/sample_2.mp4"
        ---

        # rain\\_lora

        A LoRA for [Lightricks/LTX-2](https://huggingface.co/Lightricks/LTX-2), trained with swift-ltx.

        <Gallery />

        ## Trigger words

        Put `R41N, "rain"` into the prompt.

        ## Prompts of the samples

        - `` A street: rain, at `night` # 1 ``
        - `- a dog`

        ## Training

        | | |
        |---|---|
        | Base model | [Lightricks/LTX-2](https://huggingface.co/Lightricks/LTX-2) |
        | Method | LoRA, rank 16, alpha 16 |
        | Steps | 250 |
        | Learning rate | 0.0001 |

        ## Use

        - **swift-ltx**: `ltx generate --lora lora_step_00250.safetensors:1.0 …`
        - **ComfyUI**: put `lora_step_00250.safetensors` into `models/loras`, and pass the model through a *Load LoRA* node.

        ## License

        The license of the base model, [Lightricks/LTX-2](https://huggingface.co/Lightricks/LTX-2), holds for this model too.

        """)
  }

  /// The Hub rejects a commit whose `base_model` is not a valid model name.
  @Test(
    arguments: [
      ("/home/me/models/ltx-2.safetensors", "`ltx-2.safetensors`"),
      ("models/ltx-2.safetensors", "`ltx-2.safetensors`"),
      (
        "https://example.org/a b/ltx_2.safetensors",
        "[ltx\\_2.safetensors](https://example.org/a%20b/ltx_2.safetensors)"
      ),
    ])
  func baseModelsThatAreNoneOfTheHubs(base: String, shown: String) {
    let text = card(base).text
    #expect(!text.contains("base_model"))
    #expect(text.contains("| Base model | \(shown) |"))
    #expect(!text.contains("/home/me"))
  }

  @Test func fullFineTuning() {
    let text = ModelCard(title: "t", baseModel: "a/b", method: .full, weights: "w.safetensors").text
    #expect(text.contains("base_model_relation: finetune"))
    #expect(text.contains("| Method | full fine-tuning |"))
    #expect(!text.contains("lora"))
    #expect(!text.contains("Gallery"))
  }
}
