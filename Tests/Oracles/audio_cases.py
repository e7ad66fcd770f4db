"""Fixtures of the audio VAE and the vocoders."""

import torch

import audio_reference
from fixtures import MODELS, generator, origin, read_checkpoint, write_case

VOCODER = {"waveform": 3e-4, "*": 1e-4}
WHY = "bandwidth extension takes the logarithm of a spectrogram of the first sound, where kernels differ by 3e-5"


def sound(name: str, batch: int, samples: int, rate: int) -> torch.Tensor:
    """A few tones over noise, in all frequencies: what is not silent in any band."""
    rng = generator(f"sound/{name}")
    time = torch.arange(samples) / rate
    tones = torch.rand(batch, 2, 4, 1, generator=rng) * 5000 + 60
    phases = torch.rand(batch, 2, 4, 1, generator=rng) * 6
    mixed = (2 * torch.pi * tones * time + phases).sin().sum(2) * 0.1
    return mixed + 0.05 * torch.randn(batch, 2, samples, generator=rng)


@torch.no_grad()
def make() -> None:
    checkpoints = {name: read_checkpoint(MODELS / f"{name}.safetensors") for name in ("ltx2_audio", "ltx23_audio")}
    source = origin("ltx-core", "torchaudio")

    def write(component, name, model, inputs, run, dtype, options):
        expected = run(checkpoints[model], inputs, torch.float32)
        if dtype == "bfloat16":
            options = {"float32": expected, "dtype": dtype}
            expected = run(checkpoints[model], inputs, torch.bfloat16)
        args = ["--model", f"{{root}}/models/{model}.safetensors"]
        write_case(component, name, inputs, expected, args=args, source=source, **options)

    def encode(name, model, batch, samples, rate, dtype="float32"):
        inputs = {"waveform": sound(name, batch, samples, rate), "sample_rate": torch.tensor([rate])}
        write("audio-vae-encode", name, model, inputs, audio_reference.encode, dtype, {"tolerance": 2e-5})

    def decode(name, model, shape, dtype="float32", key="latent"):
        draw = torch.randn(shape, generator=generator(f"{key}/{name}"))
        inputs = {key: draw if key == "latent" else 1.5 * draw - 4}
        options = {"tolerance": VOCODER, "why": WHY} if model == "ltx23_audio" else {"tolerance": 2e-5}
        write("audio-vae-decode", name, model, inputs, audio_reference.decode, dtype, options)

    encode("ltx2_16k", "ltx2_audio", 2, 5000, 16000)
    encode("ltx2_48k", "ltx2_audio", 1, 7001, 48000)
    encode("ltx2_22k_bf16", "ltx2_audio", 1, 4410, 22050, dtype="bfloat16")
    encode("ltx23_44k", "ltx23_audio", 1, 9999, 44100)
    # One sample more than the window's reach: four spectrogram frames, one latent frame.
    encode("ltx23_shortest", "ltx23_audio", 1, 513, 16000)

    decode("ltx2_5_frames", "ltx2_audio", (2, 2, 5, 16))
    decode("ltx2_1_frame", "ltx2_audio", (1, 2, 1, 16))
    decode("ltx2_bf16", "ltx2_audio", (1, 2, 3, 16), dtype="bfloat16")
    decode("ltx2_vocoder", "ltx2_audio", (1, 2, 7, 64), key="mel")
    decode("ltx23_4_frames", "ltx23_audio", (1, 1, 4, 16))
    # 3 x 160 samples are a multiple of the hop; the vocoder's length is odd in another way with a batch.
    decode("ltx23_vocoder", "ltx23_audio", (2, 2, 3, 64), key="mel")
    decode("ltx23_bf16", "ltx23_audio", (1, 1, 2, 16), dtype="bfloat16")
