"""Positions, noise schedules and conditioning: arithmetic without weights, by ltx-core 1.0.0."""

import importlib.util
import re
from pathlib import Path

import torch
from ltx_core.components.patchifiers import AudioPatchifier, VideoLatentPatchifier
from ltx_core.components.schedulers import LTX2Scheduler
from ltx_core.conditioning import (
    VideoConditionByKeyframeIndex,
    VideoConditionByLatentIndex,
    VideoConditionByReferenceLatent,
)
from ltx_core.tools import AudioLatentTools, VideoLatentTools
from ltx_core.types import AudioLatentShape, VideoLatentShape

from fixtures import generator, origin, write_case


def video_tools(shape: list[int], fps: float) -> VideoLatentTools:
    return VideoLatentTools(VideoLatentPatchifier(patch_size=1), VideoLatentShape(*shape), fps)


def positions(inputs: dict) -> dict:
    shape = inputs["video_shape"].tolist()
    state = video_tools(shape, float(inputs["fps"])).create_initial_state("cpu", torch.float32)
    out = {"video_positions": state.positions}
    if "audio_frames" in inputs:
        target = AudioLatentShape(shape[0], 8, int(inputs["audio_frames"]), 16)
        tools = AudioLatentTools(AudioPatchifier(patch_size=1), target)
        out["audio_positions"] = tools.create_initial_state("cpu", torch.float32).positions
    return out


def published_sigmas(name: str) -> list[float]:
    """A list of constants of ltx-pipelines, read from its source: importing the package needs torchaudio."""
    spec = importlib.util.find_spec("ltx_pipelines")
    text = (Path(spec.submodule_search_locations[0]) / "utils" / "constants.py").read_text(encoding="utf-8")
    return [float(x) for x in re.search(rf"^{name} = \[([^\]]+)\]", text, re.M).group(1).split(",")]


def sigmas(inputs: dict) -> dict:
    kind = int(inputs["kind"])
    if kind:
        name = ("DISTILLED_SIGMA_VALUES", "STAGE_2_DISTILLED_SIGMA_VALUES")[kind - 1]
        return {"sigmas": torch.tensor(published_sigmas(name))}
    tokens = int(inputs.get("tokens", torch.tensor([4096])))
    return {"sigmas": LTX2Scheduler().execute(steps=int(inputs["steps"]), latent=torch.empty(1, 1, tokens))}


def conditioning(inputs: dict) -> dict:
    tools = video_tools(inputs["video_shape"].tolist(), float(inputs["fps"]))
    state = tools.create_initial_state("cpu", torch.float32)
    item = 0
    while f"{item}.latent" in inputs:
        latent, kind = inputs[f"{item}.latent"], int(inputs[f"{item}.kind"])
        strength = float(inputs.get(f"{item}.strength", torch.ones(1)))
        frame = int(inputs.get(f"{item}.frame", torch.zeros(1)))
        space, time = inputs.get(f"{item}.scale", torch.ones(2)).tolist()
        if kind == 0:
            condition = VideoConditionByLatentIndex(latent, strength, frame)
        elif kind == 1:
            if frame != 0:
                raise ValueError("1.0.0 gives keyframes after the first another span than the contract")
            condition = VideoConditionByKeyframeIndex(latent, frame, strength)
        else:
            if time != 1:
                raise ValueError("1.0.0 does not scale a reference in time")
            condition = VideoConditionByReferenceLatent(latent, int(space), strength)
        state = condition.apply_to(state, tools)
        item += 1
    return {
        "video.clean": state.clean_latent,
        "video.denoise_mask": state.denoise_mask.squeeze(-1),
        "video.positions": state.positions,
        "video.self_attention_mask": state.attention_mask,
    }


def make_positions() -> None:
    for shape, fps, audio in (
        ([1, 12, 4, 3, 2], 24.0, 26),
        ([2, 12, 1, 2, 5], 25.0, 1),
        ([1, 6, 3, 1, 2], 29.97, None),
        ([1, 7, 11, 2, 1], 50.0, 45),
    ):
        inputs = {"video_shape": torch.tensor(shape), "fps": torch.tensor([fps])}
        if audio is not None:
            inputs["audio_frames"] = torch.tensor([audio])
        name = "b{}_f{}_h{}_w{}_fps{:g}".format(shape[0], *shape[2:], fps)
        write_case("positions", name, inputs, positions(inputs), source=origin("ltx-core"), tolerance=1e-6)


def make_sigmas() -> None:
    for steps, tokens in ((30, None), (8, None), (12, 1024), (20, 300), (5, 5000)):
        inputs = {"kind": torch.tensor([0]), "steps": torch.tensor([steps])}
        name = f"steps{steps}"
        if tokens is not None:
            inputs["tokens"] = torch.tensor([tokens])
            name += f"_tokens{tokens}"
        write_case("sigmas", name, inputs, sigmas(inputs), source=origin("ltx-core"), tolerance=2e-6)
    for kind, name in ((1, "distilled"), (2, "distilled_stage2")):
        inputs = {"kind": torch.tensor([kind])}
        write_case("sigmas", name, inputs, sigmas(inputs), source=origin("ltx-pipelines"), tolerance=1e-6)


def make_conditioning() -> None:
    rng = generator("conditioning")

    def item(shape, kind, strength=None, frame=None, scale=None):
        values = {"latent": torch.randn(shape, generator=rng), "kind": torch.tensor([kind])}
        if strength is not None:
            values["strength"] = torch.tensor([strength])
        if frame is not None:
            values["frame"] = torch.tensor([frame])
        if scale is not None:
            values["scale"] = torch.tensor(scale)
        return values

    shape = [1, 6, 3, 2, 3]
    cases = {
        "image": [item((1, 6, 1, 2, 3), 0)],
        "clip_in_the_middle": [item((1, 6, 2, 2, 3), 0, strength=0.7, frame=1)],
        "image_and_first_keyframe": [item((1, 6, 1, 2, 3), 0, 0.9), item((1, 6, 1, 2, 3), 1, 0.6, frame=0)],
        "half_size_reference": [item((1, 6, 3, 1, 2), 2, strength=0.8, scale=[2, 1])],
        "image_and_reference": [item((1, 6, 1, 2, 3), 0, 1.0, 0), item((1, 6, 3, 2, 3), 2)],
    }
    for name, items in cases.items():
        inputs = {"video_shape": torch.tensor(shape), "fps": torch.tensor([25.0])}
        for i, values in enumerate(items):
            inputs |= {f"{i}.{key}": value for key, value in values.items()}
        write_case("conditioning", name, inputs, conditioning(inputs), source=origin("ltx-core"), tolerance=1e-6)
