#!/usr/bin/env python3
"""Fixtures of LTX-2.5: transformers with its layers, ancestral sampling, the duration head, a training run of 20 steps.

    ltx25_cases.py CHECKOUT/packages

ltx-core on PyPI does not have these layers, so a checkout of Lightricks/LTX-2 is brought in, as for the trainer.
"""

import argparse
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import load_file

import trainer_reference as trainer
from fixtures import MODELS, generator, write_case

STEPS, BATCH, TEXT = 20, 2, 5
GRID, SOUND = (3, 2, 2), 6
STREAMS = ("video", "audio")


def configurations() -> dict:
    from checkpoints import LTX23

    return {
        "ltx25_keyframes": LTX23 | {"ff_bias": False, "use_keyframes_abs_pos_embedding": True},
        "ltx25_static": LTX23
        | {
            "num_attention_heads": 3, "attention_head_dim": 12, "cross_attention_dim": 36,
            "audio_num_attention_heads": 3, "audio_attention_head_dim": 8, "audio_cross_attention_dim": 24,
            "ff_bias": False, "audio_ff_bias": False, "use_prompt_adaln_single": False,
        },
    }  # fmt: skip


DURATION = {"pooler_hidden_dim": 12, "num_queries": 3, "num_pooler_heads": 2, "mlp_hidden": 10}
DURATION_WIDTHS = {"cross_attention_dim": 14, "audio_cross_attention_dim": 10}


def make_models() -> None:
    from checkpoints import save_checkpoint, shapes_of
    from ltx_core.duration_head import DurationHeadConfigurator
    from ltx_core.model.transformer.model_configurator import LTXModelConfigurator

    for name, transformer in configurations().items():
        config = {"transformer": transformer}
        with torch.device("meta"):
            model = LTXModelConfigurator.from_metadata({"config": config})
        save_checkpoint(name, shapes_of(model, "model.diffusion_model."), config, torch.bfloat16)
    config = {"transformer": DURATION_WIDTHS, "duration_head": DURATION}
    with torch.device("meta"):
        head = DurationHeadConfigurator.from_metadata({"config": config})
    save_checkpoint("ltx25_duration", shapes_of(head, "duration_head."), config, torch.bfloat16)


def model_arguments(name: str) -> list[str]:
    return ["--model", f"{{root}}/models/{name}.safetensors"]


def load(name: str):
    from ltx_trainer.model_loader import load_transformer

    return load_transformer(MODELS / f"{name}.safetensors", "cpu", torch.float32).requires_grad_(False)


def positions(stream: str, batch: int) -> torch.Tensor:
    """[B, axes, T, 2]: seconds at 25 frames per second and pixels; audio has 25 latents per second."""
    if stream == "audio":
        start = torch.arange(SOUND) / 25.0
        return torch.stack([start, start + 0.04], -1)[None, None].repeat(batch, 1, 1, 1)
    frames, rows, columns = (torch.arange(n, dtype=torch.float32) for n in GRID)
    time = torch.stack([(8 * frames - 7).clamp(min=0), 8 * frames + 1], -1) / 25
    spans = [time, *(torch.stack([32 * n, 32 * n + 32], -1) for n in (rows, columns))]
    index = torch.cartesian_prod(*(torch.arange(n) for n in GRID))
    return torch.stack([span[index[:, i]] for i, span in enumerate(spans)])[None].repeat(batch, 1, 1, 1)


def streams(rng: torch.Generator, config: dict, batch: int) -> dict:
    """Latents, contexts and positions of both modalities."""
    out = {}
    for stream in STREAMS:
        part = "" if stream == "video" else "audio_"
        tokens = GRID[0] * GRID[1] * GRID[2] if stream == "video" else SOUND
        out[f"{stream}.latent"] = torch.randn(batch, tokens, config[f"{part}in_channels"], generator=rng)
        out[f"{stream}.context"] = torch.randn(batch, TEXT, config[f"{part}cross_attention_dim"], generator=rng)
        out[f"{stream}.positions"] = positions(stream, batch)
    return out


