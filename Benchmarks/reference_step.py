#!/usr/bin/env python3
"""The reference's side of the benchmark: one LoRA training step of ltx-core in PyTorch per line of standard input.

    reference_step.py CHECKPOINT INPUTS RANK THREADS

A line is `keep` or `recompute` (gradient checkpointing), then the number of timesteps of the streams: `token` for one per
token, as the reference's trainer feeds them, or `sample`. The answer is one line of JSON: seconds, CPU seconds, loss.

Needs ltx-core 1.0.0, peft and safetensors (Tests/Oracles/requirements.txt).
"""
import json
import resource
import sys
import time

sys.modules["torchaudio"] = None  # its published builds may not load beside a CPU build of torch

import torch
from ltx_core.guidance.perturbations import BatchedPerturbationConfig
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model_configurator import LTXModelConfigurator
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file

PREFIX = "model.diffusion_model."
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def load_model(path, rank, adapters):
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        state = {k.removeprefix(PREFIX): file.get_tensor(k).float() for k in file.keys() if "connector" not in k}
    with torch.device("meta"):
        model = LTXModelConfigurator.from_config(config)
    model.load_state_dict(state, assign=True)
    base = model
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights=True))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key, value in adapters.items():
            name = key.removeprefix(PREFIX).replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
            parameters["base_model.model." + name].copy_(value)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == len(adapters), (len(trained), len(adapters))
    model.train()
    return model, base, trained


class Step:
    def __init__(self, checkpoint, inputs, rank):
        inputs = load_file(inputs)
        adapters = {k: v for k, v in inputs.items() if ".lora_" in k}
        self.inputs = inputs
        self.model, self.base, self.trained = load_model(checkpoint, rank, adapters)
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4)

    def modality(self, name, timesteps):
        latent = self.inputs[f"{name}.latent"]
        sigma = self.inputs["sigma"]
        count = latent.shape[1] if timesteps == "token" else 1
        context = self.inputs[f"{name}.context"]
        return Modality(
            latent=latent, sigma=sigma, timesteps=sigma[:, None].expand(-1, count), positions=self.inputs[f"{name}.positions"],
            context=context, context_mask=torch.ones(context.shape[:2], dtype=torch.int64))

    def loss(self, name, velocity):
        mask = torch.ones(velocity.shape[:2])[..., None]
        error = (velocity - self.inputs[f"{name}.target"]).square() * mask
        return error.mean([1, 2]) / mask.mean([1, 2]).clamp(min=1e-8)

    def __call__(self, activations, timesteps):
        self.base.set_gradient_checkpointing(activations == "recompute")
        video, audio = self.modality("video", timesteps), self.modality("audio", timesteps)
        video_velocity, audio_velocity = self.model(
            video=video, audio=audio, perturbations=BatchedPerturbationConfig.empty(video.latent.shape[0]))
        loss = (self.loss("video", video_velocity) + self.loss("audio", audio_velocity)).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item(), norm.item()


def main():
    checkpoint, inputs, rank, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    step = Step(checkpoint, inputs, int(rank))
    for line in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        loss, norm = step(*line.split())
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        print(json.dumps({"seconds": seconds, "cpu": cpu, "loss": loss, "norm": norm, "torch": torch.__version__}), flush=True)


main()
