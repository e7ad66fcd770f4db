#!/usr/bin/env python3
"""Makes Fixtures/validation-latents.safetensors: what the official trainer's validation runner denoises.

    ltx tiny-model MODEL --seed 1
    validation_latents.py MODEL --trainer packages/ltx-trainer/src

MODEL holds the tiny model. The runner is ltx-trainer 1.2.0's own (which PyPI does not have), in float32 instead of its fixed
bfloat16 and with the tiny model's numbers of channels in place of the published ones. Everything is on the CPU, where the
noise of a seed is that of ltx. Prompts are random numbers; media are kept as numbers, and tests make files of them.
"""

import argparse
import json
import sys
import tempfile
import wave
from pathlib import Path

import torch

import beside_cpu_torch  # noqa: F401
import audio_reference  # noqa: F401
import numpy
import torchaudio
from fixtures import ROOT, generator, origin
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

RATE = 16000


def read_wav(path: str) -> tuple:
    """torchaudio's own reader is not part of its Python code."""
    with wave.open(str(path)) as file:
        samples = numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16)
        return torch.from_numpy(samples.reshape(-1, file.getnchannels()).T / 32768).float(), file.getframerate()


def write_wav(path: Path, samples: torch.Tensor) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.T.contiguous().numpy().tobytes())


class Float32Torch:
    """The runner's `torch`, whose bfloat16 is float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str):
        return getattr(torch, name)


class NoProgress:
    def advance_step(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--trainer", type=Path, required=True)
    options = parser.parse_args()
    sys.path.append(str(options.trainer))
    torch.set_num_threads(1)
    from ltx_trainer import validation_runner
    from ltx_trainer.config import ValidationConfig
    from ltx_trainer.model_loader import load_transformer

    checkpoint = options.model / "ltx-2-tiny.safetensors"
    with safe_open(checkpoint, "pt") as file:
        config = json.loads(file.metadata()["config"])
    sizes = config["transformer"]
    channels = config["audio_vae"]["model"]["params"]["ddconfig"]["z_channels"]
    video_shape, audio_shape = validation_runner.VideoLatentShape, validation_runner.AudioLatentShape
    from_pixels, from_duration = video_shape.from_pixel_shape, audio_shape.from_duration
    video_shape.from_pixel_shape = staticmethod(
        lambda shape, scale_factors: from_pixels(shape, sizes["in_channels"], scale_factors)
    )
    audio_shape.from_duration = staticmethod(
        lambda batch, duration: from_duration(
            batch, duration, channels=channels, mel_bins=sizes["audio_in_channels"] // channels
        )
    )
    validation_runner.torch = Float32Torch()
    torchaudio.load = read_wav

    random = generator("validation-latents")
    tensors = {
        "picture": torch.randint(0, 256, (5, 6, 3), generator=random, dtype=torch.uint8)
        .repeat_interleave(16, 0)
        .repeat_interleave(16, 1),
        "sound": torch.randint(-20000, 20000, (2, 170), generator=random, dtype=torch.int16).repeat_interleave(64, 1),
    }
    width = sizes["caption_channels"]
    for name in ("video", "audio", "negative_video", "negative_audio"):
        tensors[f"context.{name}"] = torch.randn(1, 8, width, generator=random)
    prompt = validation_runner.CachedPromptEmbeddings(
        *(tensors[f"context.{name}"] for name in ("video", "audio", "negative_video", "negative_audio"))
    )

    with tempfile.TemporaryDirectory() as folder:
        picture, sound = Path(folder) / "picture.png", Path(folder) / "sound.wav"
        Image.fromarray(tensors["picture"].numpy()).save(picture)
        write_wav(sound, tensors["sound"])
        cases = {
            "text": [],
            "first_frame": [{"type": "first_frame", "image_or_video": picture}],
            "prefix": [{"type": "prefix", "video": picture, "num_frames": 1}],
            "reference": [{"type": "reference", "video": picture, "downscale_factor": 2, "temporal_scale_factor": 2}],
            "audio_prefix": [{"type": "prefix", "audio": sound, "duration": 0.2}],
            "audio_suffix": [{"type": "suffix", "audio": sound, "duration": 0.2}],
            "audio_reference": [{"type": "reference", "audio": sound}],
            "audio_to_video": [{"type": "audio_to_video", "audio": sound}],
        }
        plain = lambda x: str(x) if isinstance(x, Path) else x  # noqa: E731
        settings = ValidationConfig(
            samples=[
                {"prompt": name, "conditions": [{k: plain(v) for k, v in c.items()} for c in conditions]}
                for name, conditions in cases.items()
            ],
            video_dims=(64, 64, 17),
            frame_rate=25,
            inference_steps=3,
            stg_blocks=[1, 28],
            seed=42,
        )
        validation_runner.ValidationRunner._cache_prompt_embeddings = lambda self, *_: [prompt] * len(cases)
        runner = validation_runner.ValidationRunner(settings, checkpoint, None)
        transformer = load_transformer(checkpoint, "cpu", torch.float32).eval()
        for index, sample in enumerate(settings.samples):

            def keep(state, tools, decode, device, name=sample.prompt):  # noqa: ANN001, ANN202
                latent = tools.unpatchify(tools.clear_conditioning(state)).latent
                tensors[f"{name}.{'video' if 'video' in decode.__name__ else 'audio'}"] = latent.contiguous()

            runner._finalize_modality = keep
            with torch.no_grad():
                runner._generate_sample(
                    sample, prompt, runner._cached_media[index], transformer, torch.device("cpu"), NoProgress()
                )
    metadata = {"source": ", ".join(["ltx-trainer 1.2.0 and the ltx-core beside it", *origin()]), "model": "ltx tiny-model --seed 1"}
    tensors["picture"] = tensors["picture"].to(torch.int64)
    tensors["sound"] = tensors["sound"].to(torch.int64)
    save_file(tensors, ROOT / "validation-latents.safetensors", metadata)


if __name__ == "__main__":
    main()
