"""Small random omni models in the layout of the published folders: `models/qwen25_omni` and `models/qwen3_omni`.

Every number differs from the published one where that shows a mistake: patches are small, head widths are not the
width over the heads (in the text model of Qwen3-Omni), windows and chunks are short, and there are more embeddings than tokens. Two shards hold the
thinker and, to be passed over, a tensor of the talker. The tokenizer is a byte-level BPE trained on the text below.

    python captioner_models.py      makes both folders
"""

import json
import sys
import types

import beside_cpu_torch  # noqa: F401
import torch

# transformers imports torchaudio, whose compiled part does not load beside another build of torch.
extension = types.ModuleType("torchaudio._extension")
extension._IS_ALIGN_AVAILABLE = extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
extension.fail_if_no_align = lambda function: function
sys.modules.setdefault("torchaudio._extension", extension)

from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

from fixtures import MODELS, generator  # noqa: E402

FAMILIES = {"qwen25": "qwen25_omni", "qwen3": "qwen3_omni"}

# What the tokenizer is trained on: written for this purpose.
TEXT = """
A woman in a red coat walks along the harbor while gulls cry above the boats. The camera follows her from the left.
She says that it isn't far, and they'll see the lighthouse soon. A man answers: "We've got 15 minutes, not 20."
Rain begins to fall; drops drum on a metal roof, and somewhere a door slams shut. The picture fades to black.
In the next shot the sun is out, the water is calm, and a small white dog runs across the wet sand after a ball.
"""

# The pattern of Qwen2's tokenizers.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPECIAL = {
    "qwen25": [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|vision_bos|>",
        "<|vision_eos|>", "<|IMAGE|>", "<|VIDEO|>",
    ],
    "qwen3": [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_pad|>", "<|audio_start|>", "<|audio_end|>",
        "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
    ],
}  # fmt: skip
PLAIN = {"qwen25": ["<tool_call>", "</tool_call>"], "qwen3": ["<tool_call>", "</tool_call>", "<think>", "</think>"]}
ROLES = ["pad", "turn", "end", "audio", "audio_start", "audio_end", "vision_start", "vision_end", "image", "video"]


def make_tokenizer(family: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.strip().split("\n"), trainer)
    tokenizer.add_tokens(
        [AddedToken(t, special=True, normalized=False) for t in SPECIAL[family]]
        + [AddedToken(t, special=False, normalized=False) for t in PLAIN[family]]
    )
    return tokenizer


def token_ids(family: str, tokenizer: Tokenizer) -> dict[str, int]:
    return {role: tokenizer.token_to_id(token) for role, token in zip(ROLES, SPECIAL[family])}


def thinker_config(family: str, ids: dict[str, int]) -> dict:
    omni = "qwen2_5_omni" if family == "qwen25" else "qwen3_omni_moe"
    text = {
        "model_type": f"{omni}_text",
        "vocab_size": 384,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    }
    vision = {
        "model_type": f"{omni}_vision_encoder",
        "in_channels": 3,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "hidden_size": 24,
        "num_heads": 2,
        "out_hidden_size": 48,
    }
    audio = {
        "model_type": f"{omni}_audio_encoder",
        "activation_function": "gelu",
        "num_mel_bins": 128,
        "output_dim": 48,
        "d_model": 24,
        "encoder_layers": 2,
        "encoder_attention_heads": 3,
        "encoder_ffn_dim": 40,
        "max_source_positions": 1500,
    }
    config = {
        "model_type": f"{omni}_thinker",
        "audio_start_token_id": ids["audio_start"],
        "audio_end_token_id": ids["audio_end"],
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
        "seconds_per_chunk": 2,
    }
    if family == "qwen25":
        text |= {"rope_scaling": {"mrope_section": [1, 2, 3], "rope_type": "default", "type": "default"}}
        vision |= {
            "patch_size": 4, "hidden_act": "silu", "depth": 3, "intermediate_size": 36, "window_size": 24,
            "fullatt_block_indexes": [1],
        }  # fmt: skip
        audio |= {"n_window": 20}
        config |= {
            "position_id_per_seconds": 25, "pad_token_id": ids["pad"], "audio_token_index": ids["audio"],
            "image_token_index": ids["image"], "video_token_index": ids["video"],
        }  # fmt: skip
    else:
        text |= {
            "head_dim": 20, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 28,
            "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": 4,
            "rope_scaling": {"mrope_section": [4, 3, 3], "rope_type": "default", "mrope_interleaved": True},
        }  # fmt: skip
        vision |= {
            "patch_size": 4, "hidden_act": "gelu_pytorch_tanh", "depth": 4, "intermediate_size": 32,
            "num_position_embeddings": 49, "deepstack_visual_indexes": [0, 2],
        }  # fmt: skip
        audio |= {"n_window": 50, "n_window_infer": 100, "downsample_hidden_size": 6}
        config |= {
            "position_id_per_seconds": 13, "audio_token_id": ids["audio"], "image_token_id": ids["image"],
            "video_token_id": ids["video"],
        }  # fmt: skip
    return config | {"text_config": text, "vision_config": vision, "audio_config": audio}


