"""res_2s sampling of both streams: what ltx-pipelines' loop makes of the small LTX-2 transformer of the fixtures.

Video's first frame is given at strength 0.9, classifier-free guidance is on, and the schedule has steps short enough for
the anchor to be refined. Run: `python Tests/Oracles/second_order_sampling.py`, after `make_fixtures.py`.
"""

import importlib.machinery
import os
import sys
import types

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# ltx-pipelines imports torchaudio, and nothing here calls it; it fails to load beside a CPU build of torch.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

import torch  # noqa: E402
from ltx_core.components.diffusion_steps import Res2sDiffusionStep  # noqa: E402
from ltx_core.guidance.perturbations import BatchedPerturbationConfig  # noqa: E402
from ltx_core.model.transformer import Modality, X0Model  # noqa: E402
from ltx_core.types import LatentState  # noqa: E402
from ltx_pipelines.utils.samplers import res2s_audio_video_denoising_loop  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import reference  # noqa: E402
from fixtures import ROOT  # noqa: E402
from transformer_cases import Draw, checkpoint_of  # noqa: E402

STREAMS = ("video", "audio")
SIGMAS = torch.tensor([1.0, 0.9, 0.7, 0.35, 0.0])
CFG = {"video": 3.0, "audio": 5.0}


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    checkpoint = checkpoint_of("ltx2_transformer")
    draw = Draw("second-order-sampling", checkpoint[1], 1)
    inputs = {"sigmas": SIGMAS}
    states = {}
    for s in STREAMS:
        noise = draw.normal(1, draw.tokens[s], draw.channels[s])
        mask, clean = torch.ones(1, draw.tokens[s]), torch.zeros_like(noise)
        if s == "video":
            first = draw.grid[1] * draw.grid[2]
            mask[:, :first] = 0.1
            clean[:, :first] = draw.normal(1, first, draw.channels[s])
        inputs |= {
            f"{s}.noise": noise, f"{s}.clean": clean, f"{s}.denoise_mask": mask, f"{s}.positions": draw.positions(s),
            f"{s}.context": draw.normal(1, draw.text, draw.context[s]),
            f"{s}.negative_context": draw.normal(1, draw.text, draw.context[s]),
        }  # fmt: skip
        states[s] = LatentState(
            latent=torch.lerp(clean, noise, mask[..., None]), denoise_mask=mask[..., None],
            positions=inputs[f"{s}.positions"], clean_latent=clean,
        )  # fmt: skip
    model = X0Model(reference.follow_1_2_0(reference.load_transformer(checkpoint, torch.float32)))

    def predict(state, sigma, kind):
        modalities = {
            s: Modality(
                latent=state[s].latent, sigma=sigma.expand(1), timesteps=state[s].denoise_mask * sigma,
                positions=state[s].positions, context=inputs[f"{s}.{kind}"],
            )
            for s in STREAMS
        }  # fmt: skip
        return dict(zip(STREAMS, model(**modalities, perturbations=BatchedPerturbationConfig.empty(1))))

    def denoise(video_state, audio_state, sigmas, step_index):
        state, sigma = {"video": video_state, "audio": audio_state}, sigmas[step_index].float()
        positive, negative = predict(state, sigma, "context"), predict(state, sigma, "negative_context")
        return tuple(positive[s] + (CFG[s] - 1) * (positive[s] - negative[s]) for s in STREAMS)

    video, audio = res2s_audio_video_denoising_loop(
        sigmas=SIGMAS, video_state=states["video"], audio_state=states["audio"], stepper=Res2sDiffusionStep(),
        denoise_fn=denoise, model_dtype=torch.float32,
    )  # fmt: skip
    tensors = inputs | {"expected.video.latent": video.latent, "expected.audio.latent": audio.latent}
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, ROOT / "second-order-sampling.safetensors",
        {"source": "ltx-core 1.0.0, ltx-pipelines 1.0.0, torch 2.13.0", "seed": "second-order-sampling", "dtype": "float32"},
    )  # fmt: skip


if __name__ == "__main__":
    main()
