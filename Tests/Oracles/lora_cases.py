"""Fixtures of LoRA files: every format, with alpha, with the velocities and fused weights of the references."""

import json

import torch
from safetensors.torch import load_file, save_file

import reference
from fixtures import MODELS, ROOT, agree, generator, origin, write_case
from second_opinion import diffusers_transformer
from second_opinion import transformer as second_transformer
from transformer_cases import EQUAL, Draw, arguments, checkpoint_of

MODEL = "ltx2_transformer"
# A layer of every kind of name that some format changes, with its rank and alpha.
LAYERS = {
    "patchify_proj": (2, 8.0),
    "audio_proj_out": (2, 8.0),
    "adaln_single.linear": (2, 8.0),
    "audio_adaln_single.emb.timestep_embedder.linear_1": (2, 8.0),
    "av_ca_video_scale_shift_adaln_single.linear": (2, 8.0),
    "av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_2": (2, 8.0),
    "caption_projection.linear_2": (2, 8.0),
    "transformer_blocks.0.attn1.to_q": (4, 1.0),
    "transformer_blocks.1.attn2.to_out.0": (2, 8.0),
    "transformer_blocks.1.ff.net.0.proj": (2, 3.0),
    "transformer_blocks.2.audio_ff.net.2": (3, 8.0),
    "transformer_blocks.2.audio_to_video_attn.to_out.0": (2, 8.0),
    "transformer_blocks.0.video_to_audio_attn.to_k": (2, 8.0),
}
COMFY = "diffusion_model."


def factors(name: str, tensors: dict, dtype=torch.float32) -> dict:
    """{path: (A, B, alpha)} for `LAYERS`."""
    rng = generator(f"models/{name}")
    out = {}
    for path, (rank, alpha) in LAYERS.items():
        outputs, inputs = tensors[f"model.diffusion_model.{path}.weight"].shape
        down = torch.randn(rank, inputs, generator=rng) * 0.3 / rank**0.5
        up = torch.randn(outputs, rank, generator=rng) * 0.3
        out[path] = (down.to(dtype), up.to(dtype), alpha)
    return out


def folded(adapters: dict) -> dict:
    """The same in the format of the trainers: B times alpha / rank, no alpha."""
    out = {}
    for path, (down, up, alpha) in adapters.items():
        out[f"{COMFY}{path}.lora_A.weight"] = down
        out[f"{COMFY}{path}.lora_B.weight"] = up * (alpha / down.shape[0])
    return out


def save_kohya(name: str, adapters: dict) -> None:
    out = {}
    for path, (down, up, alpha) in adapters.items():
        flat = "lora_unet_" + path.replace(".", "_")
        out |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up, f"{flat}.alpha": torch.tensor(alpha)}
    save_file(out, MODELS / f"{name}.safetensors")


def save_comfyui_alpha(name: str, adapters: dict) -> None:
    out = {}
    for path, (down, up, alpha) in adapters.items():
        key = COMFY + path
        out |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor([alpha])}
    save_file(out, MODELS / f"{name}.safetensors")


def save_diffusers(name: str, adapters: dict) -> None:
    """Named and written by diffusers itself, with the ranks and alphas in the metadata."""
    from diffusers.loaders import LTX2LoraLoaderMixin
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_ltx2_lora_to_diffusers as convert

    state, alphas, ranks = {}, {}, {}
    for path, (down, up, alpha) in adapters.items():
        pair = convert({f"{COMFY}{path}.lora_A.weight": down, f"{COMFY}{path}.lora_B.weight": up})
        module = next(iter(pair)).removeprefix("transformer.").removesuffix(".lora_A.weight")
        state |= {key.removeprefix("transformer."): value for key, value in pair.items()}
        alphas |= {module: alpha} if alpha != 8 else {}
        ranks |= {module: down.shape[0]} if down.shape[0] != 2 else {}
    config = {
        "r": 2,
        "lora_alpha": 8,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": sorted({key.split(".lora_")[0] for key in state}),
    }
    LTX2LoraLoaderMixin.save_lora_weights(
        MODELS, transformer_lora_layers=state, weight_name=f"{name}.safetensors",
        transformer_lora_adapter_metadata=config,
    )  # fmt: skip


def diffusers_velocity(checkpoint: tuple, path, inputs: dict) -> dict:
    """The file as diffusers reads it, applied by diffusers to its own transformer."""
    from diffusers.loaders import LTX2LoraLoaderMixin

    tensors, config = checkpoint
    model = diffusers_transformer(tensors, config)
    state, metadata = LTX2LoraLoaderMixin.lora_state_dict(str(path), return_lora_metadata=True)
    LTX2LoraLoaderMixin.load_lora_into_transformer(state, model, adapter_name="it", metadata=metadata)
    return second_transformer(model, inputs, config["transformer"]["timestep_scale_multiplier"])


def fused(checkpoint: tuple, loras: list[tuple[dict, float]]) -> dict:
    """The weights that ltx-core's loader changes, under their keys in the file."""
    from ltx_core.loader.fuse_loras import apply_loras
    from ltx_core.loader.primitives import LoraStateDictWithStrength, StateDict

    prefix = "model.diffusion_model."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint[0].items() if k.startswith(prefix)}

    def state(tensors):
        return StateDict(tensors, torch.device("cpu"), 0, set())

    pairs = [
        LoraStateDictWithStrength(state({k.removeprefix(COMFY): v for k, v in lora.items()}), strength)
        for lora, strength in loras
    ]
    result = apply_loras(state(weights), pairs).sd
    changed = {k.removeprefix(COMFY).replace("lora_A.", "") for lora, _ in loras for k in lora if ".lora_A." in k}
    return {prefix + key: result[key] for key in sorted(changed)}


