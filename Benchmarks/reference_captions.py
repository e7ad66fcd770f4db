#!/usr/bin/env python3
"""The captioner's models for the benchmark, and transformers' side of it.

    reference_captions.py make qwen25|qwen3 FOLDER     writes a random thinker in bfloat16, and inputs.safetensors: a clip with
                                                       audio and text as the processor would give them
    reference_captions.py serve FOLDER float32|bfloat16 TOKENS THREADS

`serve` answers each line of standard input with one caption of TOKENS tokens. The answer is one line of JSON: seconds until the
first token and for the rest, the CPU seconds of both, the tokens, peak memory in bytes, and the memory that the model added.

Needs transformers, tokenizers, torchvision and safetensors (Tests/Oracles/requirements.txt).
"""
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tests/Oracles"))

import captioner_models as models
import torch
from safetensors.torch import load_file, save_file

VOCABULARY = 32000
TEXT_TOKENS = 128
STEPS, ROWS, COLUMNS = 2, 20, 20  # of patches: four frames of 280x280, or 320x320 in Qwen3-Omni
AUDIO_FRAMES = 400  # 4 s


def configuration(family):
    """The sizes of heads are those of the published models; the rest is smaller."""
    tokenizer = models.make_tokenizer(family)
    thinker = models.thinker_config(family, models.token_ids(family, tokenizer))
    text, vision, audio = (thinker[f"{part}_config"] for part in ("text", "vision", "audio"))
    text |= {
        "vocab_size": VOCABULARY, "hidden_size": 1024, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "intermediate_size": 4864,
    }  # fmt: skip
    vision |= {"hidden_size": 640, "depth": 8, "out_hidden_size": 1024, "intermediate_size": 1728}
    audio |= {
        "output_dim": 1024, "d_model": 640, "encoder_layers": 8, "encoder_attention_heads": 10, "encoder_ffn_dim": 2560,
    }  # fmt: skip
    if family == "qwen25":
        text |= {"num_hidden_layers": 16, "num_attention_heads": 8}
        text["rope_scaling"]["mrope_section"] = [16, 24, 24]
        vision |= {"num_heads": 8, "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [3, 7]}
        audio |= {"n_window": 100}
    else:
        text |= {
            "num_hidden_layers": 10, "num_attention_heads": 16, "head_dim": 128, "num_experts": 32, "num_experts_per_tok": 8,
            "moe_intermediate_size": 384,
        }  # fmt: skip
        text["rope_scaling"]["mrope_section"] = [24, 20, 20]
        vision |= {
            "hidden_size": 576, "num_heads": 8, "patch_size": 16, "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [2, 4, 6],
        }  # fmt: skip
        audio |= {"n_window": 50, "n_window_infer": 800, "downsample_hidden_size": 480}
    return tokenizer, thinker


def audio_tokens(family):
    """The tokens of the recording: two halvings, or 13 per second."""
    return ((AUDIO_FRAMES - 1) // 2 + 1 - 2) // 2 + 1 if family == "qwen25" else AUDIO_FRAMES // 100 * 13


def inputs(family, thinker):
    random = torch.Generator().manual_seed(2)

    def token(name):
        return next(thinker[key] for key in (f"{name}_token_id", f"{name}_token_index") if key in thinker)

    video = [token("vision_start")] + [token("video")] * (STEPS * ROWS * COLUMNS // 4) + [token("vision_end")]
    audio = [token("audio_start")] + [token("audio")] * audio_tokens(family) + [token("audio_end")]
    text = torch.randint(0, 300, (TEXT_TOKENS,), generator=random).tolist()
    ids = torch.tensor([video + audio + text])
    patch = 6 * thinker["vision_config"]["patch_size"] ** 2
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": torch.randn(STEPS * ROWS * COLUMNS, patch, generator=random),
        "video_grid_thw": torch.tensor([[STEPS, ROWS, COLUMNS]]), "video_second_per_grid": torch.ones(1),
        "input_features": torch.randn(1, 128, AUDIO_FRAMES, generator=random) * 0.5,
        "feature_attention_mask": torch.ones(1, AUDIO_FRAMES, dtype=torch.int64),
    }  # fmt: skip


def make(family, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, thinker = configuration(family)
    tokenizer.save(str(folder / "tokenizer.json"))
    name = "qwen2_5_omni" if family == "qwen25" else "qwen3_omni_moe"
    models.write(folder / "config.json", {"model_type": name, "thinker_config": thinker})
    models.write(folder / "preprocessor_config.json", models.preprocessor_config(family))
    models.write(folder / "generation_config.json", {"eos_token_id": [VOCABULARY - 1], "pad_token_id": 0})
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    model = models.empty_model(family, thinker)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() > 1:
                value.normal_(0, 0.5 if "embed" in key else value[0].numel() ** -0.5)
    parameters = dict(model.named_parameters())
    save_file(models.published(parameters), folder / "model.safetensors", metadata={"format": "pt"})
    torch.set_default_dtype(torch.float32)
    save_file(inputs(family, thinker), folder / "inputs.safetensors")
    print(sum(value.numel() for value in parameters.values()))


def memory(name):
    """A value of this process's status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def load(folder, dtype):
    """The thinker of a published folder."""
    if json.loads((folder / "config.json").read_text())["model_type"] == "qwen2_5_omni":
        from transformers import Qwen2_5OmniThinkerForConditionalGeneration as Model
    else:
        from transformers import Qwen3OmniMoeThinkerForConditionalGeneration as Model
    return Model.from_pretrained(folder, dtype=dtype).eval().requires_grad_(False)


class Times:
    """A streamer of `generate` that notes when tokens come."""

    def __init__(self):
        self.moments, self.cpu = [], []

    def put(self, _):
        self.moments.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def end(self):
        pass


def serve(folder, dtype, tokens, threads):
    torch.set_num_threads(int(threads))
    folder, dtype = Path(folder), getattr(torch, dtype)
    before = memory("VmRSS")
    model = load(folder, dtype)
    given = load_file(folder / "inputs.safetensors")
    for key in ("pixel_values_videos", "input_features"):
        given[key] = given[key].to(dtype)
    count = given["input_ids"].shape[1]
    for _ in sys.stdin:
        times = Times()
        start, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            answer = model.generate(
                **given, max_new_tokens=int(tokens), do_sample=False, repetition_penalty=1.05, eos_token_id=[VOCABULARY - 1],
                pad_token_id=0, use_audio_in_video=False, streamer=times,
            )  # fmt: skip
        first, last = times.moments[1], times.moments[-1]  # the streamer first gets the prompt
        result = {
            "prefill": first - start, "decoding": last - first, "prefillCPU": times.cpu[1] - cpu,
            "decodingCPU": times.cpu[-1] - times.cpu[1], "tokens": answer[0, count:].tolist(), "peak": memory("VmHWM"),
            "weights": memory("VmRSS") - before,
        }  # fmt: skip
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    {"make": make, "serve": serve}[sys.argv[1]](*sys.argv[2:])
