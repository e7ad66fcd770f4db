"""`ltx probe audio-vae-encode` and `audio-vae-decode`, carried out by ltx-core 1.0.0.

ltx-core takes its spectrogram and resampling from torchaudio, Python code over torch. What torchaudio has compiled is not
needed, and does not load beside another build of torch: it is left out.
"""

import sys
import types

import torch

extension = types.ModuleType("torchaudio._extension")
extension._IS_ALIGN_AVAILABLE = extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
extension.fail_if_no_align = lambda function: function
sys.modules["torchaudio._extension"] = extension
if sys.modules.get("torchaudio", extension) is None:
    del sys.modules["torchaudio"]

from ltx_core.model.audio_vae.audio_vae import encode_audio  # noqa: E402
from ltx_core.model.audio_vae.model_configurator import (  # noqa: E402
    AUDIO_VAE_DECODER_COMFY_KEYS_FILTER,
    AUDIO_VAE_ENCODER_COMFY_KEYS_FILTER,
    AudioDecoderConfigurator,
    AudioEncoderConfigurator,
    VocoderConfigurator,
)
from ltx_core.model.audio_vae.ops import AudioProcessor  # noqa: E402
from ltx_core.types import Audio  # noqa: E402

from reference import load_module, renamed  # noqa: E402


def load(checkpoint: tuple, configurator, rules, dtype: torch.dtype) -> torch.nn.Module:
    tensors, config = checkpoint
    # Not on the meta device: the filter that raises the sampling rate is computed, not loaded.
    return load_module(configurator.from_config(config), renamed(tensors, rules), dtype)


def load_vocoder(checkpoint: tuple, dtype: torch.dtype) -> torch.nn.Module:
    # The prefix comes off once: `vocoder.vocoder.` is the first generator of a vocoder with bandwidth extension.
    prefix = "vocoder."
    state = {key.removeprefix(prefix): value for key, value in checkpoint[0].items() if key.startswith(prefix)}
    # With bandwidth extension it runs in float32 whatever the others do (ltx-core since 1.1).
    if "bwe" in checkpoint[1]["vocoder"]:
        dtype = torch.float32
    module = VocoderConfigurator.from_config(checkpoint[1])
    return load_module(module, state, dtype)


def encode(checkpoint: tuple, inputs: dict, dtype: torch.dtype) -> dict:
    encoder = load(checkpoint, AudioEncoderConfigurator, AUDIO_VAE_ENCODER_COMFY_KEYS_FILTER, dtype)
    audio = Audio(waveform=inputs["waveform"], sampling_rate=int(inputs["sample_rate"]))
    processor = AudioProcessor(encoder.sample_rate, encoder.mel_bins, encoder.mel_hop_length, encoder.n_fft)
    return {"mel": processor.waveform_to_mel(audio), "latent": encode_audio(audio, encoder, processor)}


def decode(checkpoint: tuple, inputs: dict, dtype: torch.dtype) -> dict:
    vocoder = load_vocoder(checkpoint, dtype)
    kind = next(vocoder.parameters()).dtype
    if "mel" in inputs:
        return {"waveform": vocoder(inputs["mel"].to(kind))}
    decoder = load(checkpoint, AudioDecoderConfigurator, AUDIO_VAE_DECODER_COMFY_KEYS_FILTER, dtype)
    mel = decoder(inputs["latent"].to(dtype))
    return {"mel": mel, "waveform": vocoder(mel.to(kind))}