def make_names() -> None:
    """What diffusers calls the linear layers of both generations, by its own conversion."""
    from diffusers import LTX2VideoTransformer3DModel
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_ltx2_lora_to_diffusers as convert
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

    def linears(module):
        return {name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)}

    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16, "num_layers": 1}
    audio = {f"audio_{k}": v for k, v in sizes.items() if k != "num_layers"}
    with torch.device("meta"):
        old = LTX2VideoTransformer3DModel(**sizes, **audio)
        new = LTX2VideoTransformer3DModel(
            **sizes, **audio, gated_attn=True, cross_attn_mod=True, audio_gated_attn=True,
            audio_cross_attn_mod=True, use_prompt_embeddings=False,
        )  # fmt: skip
        connectors = [
            LTX2TextConnectors(per_modality_projections=gated, video_gated_attn=gated, audio_gated_attn=gated)
            for gated in (False, True)
        ]
    wanted = linears(old) | linears(new)
    # The checkpoint's names. That they are right is what diffusers' own conversion is asked below.
    back = {
        "proj_in": "patchify_proj", "audio_proj_in": "audio_patchify_proj", "time_embed": "adaln_single",
        "audio_time_embed": "audio_adaln_single", "prompt_adaln": "prompt_adaln_single",
        "audio_prompt_adaln": "audio_prompt_adaln_single",
        "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
        "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
        "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
        "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
    }  # fmt: skip
    names = {}
    for name in sorted(wanted):
        first, _, rest = name.partition(".")
        path = COMFY + ".".join(filter(None, (back.get(first, first), rest)))
        got = next(iter(convert({f"{path}.lora_A.weight": torch.zeros(0)}))).removesuffix(".lora_A.weight")
        assert got == f"transformer.{name}", (got, name)
        names[path] = got
    for name in sorted(linears(connectors[0]) | linears(connectors[1])):
        if "text_proj_in" in name:
            path = "text_embedding_projection." + name.replace("text_proj_in", "aggregate_embed")
            got = convert({f"{path}.lora_A.weight": torch.zeros(0)}, "text_embedding_projection")
            assert next(iter(got)) == f"connectors.{name}.lora_A.weight"
        elif ".0." in name:  # the first block stands for all
            # As diffusers' conversion of whole pipelines renames them.
            path = COMFY + name.replace("_connector.transformer_blocks.", "_embeddings_connector.transformer_1d_blocks.")
        else:
            continue
        names[path] = f"connectors.{name}"
    folder = ROOT / "lora"
    folder.mkdir(exist_ok=True)
    text = {"source": origin("diffusers"), "names": names}
    (folder / "names.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    print(f"  lora/names.json: {len(names)} layers")


@torch.no_grad()
def make() -> None:
    make_names()
    checkpoint = checkpoint_of(MODEL)
    tensors, config = checkpoint

    def inputs(name):
        draw = Draw(f"transformer/{name}", config, 1, grid=(2, 2, 1), audio_frames=3, text=3)
        return draw.stream("video", [0.7]) | draw.stream("audio", [0.7])

    def velocity(name, file, adapters):
        drawn = inputs(name)
        weights = reference.add_loras(tensors, [(folded(adapters), 0.75)])
        ours = reference.transformer(reference.load_transformer((weights, config), torch.float32), drawn)
        write_case(
            "transformer", name, drawn, ours, args=arguments(MODEL, f"{file}.safetensors:0.75"),
            source=origin("ltx-core"), what=f"{file}: B folded with alpha / rank for the reference; {EQUAL}",
        )  # fmt: skip

    for name, save in (("lora_kohya", save_kohya), ("lora_comfyui_alpha", save_comfyui_alpha)):
        adapters = factors(name, tensors)
        save(name, adapters)
        velocity(name, name, adapters)

    adapters = factors("lora_diffusers", tensors)
    save_diffusers("lora_diffusers", adapters)
    drawn = inputs("lora_diffusers")
    want = diffusers_velocity(checkpoint, MODELS / "lora_diffusers.safetensors", drawn)
    weights = reference.add_loras(tensors, [(folded(adapters), 1.0)])
    other = reference.transformer(reference.load_transformer((weights, config), torch.float32), drawn)
    opinion = agree("transformer/lora_diffusers", "ltx-core", other, want, 1e-4)
    write_case(
        "transformer", "lora_diffusers", drawn, want, args=arguments(MODEL, "lora_diffusers.safetensors"),
        source=origin("diffusers", "peft"), second_opinion=opinion,
        what=f"a file that diffusers wrote, with its ranks and alphas in the metadata, and its transformer; {EQUAL}",
    )  # fmt: skip

    # Fusing: in bfloat16, as the trainers save.
    lora = {k: v.to(torch.bfloat16) for k, v in folded(factors("lora_bfloat16", tensors)).items()}
    save_file(lora, MODELS / "lora_bfloat16.safetensors")
    expected = fused(checkpoint, [(lora, 0.8)])
    write_case(
        "fuse-loras", "one", {}, expected, args=arguments(MODEL, "lora_bfloat16.safetensors:0.8"),
        source=origin("ltx-core"), exact=list(expected), what="the reference's rounding, bit for bit",
    )  # fmt: skip
    second = {k: v.to(torch.bfloat16) for k, v in folded(factors("lora_kohya", tensors)).items()}
    write_case(
        "fuse-loras", "two", {}, fused(checkpoint, [(lora, 0.8), (second, -0.3)]),
        args=arguments(MODEL, "lora_bfloat16.safetensors:0.8", "lora_kohya.safetensors:-0.3"),
        source=origin("ltx-core"), tolerance=0.008, what="stacked, one of them with alpha",
        why="1.0.0 adds up the changes one by one, later versions as one operation: roundings of 2^-8 lie between",
    )  # fmt: skip