def modality(inputs: dict, stream: str):
    from ltx_core.model.transformer.modality import Modality

    marks = inputs.get(f"{stream}.keyframes_mask")
    return Modality(
        keyframes_mask=None if marks is None else marks[..., None].float(),
        **{key: inputs[f"{stream}.{key}"] for key in ("latent", "sigma", "timesteps", "positions", "context")},
    )


@torch.no_grad()
def make_transformer(source: list[str]) -> None:
    """Unequal timesteps of tokens and sigmas of modalities; marks that differ between the samples."""
    for name, config in configurations().items():
        rng = generator(f"transformer/{name}")
        inputs = streams(rng, config, BATCH)
        for stream, sigma in zip(STREAMS, ([0.8, 0.3], [0.5, 0.9])):
            count = inputs[f"{stream}.latent"].shape[1]
            inputs[f"{stream}.sigma"] = torch.tensor(sigma)
            kept = torch.rand(BATCH, count, generator=rng) < 0.3
            inputs[f"{stream}.timesteps"] = torch.where(kept, 0.0, torch.tensor(sigma)[:, None])
        marks = torch.zeros(BATCH, inputs["video.latent"].shape[1], dtype=torch.long)
        marks[0, :4], marks[1, 7:9] = 1, 1
        inputs["video.keyframes_mask"] = marks
        video, audio = load(name)(video=modality(inputs, "video"), audio=modality(inputs, "audio"), perturbations=None)
        write_case(
            "transformer", name, inputs, {"video.velocity": video, "audio.velocity": audio}, source=source,
            args=model_arguments(name),
        )  # fmt: skip


@torch.no_grad()
def make_denoise(source: list[str]) -> None:
    """Ancestral steps with given noise, from a refined latent: the sampler's step between the two blends with the clean
    tokens."""
    from ltx_core.components.diffusion_steps import EulerAncestralDiffusionStep

    for name, model, eta, scale, level, sigmas in (
        ("ltx25_ancestral", "ltx25_keyframes", 1.0, 1.0, 1.0, [1.0, 0.7, 0.25, 0.0]),
        ("ltx25_ancestral_refining", "ltx25_static", 0.4, 0.9, 0.8, [0.8, 0.5, 0.2]),
    ):
        config = configurations()[model]
        rng = generator(f"denoise/{name}")
        given = streams(rng, config, 1)
        sigmas = torch.tensor(sigmas)
        inputs = {
            "sigmas": sigmas, "sampler": torch.tensor([1]), "eta": torch.tensor([eta]), "s_noise": torch.tensor([scale]),
            "noise_scale": torch.tensor([level]),
        }  # fmt: skip
        state, clean, mask = {}, {}, {}
        for stream in STREAMS:
            noise = given[f"{stream}.latent"]
            inputs[f"{stream}.noise"] = noise
            inputs |= {f"{stream}.{key}": given[f"{stream}.{key}"] for key in ("context", "positions")}
            inputs[f"{stream}.step_noise"] = torch.randn(len(sigmas) - 1, *noise.shape, generator=rng)
            inputs[f"{stream}.initial"] = torch.randn(noise.shape, generator=rng)
            clean[stream] = inputs[f"{stream}.clean"] = torch.randn(noise.shape, generator=rng)
            share = torch.rand(noise.shape[:2], generator=rng)
            inputs[f"{stream}.denoise_mask"] = torch.where(share < 0.3, 0.1, 1.0)
            mask[stream] = inputs[f"{stream}.denoise_mask"][..., None]
            start = inputs[f"{stream}.initial"].lerp(noise, level)
            state[stream] = clean[stream] + mask[stream] * (start - clean[stream])
        inputs["video.keyframes_mask"] = (torch.arange(state["video"].shape[1]) < 4).long()[None]
        transformer, step, expected = load(model), EulerAncestralDiffusionStep(eta, scale), {}

        def blended(x, stream):
            return x * mask[stream] + clean[stream] * (1 - mask[stream])

        for index in range(len(sigmas) - 1):
            now = {}
            for stream in STREAMS:
                now |= {f"{stream}.latent": state[stream], f"{stream}.sigma": sigmas[index].expand(1)}
                now[f"{stream}.timesteps"] = inputs[f"{stream}.denoise_mask"] * sigmas[index]
            now = inputs | now
            velocities = transformer(video=modality(now, "video"), audio=modality(now, "audio"), perturbations=None)
            for stream, velocity in zip(STREAMS, velocities):
                x0 = blended(state[stream] - velocity * now[f"{stream}.timesteps"][..., None], stream)
                after = step.step(state[stream], x0, sigmas, index, noise=inputs[f"{stream}.step_noise"][index])
                state[stream] = after if sigmas[index + 1] == 0 else blended(after, stream)
                expected[f"step.{index}.{stream}.latent"] = state[stream]
        expected |= {f"{stream}.latent": state[stream] for stream in STREAMS}
        write_case("denoise", name, inputs, expected, source=source, args=model_arguments(model))


