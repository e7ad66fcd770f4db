"""A small random Gemma 3 in the layout of the published folder: sharded, with the older configuration keys.

Seven layers hold the pattern of five local layers and a global one, and a local one after it. The window is shorter
than the sequences of the tests, and the scale of the scores is not that of the head's width.
"""

import json

import torch
from safetensors.torch import save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from checkpoints import GEMMA_LAYERS, GEMMA_WIDTH, randomise
from fixtures import MODELS, generator
from text_reference import load_gemma

TEXT = {
    "hidden_size": GEMMA_WIDTH,
    "intermediate_size": 72,
    "model_type": "gemma3_text",
    "num_attention_heads": 8,
    "num_hidden_layers": GEMMA_LAYERS,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "query_pre_attn_scalar": 20,
    "vocab_size": 320,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "sliding_window_pattern": 6,
    "hidden_activation": "gelu_pytorch_tanh",
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 16,
}

CONFIG = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 300,
    "eoi_token_index": 301,
    "eos_token_id": [1, 106],
    "image_token_index": 302,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 4,
    "model_type": "gemma3",
    "text_config": TEXT,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {
        "hidden_size": 16,
        "image_size": 28,
        "intermediate_size": 24,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


def published_key(key: str) -> str | None:
    """transformers' name of a parameter -> the published file's; None for the tied head."""
    if key.startswith("lm_head."):
        return None
    key = key.removeprefix("model.")
    if key.startswith("language_model."):
        return key.replace("language_model.", "language_model.model.", 1)
    if key.startswith("vision_tower.") and not key.startswith("vision_tower.vision_model."):
        return key.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return key


def make() -> None:
    folder = MODELS / "gemma3"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    with torch.device("meta"):
        state = Gemma3ForConditionalGeneration(Gemma3Config.from_dict(CONFIG)).state_dict()
    shapes = {published_key(k): v.shape for k, v in state.items() if published_key(k)}
    tensors = randomise(shapes, "models/gemma3")
    for key, value in tensors.items():
        if key.endswith("norm.weight") and key.startswith("language_model."):
            tensors[key] = value - 1  # Gemma multiplies by 1 + weight
        if key.endswith("embed_tokens.weight"):
            tensors[key] = 0.3 * torch.randn(value.shape, generator=generator("models/gemma3/embeddings"))
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in tensors.items()}

    keys = sorted(tensors)
    total = sum(tensors[k].numel() for k in keys)
    shards, filled = ([], []), 0
    for key in keys:
        shards[filled * 2 >= total].append(key)
        filled += tensors[key].numel()
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-0000{number}-of-0000{len(shards)}.safetensors"
        save_file({k: tensors[k] for k in shard}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": 2 * total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    print(f"  models/gemma3: {len(keys)} tensors, {2 * total / 1e6:.2f} MB")
    check(tensors, folder)


def check(tensors: dict, folder) -> None:
    """transformers must have read this folder as the published one: every weight, both RoPEs, the layer pattern."""
    model = load_gemma(folder, torch.float32)
    for key, value in model.state_dict().items():
        name = published_key(key)
        if name and not torch.equal(value, tensors[name].float()):
            raise SystemExit(f"gemma3: {key} was not read from {name}")
    config = model.config.text_config
    rope = config.rope_parameters
    wanted = ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    facts = {
        "layer_types": (list(config.layer_types), wanted),
        "global theta": (rope["full_attention"]["rope_theta"], 1e6),
        "global scaling": (rope["full_attention"]["rope_type"], "linear"),
        "global factor": (rope["full_attention"].get("factor"), 8.0),
        "local theta": (rope["sliding_attention"]["rope_theta"], 1e4),
        "local scaling": (rope["sliding_attention"]["rope_type"], "default"),
        "window": (config.sliding_window, 16),
        "scalar": (config.query_pre_attn_scalar, 20),
    }
    for name, (got, want) in facts.items():
        if got != want:
            raise SystemExit(f"gemma3: {name} is {got}, expected {want}")
