"""The official trainer (ltx-trainer, Lightricks/LTX-2), which is not on PyPI: a checkout of its repository is brought in.

`load(packages)` must come before anything of `ltx_core` and `ltx_trainer`: the checkout's ltx-core is the one that its
trainer wants, and a newer one than PyPI's.
"""

import contextlib
import sys
import tomllib
import types
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import torch


def load(packages: Path) -> list[str]:
    """Brings in `packages` (`packages/` of the checkout) and says what made the fixtures."""
    import beside_cpu_torch  # noqa: F401

    # What torchaudio has compiled may not load beside a CPU build of torch, and nothing here needs it.
    extension = types.ModuleType("torchaudio._extension")
    extension._IS_ALIGN_AVAILABLE = extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension.fail_if_no_align = lambda function: function
    sys.modules["torchaudio._extension"] = extension
    names = ("ltx-core", "ltx-trainer", "ltx-pipelines")
    sys.path[:0] = [str(packages / name / "src") for name in names]
    from ltx_trainer import logger

    logger.setLevel("ERROR")
    versions = [tomllib.loads((packages / name / "pyproject.toml").read_text())["project"]["version"] for name in names[:2]]
    return [f"{name} {number}" for name, number in zip(names, versions)] + [
        f"peft {version('peft')}", f"torch {version('torch').split('+')[0]}",
    ]  # fmt: skip


class GivenSigmas:
    """In place of a timestep sampler: what it answers is given."""

    def __init__(self, sigmas: list):
        self.sigmas = list(sigmas)

    def sample_for(self, batch):
        sigma = self.sigmas.pop(0)
        assert sigma.shape == batch.shape[:1]
        return sigma


@contextlib.contextmanager
def given_numbers(normal: list, uniform: list):
    """What `torch.randn*` and `torch.rand` answer, in order; all of it must be asked for, each in its shape."""
    normal, uniform = list(normal), list(uniform)

    def take(queue, shape):
        value = queue.pop(0)
        assert value.shape == torch.Size(shape), (value.shape, shape)
        return value

    def shape_of(size):
        return size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size

    with (
        mock.patch.object(torch, "randn_like", lambda like: take(normal, like.shape)),
        mock.patch.object(torch, "randn", lambda *size, device=None: take(normal, shape_of(size))),
        mock.patch.object(torch, "rand", lambda *size, device=None: take(uniform, shape_of(size))),
    ):
        yield
    assert not normal and not uniform, "the reference drew less than it was given"


def strategy(options: dict, factors=None):
    """The training strategy of a configuration's section."""
    from ltx_trainer import training_strategies as s

    classes = {
        "flexible": s.FlexibleStrategyConfig, "text_to_video": s.TextToVideoConfig, "video_to_video": s.VideoToVideoConfig,
    }  # fmt: skip
    made = s.get_training_strategy(classes[options["name"]](**options))
    if factors is not None:
        made.video_scale_factors = factors
    return made


def batch(inputs: dict, options: dict, prefix: str = "") -> dict:
    """The tensors of a probe's inputs as the trainer's data loader would hand them on."""

    def latents(name: str, is_video: bool):
        value = inputs[f"{prefix}{name}.latents"]
        entry = {"latents": value}
        if is_video:
            entry |= {
                key: torch.tensor([size] * len(value)) for key, size in zip(("num_frames", "height", "width"), value.shape[2:])
            }
            if f"{prefix}{name}.fps" in inputs:
                entry["fps"] = inputs[f"{prefix}{name}.fps"]
        return entry

    out = {"conditions": {"prompt_attention_mask": None}}
    for stream in ("video", "audio"):
        out["conditions"][f"{stream}_prompt_embeds"] = inputs.get(f"{prefix}{stream}.context")
        if f"{prefix}{stream}.latents" not in inputs:
            continue
        own = latents(stream, stream == "video")
        if options["name"] != "flexible":
            out["latents" if stream == "video" else "audio_latents"] = own
            if f"{prefix}{stream}.reference.latents" in inputs:
                out["ref_latents"] = latents(f"{stream}.reference", True)
            continue
        out[f"{stream}_latents"] = own
        for condition in options[stream]["conditions"]:
            if condition["type"] == "reference":
                out[condition["latents_dir"]] = latents(f"{stream}.reference", stream == "video")
            if condition["type"] == "mask":
                out[condition["mask_dir"]] = {"mask": inputs[f"{prefix}{stream}.mask"]}
    contexts = [value for key, value in out["conditions"].items() if value is not None and key.endswith("embeds")]
    if contexts:
        out["conditions"]["prompt_attention_mask"] = torch.ones(contexts[0].shape[:2], dtype=torch.long)
    return out


def draws(options: dict, normal: dict, sigma: dict, conditions: torch.Tensor | None, frames: int) -> tuple:
    """(sigmas, normal numbers, uniform numbers) in the order in which a strategy asks for them.

    `conditions` [conditions, B]: a row for each condition, in the order of the configuration.
    """
    if options["name"] != "flexible":
        # Clips of one latent frame are never given, and not drawn for.
        isDrawn = options.get("first_frame_conditioning_p", 0.1) > 0 and frames > 1
        audio = [normal["audio"]] if "audio" in normal else []
        return [sigma["video"]], [normal["video"], *audio], [conditions[0]] if isDrawn else []
    sigmas, normals, uniform, row = [], [], [], 0
    for stream in ("video", "audio"):
        section = options.get(stream)
        if section is None:
            continue
        own = list(zip(section["conditions"], range(row, row + len(section["conditions"]))))
        row += len(own)
        if section["is_generated"]:
            sigmas.append(sigma[stream])
            normals.append(normal[stream])
            uniform += [conditions[i] for condition, i in own if condition["type"] != "reference"]
        uniform += [conditions[i][0] for condition, i in own if condition["type"] == "reference"]
    return sigmas, normals, uniform


def infer_reference_scale(made, options: dict, inputs: dict, prefix: str = "") -> None:
    """As the strategy infers it from the files of a dataset, which are not there."""
    if options["name"] != "flexible" or f"{prefix}video.reference.latents" not in inputs:
        return
    own, reference = inputs[f"{prefix}video.latents"].shape[2:], inputs[f"{prefix}video.reference.latents"].shape[2:]
    made.reference_spatial_scale_factor = made._infer_scale_factor(*reference[1:], *own[1:])
    made.reference_temporal_scale_factor = made._infer_temporal_scale_factor(reference[0], own[0])


def prepare(made, options: dict, inputs: dict, numbers: tuple, prefix: str = ""):
    """`ModelInputs` of the strategy from given numbers."""
    infer_reference_scale(made, options, inputs, prefix)
    sigmas, normal, uniform = numbers
    with given_numbers(normal, uniform):
        return made.prepare_training_inputs(batch(inputs, options, prefix), GivenSigmas(sigmas))
