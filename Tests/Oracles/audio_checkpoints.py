"""Small random audio VAEs and vocoders in the layout of the published files, of LTX-2 and of LTX-2.3."""

import math

import torch

import audio_reference as reference
from checkpoints import save_checkpoint, shapes_of
from fixtures import generator

MEL_BINS = 64


def audio_vae(channels: int, width: int, multipliers: list, layers: int) -> dict:
    ddconfig = {
        "double_z": True,
        "mel_bins": MEL_BINS,
        "z_channels": channels,
        "resolution": 256,
        "downsample_time": False,
        "in_channels": 2,
        "out_ch": 2,
        "ch": width,
        "ch_mult": multipliers,
        "num_res_blocks": layers,
        "attn_resolutions": [],
        "dropout": 0.0,
        "mid_block_add_attention": False,
        "norm_type": "pixel",
        "causality_axis": "height",
    }
    return {
        "model": {"params": {"ddconfig": ddconfig, "sampling_rate": 16000}},
        "preprocessing": {
            "audio": {"sampling_rate": 16000, "max_wav_value": 32768.0, "stereo": True, "causal_padding": 3},
            "stft": {"filter_length": 1024, "hop_length": 160, "win_length": 1024, "causal": True},
            "mel": {"n_mel_channels": MEL_BINS, "mel_fmin": 0, "mel_fmax": 8000},
        },
        "variables": {"mel_bins": MEL_BINS},
    }


def generator_config(channels: int, rates: list, kernels: list, **more) -> dict:
    return {
        "upsample_initial_channel": channels,
        "upsample_rates": rates,
        "upsample_kernel_sizes": kernels,
        "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 2, 4]],
        "stereo": True,
    } | more


SNAKE = {"resblock": "AMP1", "activation": "snakebeta", "use_tanh_at_final": False, "use_bias_at_final": False}

LTX2 = {
    "audio_vae": audio_vae(2, 32, [1, 2, 1], 1),
    "vocoder": generator_config(32, [6, 5, 2, 2, 2], [16, 15, 8, 4, 4], resblock="1"),
}
LTX23 = {
    "audio_vae": audio_vae(1, 16, [1, 1, 2], 2),
    "vocoder": {
        "vocoder": generator_config(32, [5, 4, 4, 2], [11, 8, 4, 4], **SNAKE),
        "bwe": generator_config(16, [6, 5, 4, 2], [12, 11, 4, 4], **SNAKE)
        | {
            "apply_final_activation": False,
            "input_sampling_rate": 16000,
            "output_sampling_rate": 48000,
            "hop_length": 80,
            "n_fft": 160,
            "win_size": 160,
            "num_mels": MEL_BINS,
        },
    },
}


def shapes(config: dict) -> dict:
    encoder = shapes_of(reference.AudioEncoderConfigurator.from_config(config), "audio_vae.encoder.")
    decoder = shapes_of(reference.AudioDecoderConfigurator.from_config(config), "audio_vae.decoder.")
    merged = shapes_of(reference.VocoderConfigurator.from_config(config), "vocoder.")
    for key, shape in (encoder | decoder).items():
        for part in ("encoder", "decoder"):
            key = key.replace(f"audio_vae.{part}.per_channel_statistics.", "audio_vae.per_channel_statistics.")
        merged[key] = shape
    return merged


def fixed(key: str, shape: torch.Size) -> torch.Tensor | None:
    """What a random number would make unlike anything that is published: filters, windows and the scale of mels."""
    rng = generator(f"audio/{key}")
    if key.endswith("filter"):
        # A low pass, a little different for each layer, and not symmetric.
        times = torch.arange(shape[-1]) - (shape[-1] - 1) / 2 + 0.1 * torch.randn(1, generator=rng)
        taps = torch.sinc(times / 2) * torch.cos(times * math.pi / (shape[-1] + 2))
        return (taps / taps.sum()).view(shape)
    if key.endswith("_basis") and "stft_fn" in key:
        count, length = shape[0] // 2, shape[-1]
        angles = torch.outer(torch.arange(count), torch.arange(length)) * 2 * math.pi / length
        return (torch.cat([angles.cos(), -angles.sin()]) * torch.hann_window(length)).view(shape)
    if key.endswith("mel_basis"):
        return torch.rand(shape, generator=rng) ** 8 / shape[-1] * 8
    return None


def make() -> None:
    for name, config in (("ltx2_audio", LTX2), ("ltx23_audio", LTX23)):
        known = shapes(config)
        # Residuals of many layers add up; a gentle last layer keeps the sound off its limits.
        scales = {key: 0.3 for key in known if ".convs2." in key or key.endswith("conv_post.weight")}
        given = {key: value for key in known if (value := fixed(key, known[key])) is not None}
        save_checkpoint(name, known, config, torch.bfloat16, given=given, scales=scales)
