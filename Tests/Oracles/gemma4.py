#!/usr/bin/env python3
"""Makes Tests/Fixtures/gemma4: small random Gemma 4 text models with the hidden states that transformers computes, and the
ids of prompts by a tokenizer without a template.

    python Tests/Oracles/gemma4.py

Needs torch, transformers, tokenizers. Writes

    NAME.json         config.json of a model
    NAME.safetensors  its weights, in bfloat16, with inputs and hidden states below `case.`
    prompts.json      texts with the ids that the text encoder reads
"""

import json
import sys
from pathlib import Path

# What transformers would import for images and audio may not fit a CPU build of torch, and nothing needs it here.
sys.modules["torchvision"] = sys.modules["torchaudio"] = None

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from transformers import Gemma4UnifiedTextConfig  # noqa: E402
from transformers.models.gemma4_unified.modeling_gemma4_unified import Gemma4UnifiedTextModel  # noqa: E402

from tokenizer import STRIPS, TEXTS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent / "Fixtures"
OUT = ROOT / "gemma4"
LIMIT = 1024

SIZES = {
    "model_type": "gemma4_unified_text", "vocab_size": 64, "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 12,
    "sliding_window": 6, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1000.0},
    },
}  # fmt: skip
MODELS = {
    # Global layers without a projection of values, as published.
    "shared": {"attention_k_eq_v": True, "num_global_key_value_heads": 1},
    # Everything that the published model does without: biases, projected values, scaled positions.
    "separate": {
        "attention_k_eq_v": False, "attention_bias": True,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "linear", "rope_theta": 300.0, "factor": 4.0},
            "full_attention": {
                "rope_type": "proportional", "partial_rotary_factor": 0.3, "rope_theta": 1000.0, "factor": 2.0
            },
        },
    },
}  # fmt: skip


@torch.no_grad()
def make_model(name: str, changes: dict) -> None:
    sizes = SIZES | changes
    config = {"model_type": "gemma4_unified", "gemma_version": "test", "text_config": sizes}
    (OUT / f"{name}.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    model = Gemma4UnifiedTextModel._from_config(Gemma4UnifiedTextConfig(**sizes), attn_implementation="eager").eval()
    rng = torch.Generator().manual_seed(4)
    tensors = {}
    for key, value in sorted(model.state_dict().items()):
        drawn = torch.randn(value.shape, generator=rng)
        drawn = 1 + 0.2 * drawn if value.ndim == 1 and not key.endswith("bias") else 0.4 * drawn
        tensors[key] = drawn.to(torch.bfloat16)
        value.copy_(tensors[key])
    lengths, size = [20, 13], 20
    mask = (torch.arange(size) >= size - torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 64, mask.shape, generator=rng) * mask
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    shown = torch.stack(states) * mask[None, :, :, None]
    stored = {f"model.language_model.{key}": value for key, value in tensors.items()}
    stored |= {"case.ids": ids, "case.mask": mask, "case.states": shown}
    save_file({k: v.contiguous() for k, v in stored.items()}, OUT / f"{name}.safetensors")
    print(f"  {name}: {len(tensors)} tensors, states of {shown.std():.2g}")


def make_prompts() -> None:
    """The template is taken out of the tokenizer of Gemma 3's form; everything else is the same scheme."""
    parts = json.loads((ROOT / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    parts["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    bos, pad = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<pad>")
    # As many tokens as there is room for, one fewer, one more; and texts that begin with <bos> themselves.
    edges = [" ".join(["x"] * n) for n in (511, 512, 513)] + ["😀" * n for n in (255, 256)] + ["a" + "😀" * 256]
    edges += ["<bos>" + "😀" * n for n in (255, 256)] + ["<bos>" * 1025, "<pad>", "<pad><bos>", "<bos><bos> a", "\n<bos>"]
    prompts = []
    for text in TEXTS + STRIPS + edges:
        ids = tokenizer.encode(text.strip()).ids[:LIMIT]
        if ids[:1] != [bos]:
            ids = [bos, *ids][:LIMIT]
        prompts.append({"text": text, "ids": ids})
    content = {"limit": LIMIT, "pad": pad, "prompts": prompts}
    (OUT / "prompts.json").write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"  prompts: {len(prompts)}")


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name, changes in MODELS.items():
        make_model(name, changes)
    make_prompts()


if __name__ == "__main__":
    main()