def preprocessor_config(family: str) -> dict:
    mean = [0.48145466, 0.4578275, 0.40821073] if family == "qwen25" else [0.5, 0.5, 0.5]
    std = [0.26862954, 0.26130258, 0.27577711] if family == "qwen25" else [0.5, 0.5, 0.5]
    return {
        "chunk_length": 3, "dither": 0.0, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128,
        "hop_length": 160, "image_mean": mean, "image_processor_type": "Qwen2VLImageProcessor", "image_std": std,
        "max_pixels": 1600, "merge_size": 2, "min_pixels": 256, "n_fft": 400, "n_samples": 48000, "nb_max_frames": 300,
        "padding_side": "right", "padding_value": 0.0, "patch_size": 4,
        "processor_class": "Qwen2_5OmniProcessor" if family == "qwen25" else "Qwen3OmniMoeProcessor",
        "return_attention_mask": True, "sampling_rate": 16000, "temporal_patch_size": 2,
    }  # fmt: skip


def empty_model(family: str, thinker: dict) -> torch.nn.Module:
    """transformers' thinker with whatever weights it starts with."""
    if family == "qwen25":
        from transformers import Qwen2_5OmniThinkerConfig as Config
        from transformers import Qwen2_5OmniThinkerForConditionalGeneration as Model
    else:
        from transformers import Qwen3OmniMoeThinkerConfig as Config
        from transformers import Qwen3OmniMoeThinkerForConditionalGeneration as Model
    return Model(Config.from_dict(json.loads(json.dumps(thinker)))).eval()


def published_key(key: str) -> str:
    """transformers' name of a parameter -> the published file's."""
    for part in ("language_model", "visual", "audio_tower"):
        if key.startswith(f"model.{part}."):
            rest = key.removeprefix(f"model.{part}.")
            return f"thinker.model.{rest}" if part == "language_model" else f"thinker.{part}.{rest}"
    return f"thinker.{key}"


def published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' weights under the names of the published files, which have a matrix for each expert."""
    out = {}
    for key, value in state.items():
        if key.endswith("mlp.experts.gate_up_proj"):
            for index, matrix in enumerate(value):
                gate, up = matrix.chunk(2, 0)
                out[key.replace("gate_up_proj", f"{index}.gate_proj.weight")] = gate
                out[key.replace("gate_up_proj", f"{index}.up_proj.weight")] = up
        elif key.endswith("mlp.experts.down_proj"):
            for index, matrix in enumerate(value):
                out[key.replace("down_proj", f"{index}.down_proj.weight")] = matrix
        else:
            out[key] = value
    return {published_key(key): value.contiguous().clone() for key, value in out.items()}


def randomise(model: torch.nn.Module, seed: str) -> None:
    """Norms around one, biases small, matrices with outputs as large as their inputs; all exact in bfloat16."""
    rng = generator(seed)
    with torch.no_grad():
        for key, value in sorted(model.named_parameters()):
            noise = torch.randn(value.shape, generator=rng)
            if key.endswith("bias"):
                noise = noise * 0.1
            elif value.dim() == 1:
                noise = 1 + 0.2 * noise
            elif "embed" in key and not key.endswith("proj.weight"):
                noise = noise * 0.5
            else:
                noise = noise / value[0].numel() ** 0.5
            value.copy_(noise.to(torch.bfloat16))


def load(family: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The reference with the weights of the committed folder."""
    folder = MODELS / FAMILIES[family]
    model = empty_model(family, json.loads((folder / "config.json").read_text())["thinker_config"])
    stored = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored |= load_file(file)
    names = published(dict(model.named_parameters()))
    missing = set(names) - set(stored)
    if missing:
        raise SystemExit(f"{folder} lacks {sorted(missing)[:3]}")
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".experts." in key:
                count = value.shape[0]
                stem, part = published_key(key).rsplit(".", 1)
                parts = ["gate_proj", "up_proj"] if part == "gate_up_proj" else ["down_proj"]
                rows = [torch.cat([stored[f"{stem}.{i}.{p}.weight"] for p in parts]) for i in range(count)]
                value.copy_(torch.stack(rows))
            else:
                value.copy_(stored[published_key(key)])
    return model.to(dtype)


def write(path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def make(family: str) -> None:
    folder = MODELS / FAMILIES[family]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(family)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    ids = token_ids(family, tokenizer)
    thinker = thinker_config(family, ids)
    write(
        folder / "config.json",
        {
            "architectures": ["Qwen2_5OmniModel" if family == "qwen25" else "Qwen3OmniMoeForConditionalGeneration"],
            "model_type": "qwen2_5_omni" if family == "qwen25" else "qwen3_omni_moe",
            "torch_dtype": "bfloat16",
            "thinker_config": thinker,
        },
    )
    write(folder / "preprocessor_config.json", preprocessor_config(family))
    write(
        folder / "generation_config.json",
        {
            "do_sample": True, "eos_token_id": [ids["end"], ids["pad"]], "pad_token_id": ids["pad"],
            "repetition_penalty": 1.05, "temperature": 0.6, "top_k": 20, "top_p": 0.95,
        },
    )  # fmt: skip
    model = empty_model(family, thinker)
    randomise(model, f"models/{FAMILIES[family]}")
    tensors = {k: v.to(torch.bfloat16) for k, v in published(dict(model.named_parameters())).items()}
    keys = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": keys[: len(keys) // 2], "model-00002-of-00002.safetensors": keys[len(keys) // 2 :]}
    weight_map = {}
    for name, part in shards.items():
        content = {key: tensors[key] for key in part}
        if name.startswith("model-00002"):
            content["talker.model.norm.weight"] = torch.ones(4, dtype=torch.bfloat16)
        save_file(content, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(content, name)
    size = sum(t.numel() * 2 for t in tensors.values())
    write(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})
    print(f"  models/{FAMILIES[family]}: {len(tensors)} tensors, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in FAMILIES:
        make(name)
