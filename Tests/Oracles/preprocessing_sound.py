"""Sound as it enters the audio VAE, its latents, and audio masks: by the rules of ltx-trainer 1.2.0, in PyAV and ltx-core."""

from pathlib import Path

import audio_reference
import av
import numpy as np
import torch
from fixtures import MODELS, read_checkpoint
from ltx_core.types import Audio

HEAD = 1000


def decoded(path: Path) -> tuple[torch.Tensor, int]:
    """[channels, samples] of the first sound stream."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        chunks = [frame.to_ndarray() for frame in container.decode(stream)]
        return torch.from_numpy(np.concatenate(chunks, 1)), stream.rate


def wave(channels: int, samples: int) -> torch.Tensor:
    """Sound of 16 bits that a test can make again: chirps, another in each channel."""
    n = np.arange(samples, dtype=np.int64)
    rows = [(n * n * (c + 3) + n * (17 * c + 5)) % 20011 - 10005 for c in range(channels)]
    return torch.from_numpy(np.stack(rows)).float() / 32768


def steps(channels: int, samples: int, length: int) -> torch.Tensor:
    """Loud and soft in turns of `length` samples, the channels shifted against each other, the sign alternating; 16 bits."""
    n = np.arange(samples, dtype=np.int64)
    rows = [np.where((n + c * length // 2) // length % 2 == 0, 30000, 3000) * (1 - 2 * (n % 2)) for c in range(channels)]
    return torch.from_numpy(np.stack(rows)).float() / 32768


def fitted(x: torch.Tensor, rate: int, seconds: float) -> torch.Tensor:
    samples = int(seconds * rate)
    return torch.nn.functional.pad(x[:, :samples], (0, max(0, samples - x.shape[1])))


def stereo(x: torch.Tensor) -> torch.Tensor:
    """[2, samples] of sound with any number of channels, weights as the reference's."""
    count = len(x)
    if count == 1:
        return x.repeat(2, 1)
    if count == 2:
        return x
    if count == 6:
        left, right, centre, _, back_left, back_right = x
        main, other = 1 / 2.414, 0.707 / 2.414
        return torch.stack([main * left + other * centre + other * back_left, main * right + other * centre + other * back_right])
    if count == 8:
        left, right, centre, _, side_left, side_right, back_left, back_right = x
        main, other = 1 / 3.121, 0.707 / 3.121
        return torch.stack([
            main * left + other * (centre + side_left + back_left), main * right + other * (centre + side_right + back_right)])
    return x.mean(0, keepdim=True).repeat(2, 1)


# name, channels of the generated sound (None: the clip's own), its samples, rate, seconds wanted (frames / fps).
SOUNDS = [
    ("bigbuckbunny", None, None, None, 9 / 25),
    ("mono", 1, 30000, 44100, 9 / 25),
    ("short", 1, 8000, 44100, 9 / 25),
    ("stereo", 2, 24000, 48000, 17 / (30000 / 1001)),
    ("three", 3, 16000, 22050, 9 / 25),
    ("six", 6, 20000, 48000, 9 / 25),
    ("eight", 8, 20000, 48000, 9 / 25),
    ("whole", 1, 20000, 16000, None),
]


def sounds(media: Path) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Tensors, and what the cases are."""
    checkpoints = {name: read_checkpoint(MODELS / f"{name}.safetensors") for name in ("ltx2_audio", "ltx23_audio")}
    tensors, cases = {}, []
    for name, channels, samples, rate, seconds in SOUNDS:
        if channels is None:
            x, rate = decoded(media / f"{name}.mp4")
        else:
            x = wave(channels, samples)
        cut = x if seconds is None else fitted(x, rate, seconds)
        mixed = stereo(cut)
        tensors[f"{name}.head"] = mixed[:, :HEAD].contiguous()
        tensors[f"{name}.tail"] = mixed[:, -HEAD:].contiguous()
        for model, checkpoint in checkpoints.items():
            made = audio_reference.encode(checkpoint, {"waveform": mixed[None], "sample_rate": rate}, torch.float32)
            if name in ("bigbuckbunny", "eight", "short"):
                tensors[f"{name}.{model}.mel"] = made["mel"].contiguous()
            tensors[f"{name}.{model}.latent"] = made["latent"][0].contiguous()
        case = {"name": name, "channels": len(x), "sample_rate": rate, "seconds": seconds, "samples": mixed.shape[1],
                "duration": mixed.shape[1] / rate}
        if channels is not None:
            case["made_samples"] = samples
        cases.append(case)
    return tensors, cases


def audio_masks() -> list[dict]:
    """Sounds of `steps` and their masks for so many time steps."""
    cases = []
    for channels, samples, rate, length in [(1, 16000, 16000, 3000), (2, 44100, 44100, 7000), (1, 900, 16000, 100), (3, 8000, 8000, 1111)]:
        loud = steps(channels, samples, length).abs().mean(0)
        for count in (9, 10, 26, 124):
            mask = torch.nn.functional.interpolate(loud[None, None], size=count, mode="nearest")[0, 0] > 0.5
            cases.append({"channels": channels, "samples": samples, "sample_rate": rate, "length": length,
                          "mask": [int(value) for value in mask]})
    return cases
