"""Fixtures of the latent upsamplers."""

import json
from types import SimpleNamespace

import torch
from ltx_core.model.upsampler import LatentUpsamplerConfigurator, upsample_video
from ltx_core.model.video_vae.ops import PerChannelStatistics
from safetensors.torch import save_file

from checkpoints import randomise, shapes_of
from fixtures import MODELS, generator, origin, write_case
from recipes import write_recipe
from reference import DTYPES, load_module

CHANNELS = 6
USUAL = {
    "in_channels": CHANNELS,
    "mid_channels": 32,
    "num_blocks_per_stage": 1,
    "dims": 3,
    "spatial_upsample": True,
    "temporal_upsample": False,
    "spatial_scale": 2.0,
    "rational_resampler": False,
}
MODELS_OF = {
    "spatial": USUAL,
    "spatial_2d": USUAL | {"dims": 2, "num_blocks_per_stage": 2},
    "rational_1.5": USUAL | {"rational_resampler": True, "spatial_scale": 1.5},
    "temporal": USUAL | {"spatial_upsample": False, "temporal_upsample": True},
    "space_and_time": USUAL | {"temporal_upsample": True},
}


def make_model(name: str, config: dict) -> dict:
    """Random numbers everywhere but in the blur, which a model computes and keeps in its file. bfloat16."""
    module = LatentUpsamplerConfigurator.from_config(config)
    state = randomise(shapes_of(module, ""), f"models/upsampler_{name}")
    fixed = {key: value for key, value in module.state_dict().items() if key.endswith("blur_down.kernel")}
    state |= fixed
    state = {key: value.to(torch.bfloat16).contiguous() for key, value in state.items()}
    save_file(state, MODELS / f"upsampler_{name}.safetensors", metadata={"config": json.dumps(config)})
    write_recipe(f"upsampler_{name}", fixed=set(fixed))
    return state


def upsample(state: dict, config: dict, inputs: dict, dtype: torch.dtype) -> dict:
    module = load_module(LatentUpsamplerConfigurator.from_config(config), state, dtype)
    statistics = PerChannelStatistics(CHANNELS)
    statistics.load_state_dict({"mean-of-means": inputs["mean"], "std-of-means": inputs["std"]})
    encoder = SimpleNamespace(per_channel_statistics=statistics.to(dtype))
    return {"latent": upsample_video(inputs["latent"].to(dtype), encoder, module)}


@torch.no_grad()
def make() -> None:
    def case(name: str, shape: tuple, model: str | None = None, dtype: str = "float32") -> None:
        config = MODELS_OF[model or name]
        state = make_model(model or name, config)
        rng = generator(f"upsample/{name}")
        inputs = {
            "latent": torch.randn(shape, generator=rng),
            "mean": torch.randn(CHANNELS, generator=rng),
            "std": 0.5 + torch.rand(CHANNELS, generator=rng),
        }
        results = {kind: upsample(state, config, inputs, DTYPES[kind]) for kind in {"float32", dtype}}
        options = {"dtype": dtype, "float32": results["float32"]} if dtype == "bfloat16" else {"tolerance": 2e-5}
        args = ["--model", f"{{root}}/models/upsampler_{model or name}.safetensors"]
        write_case("upsample", name, inputs, results[dtype], args=args, source=origin("ltx-core"), **options)

    case("spatial", (2, CHANNELS, 3, 2, 3))
    case("spatial_2d", (2, CHANNELS, 2, 3, 2))
    case("rational_1.5", (1, CHANNELS, 2, 3, 4))
    case("temporal", (2, CHANNELS, 3, 2, 2))
    case("space_and_time", (1, CHANNELS, 2, 3, 2))
    case("spatial_bf16", (1, CHANNELS, 2, 3, 3), "spatial", "bfloat16")
