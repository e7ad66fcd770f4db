"""What sampling starts from in refinements, edits and beside a given sound, and where two of these starts lead.

ltx-core 1.0.0 makes the states, with the differences that ltx-core 1.2.0 brought made from 1.0.0's own parts:

- conditions set what is known (`clean_latent`); the latent keeps what is refined, and zeros for appended tokens;
- the noiser mixes noise into the latent everywhere, then puts what is known in its place by the mask;
- a keyframe spans one pixel frame; a reference can be coarser in time;
- a mask keeps part of a whole latent; a frozen stream has a mask of zeros, and sigma 0.

Run: `python Tests/Oracles/starting_states.py`, after `make_fixtures.py`.
"""

import importlib.machinery
import os
import sys
import types
from dataclasses import replace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# ltx-pipelines imports torchaudio, and nothing here calls it; it fails to load beside a CPU build of torch.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

import torch  # noqa: E402
from ltx_core.components.diffusion_steps import EulerDiffusionStep  # noqa: E402
from ltx_core.components.guiders import MultiModalGuider, MultiModalGuiderParams  # noqa: E402
from ltx_core.components.noisers import GaussianNoiser  # noqa: E402
from ltx_core.components.patchifiers import AudioPatchifier, VideoLatentPatchifier  # noqa: E402
from ltx_core.conditioning import (  # noqa: E402
    ConditioningItemAttentionStrengthWrapper,
    VideoConditionByKeyframeIndex,
    VideoConditionByLatentIndex,
    VideoConditionByReferenceLatent,
)
from ltx_core.guidance.perturbations import (  # noqa: E402
    BatchedPerturbationConfig,
    Perturbation,
    PerturbationConfig,
    PerturbationType,
)
from ltx_core.model.transformer import Modality, X0Model  # noqa: E402
from ltx_core.tools import AudioLatentTools, VideoLatentTools  # noqa: E402
from ltx_core.types import AudioLatentShape, VideoLatentShape  # noqa: E402
from ltx_pipelines.retake import TemporalRegionMask  # noqa: E402
from ltx_pipelines.utils.helpers import post_process_latent  # noqa: E402
from ltx_pipelines.utils.samplers import euler_denoising_loop  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import reference  # noqa: E402
from fixtures import ROOT, generator  # noqa: E402
from transformer_cases import checkpoint_of  # noqa: E402

FPS = 25.0
STREAMS = ("video", "audio")
REFINING_SIGMAS = torch.tensor([0.909375, 0.725, 0.421875, 0.0])
FROZEN_SIGMAS = torch.tensor([1.0, 0.9, 0.6, 0.0])
RNG = generator("starting-states")
VIDEO = VideoLatentTools(VideoLatentPatchifier(patch_size=1), VideoLatentShape(1, 12, 3, 2, 4), FPS)
AUDIO = AudioLatentTools(AudioPatchifier(patch_size=1), AudioLatentShape(1, 3, 17, 16))


def normal(*shape):
    return torch.randn(shape, generator=RNG)


class KeepingLatent:
    """A condition of 1.0.0 that leaves the latent as it is, with zeros for what it appends."""

    def __init__(self, item):
        self.item = item

    def apply_to(self, latent_state, latent_tools):
        state = self.item.apply_to(latent_state, latent_tools)
        latent = torch.zeros_like(state.latent)
        latent[:, : latent_state.latent.shape[1]] = latent_state.latent
        return replace(state, latent=latent)


class Keyframe(VideoConditionByKeyframeIndex):
    def apply_to(self, latent_state, latent_tools):
        state = super().apply_to(latent_state, latent_tools)
        count = latent_state.positions.shape[2]
        state.positions[:, 0, count:, 1] = state.positions[:, 0, count:, 0] + 1 / latent_tools.fps
        return state


class CoarseReference(VideoConditionByReferenceLatent):
    """1.0.0's reference on a clock of its own, moved so that it ends with the video."""

    def __init__(self, latent, space, time, strength):
        super().__init__(latent, space, strength)
        self.time = time

    def apply_to(self, latent_state, latent_tools):
        state = super().apply_to(latent_state, replace(latent_tools, fps=latent_tools.fps / self.time))
        count = latent_state.positions.shape[2]
        frame = latent_state.positions[:, 0, :1, 1:]
        state.positions[:, 0, count:] = (state.positions[:, 0, count:] - (self.time - 1) * frame).clamp(min=0)
        return state


class Mask:
    def __init__(self, latent, mask, strength):
        self.latent, self.mask, self.strength = latent, mask, strength

    def apply_to(self, latent_state, latent_tools):
        tokens = latent_tools.patchifier.patchify(self.latent)
        mask = latent_tools.patchifier.patchify(self.mask[:, None])
        return replace(
            latent_state,
            clean_latent=post_process_latent(latent_state.clean_latent, 1 - mask, tokens),
            denoise_mask=post_process_latent(latent_state.denoise_mask, 1 - mask, torch.tensor(1 - self.strength)),
        )