@torch.no_grad()
def make_duration(source: list[str]) -> None:
    from ltx_core.duration_head import DurationHeadConfigurator

    # The pipelines read EXR files with it; nothing here does.
    sys.modules.setdefault("OpenImageIO", types.ModuleType("OpenImageIO"))
    from ltx_pipelines.utils.helpers import seconds_to_clamped_num_frames

    head = DurationHeadConfigurator.from_metadata({"config": {"transformer": DURATION_WIDTHS, "duration_head": DURATION}})
    state = load_file(MODELS / "ltx25_duration.safetensors")
    head.load_state_dict({key.removeprefix("duration_head."): value.float() for key, value in state.items()})
    for name, parts in (("ltx25_both", STREAMS), ("ltx25_video", ("video",)), ("ltx25_audio", ("audio",))):
        rng = generator(f"duration/{name}")
        widths = dict(zip(STREAMS, DURATION_WIDTHS.values()))
        contexts = {part: 2 * torch.randn(6, 8, widths[part], generator=rng) for part in parts}
        seconds = head(contexts.get("video"), contexts.get("audio"))
        rate, low, high = 30.0, 0.8, 2.5
        frames = [
            seconds_to_clamped_num_frames(float(s), frame_rate=rate, min_frames=round(low * rate), max_frames=round(high * rate))
            for s in seconds
        ]
        inputs = {f"{part}_context": context for part, context in contexts.items()}
        inputs |= {"frame_rate": torch.tensor([rate]), "min_seconds": torch.tensor([low]), "max_seconds": torch.tensor([high])}
        write_case(
            "duration", name, inputs, {"seconds": seconds, "frames": torch.tensor(frames)}, source=source,
            args=model_arguments("ltx25_duration"), exact=["frames"],
        )  # fmt: skip
        print("   ", [round(float(s), 2) for s in seconds], frames)


def make_training_run(source: list[str]) -> None:
    import training

    training.STEPS = STEPS
    training.RUN_CASES = [
        (
            "ltx25_20_steps", "ltx25_static",
            training.flexible(video=training.stream(training.condition("first_frame", 0.5)), audio=training.audio()),
            {"batch": 1}, "cosine", {}, 0.5, 2, 4,
        ),
    ]  # fmt: skip
    training.ORDER = [(7 * step + step // 3) % 3 for step in range(STEPS)]
    training.make_training_run(source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    source = trainer.load(parser.parse_args().packages)
    torch.set_num_threads(1)
    make_models()
    make_transformer(source)
    make_denoise(source)
    make_duration(source)
    make_training_run(source)


if __name__ == "__main__":
    main()
