#!/usr/bin/env python3
"""The reference's side of the benchmark of components: one call for each line of standard input.

    reference_components.py COMPONENT MODEL INPUTS THREADS

COMPONENT: video-vae-encode, video-vae-encode-2.5, video-vae-decode, video-vae-diffusion-decode, transformer,
transformer-2.5, gemma or gemma4.

The answer is one line of JSON: seconds, CPU seconds, mean size of the numbers that came out, peak memory in bytes.

Needs ltx-core 1.0.0, transformers and safetensors (Tests/Oracles/requirements.txt); the components of LTX-2.5 need
the ltx-core of trainer 1.2.0.
"""
import inspect
import json
import resource
import sys
import time

sys.modules["torchaudio"] = None  # its published builds may not load beside a CPU build of torch

import torch
from safetensors import safe_open
from safetensors.torch import load_file


def load(path, configurator, prefixes):
    """The module that the checkpoint describes, in float32. `prefixes`: of the keys, and what stands for them in the module."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        with torch.device("meta"):
            # ltx-core 1.0.0 has `from_config`.
            module = (
                configurator.from_config(config) if hasattr(configurator, "from_config")
                else configurator.from_metadata({"config": config}))
        own, state = module.state_dict(), {}
        for key in file.keys():
            for prefix, replacement in prefixes.items():
                if key.startswith(prefix) and replacement + key.removeprefix(prefix) in own:
                    state[replacement + key.removeprefix(prefix)] = file.get_tensor(key).float()
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def video_vae_encode(model, inputs):
    from ltx_core.model.video_vae.model_configurator import VideoEncoderConfigurator

    encoder = load(model, VideoEncoderConfigurator, {"vae.encoder.": "", "vae.": ""})
    return lambda: [encoder(inputs["pixels"])]


def video_vae_decode(model, inputs):
    from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator

    decoder = load(model, VideoDecoderConfigurator, {"vae.decoder.": "", "vae.": ""})
    return lambda: [decoder(inputs["latent"])]


def video_vae_diffusion_decode(model, inputs):
    from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator
    from ltx_core.model.video_vae.transformer import DiffVAEMode, apply_diffvae_mode

    with safe_open(model, "pt") as file:
        decoder = VideoDecoderConfigurator.from_metadata({"config": json.loads(file.metadata()["config"])})
        state = {}
        for key in file.keys():
            name = key.removeprefix("vae.").removeprefix("decoder.")
            for number, layer in (("0", "linear_1"), ("2", "linear_2")):
                name = name.replace(f"t_embedder.mlp.{number}.", f"t_embedder.timestep_embedder.{layer}.")
            value = file.get_tensor(key).float()
            if ".qkv." in name:
                for part, rows in zip("qkv", value.chunk(3)):
                    state[name.replace(".qkv.", f".qkv.to_{part}.")] = rows
            elif not name.startswith("encoder."):
                state[name] = value
    decoder.load_state_dict(state)
    apply_diffvae_mode(decoder.eval().requires_grad_(False), DiffVAEMode.CHUNKED_EAGER)
    return lambda: [decoder(inputs["latent"], generator=torch.Generator().manual_seed(11))]


def transformer(model, inputs):
    from ltx_core.guidance.perturbations import BatchedPerturbationConfig
    from ltx_core.model.transformer.modality import Modality
    from ltx_core.model.transformer.model_configurator import LTXModelConfigurator

    transformer = load(model, LTXModelConfigurator, {"model.diffusion_model.": ""})
    sigma = torch.tensor([0.7])

    def modality(name):
        latent = inputs[f"{name}.latent"]
        return Modality(
            latent=latent, sigma=sigma, timesteps=torch.full(latent.shape[:2], 0.7), positions=inputs[f"{name}.positions"],
            context=inputs[f"{name}.context"])

    video, audio = modality("video"), modality("audio")
    # Later versions of ltx-core want the number of blocks.
    sizes = (1, len(transformer.transformer_blocks))[:len(inspect.signature(BatchedPerturbationConfig.empty).parameters)]
    perturbations = BatchedPerturbationConfig.empty(*sizes)
    return lambda: transformer(video=video, audio=audio, perturbations=perturbations)


def gemma(model, inputs):
    from transformers import AutoModelForImageTextToText

    # As ltx-core's text encoder calls it, without the last projection.
    language_model = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).eval().requires_grad_(False).model
    ids, mask = inputs["ids"], inputs["mask"]
    is_text = mask.float().unsqueeze(-1)

    def call():
        states = language_model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        return [x * is_text for x in states]

    return call


COMPONENTS = {
    "video-vae-encode": video_vae_encode,
    "video-vae-encode-2.5": video_vae_encode,
    "video-vae-decode": video_vae_decode,
    "video-vae-diffusion-decode": video_vae_diffusion_decode,
    "transformer": transformer,
    "transformer-2.5": transformer,
    "gemma": gemma,
    "gemma4": gemma,
}


def peak_memory():
    """Of this program, in bytes. `getrusage` would count what the process that started it had."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def main():
    component, model, inputs, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    call = COMPONENTS[component](model, load_file(inputs))
    for _ in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        with torch.inference_mode():
            value = sum(x.abs().mean().item() for x in call())
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        print(json.dumps({"seconds": seconds, "cpu": cpu, "value": value, "peak": peak_memory()}), flush=True)


main()