def start(tools, conditions=(), initial=None, noise_scale=1.0, frozen=False):
    """The noised state, and the noise."""
    state = tools.create_initial_state("cpu", torch.float32, initial)
    for condition in conditions:
        state = condition.apply_to(state, tools)
    if frozen:
        state = replace(state, denoise_mask=torch.zeros_like(state.denoise_mask))
    noise = normal(*state.latent.shape)
    # 1.0.0's noiser draws its noise itself: one that is given to it is mixed in as it would be.
    draw, torch.randn = torch.randn, lambda *_, **__: noise
    everywhere = replace(state, denoise_mask=torch.ones_like(state.denoise_mask))
    noised = GaussianNoiser(RNG)(everywhere, noise_scale).latent
    torch.randn = draw
    return replace(state, latent=post_process_latent(noised, state.denoise_mask, state.clean_latent)), noise


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    given = {
        "initial": normal(1, 12, 3, 2, 4), "picture": normal(1, 12, 1, 2, 4), "keyframe": normal(1, 12, 1, 2, 4),
        "reference": normal(1, 12, 2, 1, 2), "suffix": normal(1, 12, 2, 2, 4), "sound": normal(1, 3, 17, 16),
        "mask": (torch.rand(1, 3, 2, 4, generator=RNG) > 0.4).float(),
    }  # fmt: skip
    region = TemporalRegionMask(start_time=0.2, end_time=0.33, fps=FPS)
    cases = {
        "refining": start(
            VIDEO,
            [
                KeepingLatent(VideoConditionByLatentIndex(given["picture"], 0.8, 0)),
                KeepingLatent(Keyframe(given["keyframe"], 9, 0.9)),
                ConditioningItemAttentionStrengthWrapper(
                    KeepingLatent(CoarseReference(given["reference"], 2, 2, 1.0)), attention_mask=0.5
                ),
            ],
            given["initial"], 0.909375,
        ),
        "refining_sound": start(AUDIO, [], given["sound"], 0.909375),
        "retake": start(VIDEO, [region], given["initial"]),
        "retake_sound": start(AUDIO, [region], given["sound"]),
        "mask": start(VIDEO, [KeepingLatent(Mask(given["initial"], given["mask"], 0.7))]),
        "frozen_sound": start(AUDIO, [], given["sound"], 0.0, frozen=True),
        "suffix": start(VIDEO, [KeepingLatent(VideoConditionByLatentIndex(given["suffix"], 1.0, 1))]),
    }  # fmt: skip
    tensors = {f"given.{k}": v for k, v in given.items()}
    for name, (state, noise) in cases.items():
        tensors |= {
            f"{name}.noise": noise, f"{name}.latent": state.latent, f"{name}.clean": state.clean_latent,
            f"{name}.denoise_mask": state.denoise_mask.squeeze(-1), f"{name}.positions": state.positions,
        }  # fmt: skip
        if state.attention_mask is not None:
            tensors[f"{name}.attention"] = state.attention_mask

    model = X0Model(reference.follow_1_2_0(reference.load_transformer(checkpoint_of("ltx2_transformer"), torch.float32)))
    contexts = {f"{s}.context": normal(1, 9, 40) for s in STREAMS} | {"video.negative_context": normal(1, 9, 40)}
    isolated = [
        Perturbation(kind, None) for kind in (PerturbationType.SKIP_A2V_CROSS_ATTN, PerturbationType.SKIP_V2A_CROSS_ATTN)
    ]

    def predict(states, sigmas, video_context="video.context", skip=()):
        modalities = {
            s: Modality(
                latent=states[s].latent, sigma=sigmas[s].expand(1), timesteps=states[s].denoise_mask * sigmas[s],
                positions=states[s].positions, context=contexts[video_context if s == "video" else "audio.context"],
                attention_mask=states[s].attention_mask,
            )
            for s in STREAMS
        }  # fmt: skip
        return model(**modalities, perturbations=BatchedPerturbationConfig([PerturbationConfig(list(skip))]))

    def refining(video, audio, sigmas, step):
        return predict({"video": video, "audio": audio}, dict.fromkeys(STREAMS, sigmas[step]))

    guider = MultiModalGuider(MultiModalGuiderParams(cfg_scale=3.0, modality_scale=2.0, rescale_scale=0.7))

    def frozen(video, audio, sigmas, step):
        states, levels = {"video": video, "audio": audio}, {"video": sigmas[step], "audio": torch.zeros(())}
        positive, sound = predict(states, levels)
        negative, _ = predict(states, levels, "video.negative_context")
        alone, _ = predict(states, levels, skip=isolated)
        return guider.calculate(positive, negative, 0.0, alone), sound

    for name, sigmas, video, audio, denoise in (
        ("refined", REFINING_SIGMAS, "refining", "refining_sound", refining),
        ("heard", FROZEN_SIGMAS, "retake", "frozen_sound", frozen),
    ):
        end = euler_denoising_loop(sigmas, cases[video][0], cases[audio][0], EulerDiffusionStep(), denoise)
        tensors |= {f"{name}.sigmas": sigmas, f"{name}.video": end[0].latent, f"{name}.audio": end[1].latent}
    tensors |= contexts
    save_file(
        {k: v.contiguous().clone() for k, v in tensors.items()}, ROOT / "starting-states.safetensors",
        {
            "source": "ltx-core 1.0.0, ltx-pipelines 1.0.0, torch 2.13.0; what 1.2.0 changed is made of 1.0.0's parts",
            "seed": "starting-states", "dtype": "float32",
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
