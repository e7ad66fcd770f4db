"""Fixtures of what is trained: peft's adapters, their targets, quanto's matrices, gradients of whole weights."""

import json

import torch
from safetensors.torch import load_file, save_file

import reference
from fixtures import MODELS, ROOT, generator, origin, write_case
from transformer_cases import Draw, arguments, checkpoint_of

FOLDER = ROOT / "training"
MASK = (1 << 64) - 1


def mixed(seed: int, purpose: str, number: int = 0) -> int:
    """The seed of one of a run's generators (SplitMix64), as `RandomSeed.mix` defines it."""
    state = seed
    for part in [*purpose.encode(), number & MASK]:
        state = ((state ^ part) + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


class Mask(torch.nn.Module):
    """Dropout whose mask is a function of seed, layer and pass."""

    def __init__(self, p: float, seed: int, path: str, number: int):
        super().__init__()
        self.p, self.seed = p, mixed(mixed(seed, path), "pass", number)

    def forward(self, x):
        uniform = torch.rand(x.shape, generator=torch.Generator().manual_seed(self.seed))
        return x * (uniform >= self.p).to(x.dtype) / (1 - self.p)


def make_layers() -> None:
    """One linear layer with peft's adapters: output and gradients."""
    from peft import LoraConfig, get_peft_model

    rank, alpha, inputs, outputs = 4, 6, 20, 12
    tensors = {}
    for dora in (False, True):
        for rslora in (False, True):
            for p in (0.0, 0.3):
                kind = ("dora" if dora else "lora") + ("_rs" if rslora else "") + ("_dropout" if p else "")
                rng = generator(f"training/layers/{kind}")
                base = torch.nn.ModuleDict({"block": torch.nn.ModuleDict({"to_q": torch.nn.Linear(inputs, outputs)})})
                layer = base["block"]["to_q"]
                layer.weight.data = torch.randn(outputs, inputs, generator=rng)
                layer.bias.data = torch.randn(outputs, generator=rng)
                config = LoraConfig(
                    r=rank, lora_alpha=alpha, target_modules=["to_q"], lora_dropout=p, use_rslora=rslora, use_dora=dora
                )
                model = get_peft_model(base, config).train()
                adapted = model.base_model.model["block"]["to_q"]
                if dora:
                    tensors[f"{kind}.initial_magnitude"] = adapted.lora_magnitude_vector["default"].weight.clone()
                parameters = {"A": adapted.lora_A["default"].weight, "B": adapted.lora_B["default"].weight}
                if dora:
                    parameters["magnitude"] = adapted.lora_magnitude_vector["default"].weight
                for parameter in parameters.values():
                    parameter.data = torch.randn(parameter.shape, generator=rng) * 0.3
                if dora:
                    parameters["magnitude"].data = parameters["magnitude"].data.abs() + 2
                if p:
                    adapted.lora_dropout["default"] = Mask(p, 5, "block.to_q", 3)
                x = torch.randn(2, 7, inputs, generator=rng, requires_grad=True)
                dy = torch.randn(2, 7, outputs, generator=rng)
                y = adapted(x)
                y.backward(dy)
                values = {"weight": adapted.base_layer.weight, "bias": adapted.base_layer.bias, "x": x, "dy": dy, "y": y}
                values |= parameters | {"grad.x": x.grad}
                values |= {f"grad.{name}": parameter.grad for name, parameter in parameters.items()}
                tensors |= {f"{kind}.{name}": value.detach().clone() for name, value in values.items()}
    note = {"origin": json.dumps({"source": origin("peft"), "rank": rank, "alpha": alpha})}
    save_file(tensors, FOLDER / "layers.safetensors", metadata=note)


TARGETS = [
    ["to_k", "to_q", "to_v", "to_out.0"],
    ["attn1.to_k", "audio_ff.net.2"],
    ["ff.net.0.proj"],
    ["proj_out", "linear_1"],
    ["transformer_blocks.0.attn1.to_q"],
    ["adaln_single.linear"],
    ["o_q", "linear"],
]


def make_targets() -> None:
    """Which linear layers peft finds for a list of target modules."""
    from peft import LoraConfig, inject_adapter_in_model

    cases = []
    for name in ("ltx2_transformer", "ltx23_transformer"):
        for targets in TARGETS:
            model = reference.load_transformer(checkpoint_of(name), torch.float32)
            try:
                model = inject_adapter_in_model(LoraConfig(r=2, target_modules=targets), model)
                found = sorted(key for key, part in model.named_modules() if hasattr(part, "lora_A"))
            except ValueError:
                found = []  # a target that is no linear layer
            cases.append({"model": name, "targets": targets, "layers": found})
    write_json("targets", {"source": origin("peft", "ltx-core"), "cases": cases})


def write_json(name: str, value: dict) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


EXCLUDED = [
    "patchify_proj", "audio_patchify_proj", "proj_out", "audio_proj_out", "*adaln*", "time_proj", "timestep_embedder*",
    "caption_projection*", "audio_caption_projection*", "*norm*",
]  # fmt: skip
SKIPPED = {"patchify_proj", "audio_patchify_proj", "proj_out", "audio_proj_out", "audio_caption_projection"}


def make_quantized() -> None:
    """Matrices by optimum-quanto, gradients through them, and the layers that ltx-trainer 1.2.0 quantizes.

    Its way, restated: every block as a model of its own, then every other child that is not skipped; patterns are compared
    with names within the quantized part.
    """
    from optimum.quanto import freeze, qfloat8, qint8, quantize
    from optimum.quanto.nn import QLinear

    tensors = {}
    for name, kind in (("int8", qint8), ("float8", qfloat8)):
        for dtype in (torch.float32, torch.bfloat16):
            case = f"{name}_{'bfloat16' if dtype == torch.bfloat16 else 'float32'}"
            # The spelling is part of the seed.
            rng = generator(f"training/quantised/{case}")
            # 70 inputs: with multiples of 4 quanto takes a kernel of torch's that fails for so few outputs in bfloat16.
            scales = torch.tensor([1e-3, 1.0, 30.0]).repeat(8)[:, None]
            model = torch.nn.Sequential(torch.nn.Linear(70, 24, dtype=dtype))
            model[0].weight.data = (torch.randn(24, 70, generator=rng) * scales).to(dtype)
            model[0].bias.data = torch.randn(24, generator=rng).to(dtype)
            tensors |= {f"{case}.weight": model[0].weight.detach().clone(), f"{case}.bias": model[0].bias.detach().clone()}
            model.requires_grad_(False)
            quantize(model, weights=kind)
            freeze(model)
            weight = model[0].weight
            x = torch.randn(2, 5, 70, generator=rng).to(dtype).requires_grad_()
            dy = torch.randn(2, 5, 24, generator=rng).to(dtype)
            y = model(x)
            y.backward(dy)
            values = {"elements": weight._data, "scale": weight._scale.flatten(), "x": x, "dy": dy, "y": y, "grad.x": x.grad}
            tensors |= {f"{case}.{k}": v.detach().clone().contiguous() for k, v in values.items()}
    note = {"origin": json.dumps({"source": origin("optimum-quanto")})}
    save_file(tensors, FOLDER / "quantized.safetensors", metadata=note)

    layers = {}
    for name in ("ltx2_transformer", "ltx23_transformer"):
        model = reference.load_transformer(checkpoint_of(name), torch.bfloat16)
        for block in model.transformer_blocks:
            quantize(block, weights=qint8, exclude=EXCLUDED)
        for child, module in model.named_children():
            if child != "transformer_blocks" and child not in SKIPPED:
                quantize(module, weights=qint8, exclude=EXCLUDED)
        layers[name] = {
            "quantized": sorted(key for key, part in model.named_modules() if isinstance(part, QLinear)),
            "plain": sorted(key for key, part in model.named_modules() if type(part) is torch.nn.Linear),
        }
    write_json("quantized-layers", {"source": origin("optimum-quanto", "ltx-core"), "models": layers})


def make_weight_gradients() -> None:
    """The loss and the gradient of every weight, by autograd through ltx-core's own model."""

    def case(name, model_name, streams, targets, sigmas, keys_only=False):
        checkpoint = checkpoint_of(model_name)
        model = reference.follow_1_2_0(reference.load_transformer(checkpoint, torch.float32)).requires_grad_(True)
        draw = Draw(f"training/{name}", checkpoint[1], 2)
        inputs = {}
        for stream in streams:
            inputs |= draw.stream(stream, sigmas[stream], draw.conditioned(stream, sigmas[stream]))
        for stream in targets:
            mask = (torch.rand(2, draw.tokens[stream], generator=draw.rng) > 0.25).long()
            mask[:, -1] = 1
            inputs[f"{stream}.target"] = draw.normal(2, draw.tokens[stream], draw.channels[stream])
            inputs[f"{stream}.loss_mask"] = mask
        modalities = [reference.modality(s, inputs, torch.float32) for s in reference.STREAMS]
        velocities = model(
            video=modalities[0], audio=modalities[1],
            perturbations=reference.BatchedPerturbationConfig.empty(2),
        )  # fmt: skip
        loss = sum(
            reference.velocity_loss(velocity, inputs[f"{s}.target"], inputs[f"{s}.loss_mask"])
            for s, velocity in zip(reference.STREAMS, velocities) if s in targets
        )  # fmt: skip
        loss.mean().backward()
        expected = {"loss": loss.detach()}
        for key, parameter in model.named_parameters():
            if parameter.grad is not None and parameter.grad.abs().max() > 0:
                expected[key] = parameter.grad.clone()
        if keys_only:
            write_json(name, {"source": origin("ltx-core"), "model": model_name, "keys": sorted(set(expected) - {"loss"})})
            return
        note = {"origin": json.dumps({"source": origin("ltx-core"), "model": model_name})}
        save_file({k: v.contiguous() for k, v in inputs.items()}, FOLDER / f"{name}.inputs.safetensors", metadata=note)
        save_file(expected, FOLDER / f"{name}.gradients.safetensors", metadata=note)

    both = {"video": [0.7, 0.25], "audio": [0.4, 0.85]}
    case("joint", "ltx23_transformer", ("video", "audio"), ("video", "audio"), both)
    case("video_only", "ltx2_interleaved", ("video",), ("video",), both)
    # A frozen stream that is attended to: clean, without a loss.
    for model in ("ltx2_transformer", "ltx23_bias_free"):
        video, audio = {"video": [0.7, 0.25], "audio": [0.0, 0.0]}, {"video": [0.0, 0.0], "audio": [0.7, 0.25]}
        case(f"audio_to_video.{model}", model, ("video", "audio"), ("video",), video, keys_only=True)
        case(f"video_to_audio.{model}", model, ("video", "audio"), ("audio",), audio, keys_only=True)


def make_dora() -> None:
    """The LoRA of the video stream with magnitudes, through the whole model."""
    checkpoint = checkpoint_of("ltx2_transformer")
    lora = load_file(MODELS / "lora_video.safetensors")
    rng = generator("models/lora_dora")
    for key in [key for key in lora if key.endswith(".lora_A.weight")]:
        path = key.removesuffix(".lora_A.weight")
        weight = checkpoint[0][f"model.{path}.weight"]
        changed = weight + lora[f"{path}.lora_B.weight"] @ lora[key]
        # Near what the layer has, so that it stays the layer that it was.
        share = 1 + 0.2 * torch.randn(len(weight), generator=rng)
        lora[f"{path}.dora_scale"] = (changed.norm(dim=1) * share)[:, None]
    save_file(lora, MODELS / "lora_dora.safetensors")

    draw = Draw("lora-gradients/dora", checkpoint[1], 2)
    inputs = draw.stream("video", [0.8, 0.35], draw.conditioned("video", [0.8, 0.35]))
    targets = {
        "video.target": draw.normal(2, draw.tokens["video"], draw.channels["video"]),
        "video.loss_mask": torch.ones(2, draw.tokens["video"], dtype=torch.long),
    }
    model = reference.load_transformer(checkpoint, torch.float32)
    found = reference.lora_gradients(model, lora, 1.0, inputs | targets, torch.float32)
    velocity = found.pop("velocity")
    args = arguments("ltx2_transformer", "lora_dora.safetensors:1")
    source = origin("ltx-core", "peft")
    write_case("lora-gradients", "dora", inputs | targets, found, args=args, source=source)
    write_case(
        "transformer", "lora_dora", inputs, {"video.velocity": velocity}, args=args, source=source,
        what="LoRA with magnitudes (DoRA)",
    )  # fmt: skip


def make() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_layers()
    make_targets()
    make_quantized()
    make_weight_gradients()
    make_dora()
