#!/usr/bin/env python3
"""Fixtures of the trainer's arithmetic: `timestep-sampler`, `training-inputs` and `training-run`.

    training.py CHECKOUT/packages

CHECKOUT is a checkout of Lightricks/LTX-2: its trainer is not on PyPI. Latents and contexts are random; strategies,
transformer, adapters (peft), optimizer and schedules are the trainer's own.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml
from safetensors.torch import save_file

import trainer_reference as trainer
from fixtures import MODELS, ROOT, generator, read_checkpoint, write_case

FOLDERS = {"video": "reference_latents", "audio": "audio_reference_latents"}


def reference(stream: str, probability: float = 1.0) -> dict:
    return {"type": "reference", "latents_dir": FOLDERS[stream], "probability": probability}


def mask(stream: str, probability: float = 1.0) -> dict:
    return {"type": "mask", "mask_dir": f"{stream}_masks", "probability": probability}


def condition(kind: str, probability: float = 1.0, **more) -> dict:
    return {"type": kind, "probability": probability, **more}


def stream(*conditions: dict, generated: bool = True, folder: str = "latents") -> dict:
    return {"is_generated": generated, "latents_dir": folder, "conditions": list(conditions)}


def audio(*conditions: dict, generated: bool = True) -> dict:
    return stream(*conditions, generated=generated, folder="audio_latents")


def flexible(**streams: dict) -> dict:
    return {"name": "flexible", **streams}


def text_to_video(p: float, with_audio: bool) -> dict:
    return {"name": "text_to_video", "first_frame_conditioning_p": p, "with_audio": with_audio}


def video_to_video(p: float) -> dict:
    return {"name": "video_to_video", "first_frame_conditioning_p": p}


def configuration(strategy: dict, model: str, optimization: dict, lora: dict) -> str:
    return yaml.safe_dump(
        {
            "model": {"model_path": f"../../models/{model}.safetensors", "training_mode": "lora"},
            "lora": lora,
            "training_strategy": strategy,
            "optimization": optimization,
            "acceleration": {"mixed_precision_mode": "no"},
            "data": {"preprocessed_data_root": "data"},
            "validation": {"interval": None},
            "output_dir": "outputs",
        },
        sort_keys=False,
    )


class Draw:
    """Random latents, masks, noise and decisions for a strategy."""

    def __init__(self, name: str, strategy: dict, sizes: dict):
        self.rng, self.strategy = generator(name), strategy
        self.sizes = {"batch": 2, "channels": 5, "video": (3, 2, 4), "z": 3, "audio": 7, "fps": 25.0} | sizes

    def normal(self, *shape):
        return torch.randn(shape, generator=self.rng)

    def uniform(self, *shape):
        return torch.rand(shape, generator=self.rng)

    def streams(self) -> dict:
        if self.strategy["name"] == "flexible":
            return {k: self.strategy[k] for k in ("video", "audio") if k in self.strategy}
        references = [reference("video")] if self.strategy["name"] == "video_to_video" else []
        streams = {"video": stream(*references)}
        return streams | ({"audio": audio()} if self.strategy.get("with_audio") else {})

    def data(self, prefix: str = "") -> dict:
        s, out = self.sizes, {}
        batch = s["batch"]
        for name, section in self.streams().items():
            kinds = {c["type"] for c in section["conditions"]}
            if name == "video":
                out["video.latents"] = self.normal(batch, s["channels"], *s["video"])
                if s["fps"]:
                    # The first one counts for the batch.
                    out["video.fps"] = torch.tensor([s["fps"], 12.0, 50.0][:batch])
                if "mask" in kinds:
                    out["video.mask"] = self.uniform(batch, *s["video"])
                if "reference" in kinds:
                    out["video.reference.latents"] = self.normal(batch, s["channels"], *s.get("reference", s["video"]))
                    if s.get("reference_fps"):
                        out["video.reference.fps"] = torch.tensor([s["reference_fps"]] * batch)
            else:
                out["audio.latents"] = self.normal(batch, s["z"], s["audio"], 16)
                if "mask" in kinds:
                    out["audio.mask"] = self.uniform(batch, s["audio"])
                if "reference" in kinds:
                    out["audio.reference.latents"] = self.normal(batch, s["z"], s.get("audio_reference", 4), 16)
        return {prefix + key: value for key, value in out.items()}

    def numbers(self) -> dict:
        """Sigma, noise and decisions of one step."""
        s, out = self.sizes, {}
        for name, section in self.streams().items():
            if not section["is_generated"]:
                continue
            frames, rows, columns = s["video"]
            shape = (frames * rows * columns, s["channels"]) if name == "video" else (s["audio"], s["z"] * 16)
            out[f"{name}.noise"] = self.normal(s["batch"], *shape)
            if name == "video" or self.strategy["name"] == "flexible":
                out[f"{name}.sigma"] = 0.05 + 0.9 * self.uniform(s["batch"])
        count = self.conditions()
        if count:
            out["condition_draws"] = self.uniform(count, s["batch"])
        return out

    def conditions(self) -> int:
        if self.strategy["name"] != "flexible":
            return 1
        return sum(len(section["conditions"]) for section in self.streams().values())

    def in_order(self, numbers: dict) -> tuple:
        def by_stream(kind):
            return {k: numbers[f"{k}.{kind}"] for k in ("video", "audio") if f"{k}.{kind}" in numbers}

        return trainer.draws(
            self.strategy, by_stream("noise"), by_stream("sigma"), numbers.get("condition_draws"), self.sizes["video"][0]
        )


# MARK: timestep-sampler


def make_timestep_sampler(source: list[str]) -> None:
    from ltx_trainer.timestep_samplers import ShiftedLogitNormalTimestepSampler

    count = 64
    for tokens in (1, 300, 1536, 4096, 20000):
        rng = generator(f"timestep-sampler/{tokens}")
        normal = torch.randn(count, generator=rng)
        # Far out, where sigmas are reflected and cut.
        normal[:4] = torch.tensor([-6.0, -2.6, 3.2, 8.0])
        uniform, probability = torch.rand(count, generator=rng), torch.rand(count, generator=rng)
        with trainer.given_numbers([normal], [uniform, probability]):
            sigmas = ShiftedLogitNormalTimestepSampler().sample(count, tokens)
        inputs = {"normal": normal, "uniform": uniform, "probability": probability, "tokens": torch.tensor([tokens])}
        write_case("timestep-sampler", f"tokens_{tokens}", inputs, {"sigmas": sigmas}, source=source, tolerance=1e-5)


def make_sampler_options(source: list[str]) -> None:
    """Of options that are not the defaults, for the test of the sampler itself."""
    from ltx_trainer.timestep_samplers import SAMPLERS

    cases, tensors = [], {}
    for mode, options, tokens in (
        ("shifted_logit_normal", {"std": 0.5}, 700),
        ("shifted_logit_normal", {"std": 2.0, "eps": 0.05, "uniform_prob": 0.4}, 5000),
        ("shifted_logit_normal", {"eps": 0.0, "uniform_prob": 0.0}, 2048),
        ("shifted_logit_normal", {"uniform_prob": 1.0}, 64),
        ("uniform", {}, 64),
        ("uniform", {"min_value": 0.2, "max_value": 0.7}, 64),
    ):
        name = str(len(cases))
        rng = generator(f"timestep-sampler/options/{name}")
        normal, uniform, probability = (torch.randn(48, generator=rng), *torch.rand(2, 48, generator=rng))
        isUniform = mode == "uniform"
        with trainer.given_numbers([] if isUniform else [normal], [uniform] if isUniform else [uniform, probability]):
            sigmas = SAMPLERS[mode](**options).sample(48, tokens)
        cases.append({"mode": mode, "params": options, "tokens": tokens})
        given = {"normal": normal, "uniform": uniform, "probability": probability, "sigmas": sigmas}
        tensors |= {f"{name}.{key}": value for key, value in given.items()}
    note = {"run": json.dumps({"cases": cases, "source": source})}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, ROOT / "training" / "samplers.safetensors", metadata=note)


# MARK: training-inputs

PREFIX, SUFFIX = {"temporal_boundary": 2}, {"temporal_boundary": 1}
CROP = {"spatial_region": [32, 40, 96, 110]}
SMALL = {"video": (5, 4, 6), "reference": (5, 2, 3)}
EVERYTHING = [
    condition("first_frame", 0.5), condition("prefix", 0.4, **PREFIX), reference("video", 0.9),
    condition("suffix", 0.5, **SUFFIX), condition("spatial_crop", 0.6, **CROP), mask("video", 0.5),
]  # fmt: skip

# name, strategy, sizes
INPUT_CASES = [
    ("joint", flexible(video=stream(), audio=audio()), {"batch": 3}),
    ("video_alone", flexible(video=stream()), {"fps": None}),
    ("audio_alone", flexible(audio=audio()), {}),
    ("first_frame", flexible(video=stream(condition("first_frame"))), {}),
    ("first_frame_of_a_picture", flexible(video=stream(condition("first_frame", 0.5))), {"video": (1, 3, 2), "batch": 3}),
    ("prefix", flexible(video=stream(condition("prefix", **PREFIX))), {}),
    ("prefix_of_all", flexible(video=stream(condition("prefix", 0.5, temporal_boundary=9))), {"batch": 3}),
    ("suffix", flexible(video=stream(condition("suffix", **SUFFIX))), {}),
    ("suffix_of_all", flexible(video=stream(condition("suffix", 0.5, temporal_boundary=9))), {"batch": 3}),
    ("spatial_crop", flexible(video=stream(condition("spatial_crop", **CROP))), {"video": (2, 4, 5)}),
    (
        "spatial_crop_outside",
        flexible(video=stream(condition("spatial_crop", spatial_region=[32, 64, 4000, 4000]))),
        {"video": (2, 3, 4)},
    ),
    ("video_mask", flexible(video=stream(mask("video", 0.6))), {"batch": 3}),
    ("video_everything", flexible(video=stream(*EVERYTHING)), {"batch": 3, "video": (4, 3, 4)}),
    ("video_reference", flexible(video=stream(reference("video"))), {}),
    ("video_reference_in_space", flexible(video=stream(reference("video"))), SMALL),
    (
        "video_reference_in_time",
        flexible(video=stream(reference("video"))),
        {"video": (5, 2, 3), "reference": (3, 2, 3), "fps": 24.0, "reference_fps": 12.0},
    ),
    (
        "video_reference_in_both",
        flexible(video=stream(condition("first_frame", 0.5), reference("video", 0.7)), audio=audio()),
        {"video": (5, 4, 2), "reference": (2, 2, 1), "fps": 24.0, "reference_fps": 6.0},
    ),
    ("video_reference_left_out", flexible(video=stream(reference("video", 1e-9), mask("video"))), SMALL),
    ("audio_prefix", flexible(audio=audio(condition("prefix", 0.5, **PREFIX))), {"batch": 3}),
    ("audio_suffix", flexible(audio=audio(condition("suffix", **SUFFIX))), {}),
    ("audio_mask", flexible(audio=audio(mask("audio"))), {}),
    ("audio_reference", flexible(audio=audio(reference("audio"))), {"audio": 11, "audio_reference": 6}),
    ("both_masks", flexible(video=stream(mask("video", 0.7)), audio=audio(mask("audio", 0.7))), {"batch": 3}),
    (
        "both_references",
        flexible(
            video=stream(reference("video", 0.8), condition("suffix", 0.5, **SUFFIX)),
            audio=audio(condition("prefix", 0.6, **PREFIX), reference("audio", 0.8), mask("audio", 0.5)),
        ),
        SMALL | {"batch": 3},
    ),
    ("frozen_audio", flexible(video=stream(condition("first_frame", 0.5)), audio=audio(generated=False)), {"batch": 3}),
    ("frozen_video", flexible(video=stream(condition("first_frame"), generated=False), audio=audio()), {}),
    ("frozen_video_with_reference", flexible(video=stream(reference("video"), generated=False), audio=audio()), SMALL),
    ("text_to_video", text_to_video(0.5, False), {"batch": 3}),
    ("text_to_video_of_a_picture", text_to_video(1.0, False), {"video": (1, 3, 2)}),
    ("text_to_video_with_audio", text_to_video(0.5, True), {"batch": 3}),
    ("text_to_video_never", text_to_video(0.0, True), {}),
    ("video_to_video", video_to_video(0.5), {"batch": 3}),
    ("video_to_video_smaller", video_to_video(0.5), {"video": (3, 4, 6), "reference": (5, 2, 3), "reference_fps": 6.0}),
    (
        "compression_16x16x4",
        flexible(video=stream(condition("spatial_crop", 0.5, **CROP), reference("video")), audio=audio()),
        {"batch": 3, "video": (4, 8, 8), "reference": (4, 4, 4), "channels": 2, "model": "compression_16x16x4"},
    ),
]


def make_compression() -> None:
    """A checkpoint with nothing but the configuration of a VAE that compresses otherwise than the published ones."""
    vae = read_checkpoint(MODELS / "ltx2_vae.safetensors")[1]["vae"]
    blocks = [["res_x", {"num_layers": 1}], ["compress_all", {}], ["compress_all", {}]]
    config = {"vae": vae | {"encoder_blocks": blocks}}
    save_file(
        {"vae.per_channel_statistics.mean-of-means": torch.zeros(6)}, MODELS / "compression_16x16x4.safetensors",
        metadata={"config": json.dumps(config, sort_keys=True)},
    )  # fmt: skip


def make_training_inputs(source: list[str]) -> None:
    from ltx_core.types import SpatioTemporalScaleFactors

    make_compression()
    for name, options, sizes in INPUT_CASES:
        model = sizes.get("model", "ltx2_vae")
        draw = Draw(f"training-inputs/{name}", options, sizes)
        data, numbers = draw.data(), draw.numbers()
        factors = SpatioTemporalScaleFactors.from_model_config(read_checkpoint(MODELS / f"{model}.safetensors")[1])
        made = trainer.strategy(options, factors)
        given = trainer.prepare(made, options, data, draw.in_order(numbers))
        expected = {}
        for stream_name in ("video", "audio"):
            modality = getattr(given, stream_name)
            if modality is None:
                continue
            expected |= {
                f"{stream_name}.{key}": getattr(modality, key) for key in ("latent", "timesteps", "sigma", "positions")
            }
            target, counts = (getattr(given, f"{stream_name}_{key}") for key in ("targets", "loss_mask"))
            if target is not None:
                expected |= {f"{stream_name}.target": target, f"{stream_name}.loss_mask": counts.long()}
        write_case(
            "training-inputs", name, data | numbers, expected, source=source,
            args=["--model", f"{{root}}/models/{model}.safetensors", "--config", "{case}/config.yaml"],
            exact=[key for key in expected if key.endswith("loss_mask")], tolerance=1e-6,
        )  # fmt: skip
        text = configuration(options, model, {"steps": 1, "batch_size": 1}, {"rank": 2, "alpha": 2})
        (ROOT / "training-inputs" / name / "config.yaml").write_text(text, encoding="utf-8")


# MARK: training-run

STEPS = 8
ORDER = [0, 1, 2, 1, 0, 2, 2, 0]
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]

# name, model, strategy, sizes, scheduler, its options, clipping, rank, alpha
RUN_CASES = [
    (
        "ltx2_linear_clipped", "ltx2_transformer", flexible(video=stream(condition("first_frame", 0.5)), audio=audio()),
        {}, "linear", {}, 0.3, 2, 4,
    ),
    (
        "ltx23_cosine_references", "ltx23_transformer",
        flexible(video=stream(reference("video", 0.5), mask("video", 0.5)), audio=audio(condition("suffix", 0.5, **SUFFIX))),
        {"video": (3, 2, 4), "reference": (3, 1, 2)}, "cosine", {"eta_min": 1e-4}, 0.0, 3, 3,
    ),
    (
        "ltx23_polynomial_frozen_audio", "ltx23_transformer", flexible(video=stream(), audio=audio(generated=False)),
        {}, "polynomial", {"power": 2.0}, 1.0, 2, 1,
    ),
    ("ltx2_step_video", "ltx2_transformer", text_to_video(0.5, False), {}, "step", {"step_size": 3, "gamma": 0.3}, 1.0, 2, 2),
    (
        "ltx23_restarts_audio", "ltx23_transformer", flexible(audio=audio(mask("audio", 0.5))),
        {}, "cosine_with_restarts", {"T_0": 3}, 1.0, 2, 3,
    ),
    ("ltx23_constant_older", "ltx23_transformer", text_to_video(0.5, True), {"batch": 3}, "constant", {}, 0.05, 4, 8),
]  # fmt: skip


def schedule(optimizer, kind: str, params: dict):
    from ltx_trainer.trainer import LtxvTrainer

    optimization = SimpleNamespace(scheduler_type=kind, steps=STEPS, scheduler_params=dict(params))
    return LtxvTrainer._create_scheduler(SimpleNamespace(_config=SimpleNamespace(optimization=optimization)), optimizer)


def adapted(model: str, rank: int, alpha: int, rng: torch.Generator):
    """The transformer in float32 with random adapters, and these by their keys in a file."""
    from ltx_trainer.model_loader import load_transformer
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    transformer = load_transformer(MODELS / f"{model}.safetensors", "cpu", torch.float32).requires_grad_(False)
    transformer = get_peft_model(
        transformer, LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, lora_dropout=0.0, init_lora_weights=True)
    )
    keys = sorted(get_peft_model_state_dict(transformer.get_base_model(), adapter_name="default"))
    shapes = {k: v.shape for k, v in get_peft_model_state_dict(transformer.get_base_model()).items()}
    state = {k: torch.randn(shapes[k], generator=rng) * (0.5 / shapes[k][1] ** 0.5) for k in keys}
    set_peft_model_state_dict(transformer.get_base_model(), state)
    return transformer, {f"diffusion_model.{k}": v for k, v in state.items()}


def make_training_run(source: list[str]) -> None:
    from peft import get_peft_model_state_dict

    for name, model, options, sizes, kind, params, clipping, rank, alpha in RUN_CASES:
        config = read_checkpoint(MODELS / f"{model}.safetensors")[1]["transformer"]
        sizes = {"channels": config["in_channels"], "z": config["audio_in_channels"] // 16, "video": (2, 2, 3), "audio": 5} | sizes
        draw = Draw(f"training-run/{name}", options, sizes)
        transformer, initial = adapted(model, rank, alpha, draw.rng)
        is_projected = config.get("caption_proj_before_connector", False)
        inputs = {}
        for d in range(3):
            inputs |= draw.data(f"data.{d}.")
            for stream_name, key in (("video", "cross_attention_dim"), ("audio", "audio_cross_attention_dim")):
                if stream_name in draw.streams():
                    width = config[key] if is_projected else config["caption_channels"]
                    inputs[f"data.{d}.{stream_name}.context"] = draw.normal(draw.sizes["batch"], 6, width)
        parameters = [p for p in transformer.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3)
        scheduler = schedule(optimizer, kind, params)
        losses, norms, rates, numbers = [], [], [], []
        for number in ORDER:
            numbers.append(draw.numbers())
            made = trainer.strategy(options)
            given = trainer.prepare(made, options, inputs, draw.in_order(numbers[-1]), f"data.{number}.")
            video, sound = transformer(video=given.video, audio=given.audio, perturbations=None)
            loss = made.compute_loss(video, sound, given).mean()
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(parameters, clipping or float("inf")))
            losses.append(loss.detach())
            rates.append(torch.tensor(optimizer.param_groups[0]["lr"], dtype=torch.float32))
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()
        inputs |= {key: torch.stack([n[key] for n in numbers]) for key in numbers[0]}
        inputs["order"] = torch.tensor(ORDER)
        final = get_peft_model_state_dict(transformer.get_base_model())
        expected = {"loss": torch.stack(losses), "gradient_norm": torch.stack(norms), "learning_rate": torch.stack(rates)}
        expected |= {f"lora.diffusion_model.{key}": value for key, value in final.items()}
        folder = ROOT / "training-run" / name
        arguments = ["--model", f"{{root}}/models/{model}.safetensors", "--lora", "{case}/initial_lora.safetensors"]
        write_case(
            "training-run", name, inputs, expected, source=source, args=[*arguments, "--config", "{case}/config.yaml"],
            tolerance={"loss": 1e-5, "gradient_norm": 1e-4, "learning_rate": 1e-6, "*": 5e-3}, together={"lora.": 3e-5},
            why="AdamW divides by the root of the squared gradient: entries whose gradient is near rounding noise take steps "
            "of arbitrary sign, so single entries are compared loosely and all together tightly",
        )  # fmt: skip
        save_file({k: v.contiguous() for k, v in initial.items()}, folder / "initial_lora.safetensors")
        optimization = {
            "learning_rate": 1e-3, "steps": STEPS, "batch_size": 1, "max_grad_norm": clipping, "scheduler_type": kind,
            "scheduler_params": params,
        }  # fmt: skip
        text = configuration(options, model, optimization, {"rank": rank, "alpha": alpha, "target_modules": TARGETS})
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        print(f"    loss {losses[0]:.4f} to {losses[-1]:.4f}, norms {[round(float(n), 3) for n in norms]}")


def main() -> None:
    steps = {
        "timestep-sampler": make_timestep_sampler,
        "sampler-options": make_sampler_options,
        "training-inputs": make_training_inputs,
        "training-run": make_training_run,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--only", choices=list(steps))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    source = trainer.load(arguments.packages)
    for name in [arguments.only] if arguments.only else steps:
        print(name, flush=True)
        steps[name](source)


if __name__ == "__main__":
    main()
