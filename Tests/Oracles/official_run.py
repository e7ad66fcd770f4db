#!/usr/bin/env python3
"""Six steps of the unmodified official trainer in mixed precision: `Fixtures/training/official_run.safetensors`.

    official_run.py CHECKOUT/packages

The trainer runs as it is, on a small dataset made here; what goes into the transformer and what comes out of the loss is
written down on the way. Then the same inputs go through the same model in float32, for the distance that bfloat16 itself
makes.
"""

import argparse
import contextlib
import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import trainer_reference as trainer
from fixtures import MODELS, ROOT, generator, read_checkpoint

MODEL = "ltx23_transformer"
STEPS, BATCH, SAMPLES, TEXT = 6, 2, 4, 128
GEMMA_FILES = {"tokenizer.json": {}, "tokenizer_config.json": {}, "processor_config.json": {}, "preprocessor_config.json": {}}


def make_dataset(folder: Path, config: dict) -> None:
    """Latents and text features as the trainer's scripts store them."""
    rng = generator("training/official_run")
    frames, rows, columns, steps = 3, 2, 3, 8
    for index in range(SAMPLES):
        video = {
            "latents": torch.randn(config["in_channels"], frames, rows, columns, generator=rng).bfloat16(),
            "num_frames": frames, "height": rows, "width": columns, "fps": 25.0,
        }  # fmt: skip
        z = config["audio_in_channels"] // 16
        sound = {"latents": torch.randn(z, steps, 16, generator=rng).bfloat16()}
        sound |= {"num_time_steps": steps, "frequency_bins": 16, "duration": steps / 25}
        words = 20 + 30 * index
        text = {
            "video_prompt_embeds": torch.randn(TEXT, config["cross_attention_dim"], generator=rng).bfloat16(),
            "audio_prompt_embeds": torch.randn(TEXT, config["audio_cross_attention_dim"], generator=rng).bfloat16(),
            "prompt_attention_mask": torch.arange(TEXT) >= TEXT - words,
        }
        for name, content in (("latents", video), ("audio_latents", sound), ("conditions", text)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            torch.save(content, folder / name / f"{index}.pt")


def make_text_encoder(folder: Path) -> None:
    """What is read of a text encoder when there is nothing to encode: its sizes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes((MODELS / "gemma3" / "config.json").read_bytes())
    for name, content in GEMMA_FILES.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    for path in (MODELS / "gemma3").glob("model*"):
        os.link(path, folder / path.name) if path.stat().st_dev == folder.stat().st_dev else (
            folder / path.name
        ).write_bytes(path.read_bytes())


def make_model(path: Path) -> None:
    """All components in one file, as the trainer wants them where text is projected."""
    tensors, configs = {}, {}
    for name in (MODEL, "ltx23_vae", "ltx23_audio"):
        own, config = read_checkpoint(MODELS / f"{name}.safetensors")
        tensors |= own
        configs |= config
    save_file(tensors, path, metadata={"config": json.dumps(configs)})


def configuration(folder: Path):
    from ltx_trainer.config import LtxTrainerConfig

    return LtxTrainerConfig(
        model={
            "model_path": str(folder / "model.safetensors"), "text_encoder_path": str(folder / "gemma"),
            "training_mode": "lora",
        },
        lora={"rank": 4, "alpha": 8},
        training_strategy={
            "name": "flexible",
            "video": {
                "is_generated": True, "latents_dir": "latents", "conditions": [{"type": "first_frame", "probability": 0.5}],
            },
            "audio": {"is_generated": True, "latents_dir": "audio_latents"},
        },
        optimization={
            "learning_rate": 1e-3, "steps": STEPS, "batch_size": BATCH, "scheduler_type": "linear",
            "enable_gradient_checkpointing": True,
        },
        acceleration={"mixed_precision_mode": "bf16"},
        data={"preprocessed_data_root": str(folder / "data"), "num_dataloader_workers": 0},
        validation={"interval": None, "samples": []},
        checkpoints={"interval": None, "precision": "float32"},
        seed=42,
        output_dir=str(folder / "outputs"),
    )  # fmt: skip


class Record:
    """Looks on while a trainer trains."""

    def __init__(self, made):
        self.tensors, self.inputs, self.norms, self.trainer = {}, [], [], made
        strategy, accelerator = made._training_strategy, made._accelerator
        prepare, loss, clip = strategy.prepare_training_inputs, strategy.compute_loss, accelerator.clip_grad_norm_

        def prepared(batch, sampler):
            inputs = prepare(batch, sampler)
            self.inputs.append(inputs)
            self.step({"idx": batch["idx"]})
            for name in ("video", "audio"):
                modality = getattr(inputs, name)
                self.step({f"{name}.{key}": getattr(modality, key) for key in ("latent", "timesteps", "sigma")})
                self.step({f"{name}.target": getattr(inputs, f"{name}_targets")})
                self.step({f"{name}.loss_mask": getattr(inputs, f"{name}_loss_mask")})
                self.tensors[f"{name}.positions"] = modality.positions
                for row, index in enumerate(batch["idx"].tolist()):
                    self.tensors[f"{name}.context.{index}"] = modality.context[row]
                assert modality.context_mask.all()
            return inputs

        def computed(video, audio, inputs):
            losses = loss(video, audio, inputs)
            self.step({"loss": losses})
            return losses

        def clipped(parameters, limit):
            norm = clip(parameters, limit)
            self.step({"gradient_norm": norm.reshape(1)})
            return norm

        strategy.prepare_training_inputs, strategy.compute_loss, accelerator.clip_grad_norm_ = prepared, computed, clipped

    def step(self, tensors: dict) -> None:
        self.tensors |= {f"{len(self.inputs) - 1}.{key}": value.detach().clone() for key, value in tensors.items()}


def in_float32(made, inputs: list, initial: dict) -> dict:
    """The same steps on the same inputs without rounding."""
    from ltx_trainer.model_loader import load_transformer
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    lora = made._config.lora
    transformer = load_transformer(MODELS / f"{MODEL}.safetensors", "cpu", torch.float32).requires_grad_(False)
    transformer = get_peft_model(transformer, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.target_modules))
    set_peft_model_state_dict(transformer.get_base_model(), initial)
    parameters = [p for p in transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=made._config.optimization.learning_rate)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.1, total_iters=STEPS)
    out = {}
    for number, given in enumerate(inputs):
        for name in ("video", "audio"):
            modality = getattr(given, name)
            wide = {key: getattr(modality, key).detach().float() for key in ("latent", "context")}
            setattr(given, name, type(modality)(**(vars(modality) | wide)))
            setattr(given, f"{name}_targets", getattr(given, f"{name}_targets").float())
        video, audio = transformer(video=given.video, audio=given.audio, perturbations=None)
        losses = made._training_strategy.__class__.compute_loss(made._training_strategy, video, audio, given)
        losses.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, made._config.optimization.max_grad_norm)
        out |= {f"{number}.float32.loss": losses.detach(), f"{number}.float32.gradient_norm": norm.reshape(1)}
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    final = get_peft_model_state_dict(transformer.get_base_model())
    return out | {f"float32.final.{key}": value.detach() for key, value in final.items()}


def make(source: list[str]) -> None:
    from ltx_trainer.trainer import LtxvTrainer
    from peft import get_peft_model_state_dict

    config = read_checkpoint(MODELS / f"{MODEL}.safetensors")[1]["transformer"]
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        folder = Path(temporary)
        make_dataset(folder / "data", config)
        make_text_encoder(folder / "gemma")
        make_model(folder / "model.safetensors")
        torch.manual_seed(7)
        made = LtxvTrainer(configuration(folder))
        record = Record(made)
        base = made._accelerator.unwrap_model(made._transformer).get_base_model()
        initial = {key: value.detach().clone() for key, value in get_peft_model_state_dict(base).items()}
        saved, _ = made.train(disable_progress_bars=True)
        final = load_file(saved)
    tensors = record.tensors | {f"init.{key}": value for key, value in initial.items()}
    tensors |= {f"final.{key.removeprefix('diffusion_model.')}": value for key, value in final.items()}
    tensors |= in_float32(made, record.inputs, initial)
    tensors = {k: (v.to(torch.uint8) if v.dtype == torch.bool else v).contiguous().clone() for k, v in tensors.items()}
    # One entry: the order of several is not the same each time.
    note = {"source": source, "model": MODEL, "steps": STEPS, "rank": 4, "alpha": 8, "learning_rate": 1e-3}
    path = ROOT / "training" / "official_run.safetensors"
    save_file(tensors, path, metadata={"run": json.dumps(note)})
    far = sum(float((tensors[k] - tensors[f"float32.{k}"]).square().sum()) for k in tensors if k.startswith("final."))
    moved = sum(
        float((tensors[k] - tensors[k.replace("final", "init", 1)]).square().sum()) for k in tensors if k.startswith("final.")
    )
    for n in range(STEPS):
        print(n, tensors[f"{n}.loss"].tolist(), tensors[f"{n}.float32.loss"].tolist(), tensors[f"{n}.gradient_norm"].tolist())
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB; change of adapters against float32 {(far / moved) ** 0.5:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    torch.set_num_threads(1)
    make(trainer.load(parser.parse_args().packages.resolve()))


if __name__ == "__main__":
    main()
