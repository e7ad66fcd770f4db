"""Optimizers and schedules: what PyTorch, bitsandbytes, prodigyopt, lion-pytorch and transformers make of small parameters,
and what accelerate's wrapper lets schedules do. Also bitsandbytes' numbers in 8 bits.

Run: `python Tests/Oracles/optimizers.py`. It writes three files to `Tests/Fixtures/optimizers`.
"""

import json

import bitsandbytes as bnb
import bitsandbytes.functional as F
import lion_pytorch
import prodigyopt
import torch
import transformers
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.optim import lr_scheduler as schedulers

from fixtures import ROOT, generator, origin

FOLDER = ROOT / "optimizers"
STEPS = 8
COMPARED = (2, STEPS)
# `zeros` begins there, as the B of a LoRA; `square` takes no gradient at step 3.
SHAPES = {"tall": (24, 10), "wide": (6, 20), "square": (9, 9), "zeros": (7, 12), "vector": (13,), "cube": (3, 4, 5)}
WITHOUT_GRADIENT = ("square", 3)
RATES = [1 - 0.08 * t for t in range(STEPS)]

ADAM = {"exp_avg", "exp_avg_sq", "step"}
# name, optimizer, base rate, its options as a configuration has them
CASES = [
    ("adamw", "adamw", 1e-2, {}),
    ("adamw_options", "adamw", 1e-2, {"betas": [0.8, 0.95], "eps": 1e-4, "weight_decay": 0.1}),
    ("lion", "lion", 1e-3, {}),
    ("lion_options", "lion", 1e-3, {"betas": [0.95, 0.98], "weight_decay": 0.1}),
    ("lion_decoupled", "lion", 1e-2, {"weight_decay": 1e-3, "decoupled_weight_decay": True}),
    ("prodigy", "prodigy", 1.0, {}),
    ("prodigy_usual", "prodigy", 1.0, {
        "weight_decay": 0.01, "use_bias_correction": True, "safeguard_warmup": True, "d_coef": 2.0, "d0": 1e-4}),
    ("prodigy_slow", "prodigy", 1.0, {"growth_rate": 1.5, "d0": 1e-3, "slice_p": 3, "beta3": 0.99}),
    ("prodigy_coupled", "prodigy", 0.5, {"weight_decay": 0.05, "decouple": False, "betas": [0.0, 0.99], "d0": 1e-2}),
    ("adafactor", "adafactor", 1e-2, {}),
    ("adafactor_scaled", "adafactor", 1e-2, {"scale_parameter": True, "clip_threshold": 0.5, "weight_decay": 0.1}),
    ("adafactor_relative", "adafactor", 1e-2, {
        "scale_parameter": True, "relative_step": True, "warmup_init": True, "eps": [1e-20, 1e-2]}),
    ("adafactor_momentum", "adafactor", 1e-2, {"beta1": 0.9, "decay_rate": -0.5, "relative_step": True}),
    ("muon", "muon", 1e-2, {}),
    ("muon_options", "muon", 1e-2, {
        "weight_decay": 0.01, "momentum": 0.8, "nesterov": False, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw",
        "ns_coefficients": [2.0, -1.5, 0.5], "adamw_betas": [0.8, 0.9], "adamw_weight_decay": 0.2}),
]  # fmt: skip


class MuonAndAdamW:
    """Matrices by Muon, everything else by AdamW."""

    def __init__(self, parameters, lr, **options):
        own = {k.removeprefix("adamw_"): v for k, v in options.items() if k.startswith("adamw_")}
        options = {k: v for k, v in options.items() if not k.startswith("adamw_")}
        self.parts = [
            torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=lr, **options),
            torch.optim.AdamW([p for p in parameters if p.ndim != 2], lr=lr, **own),
        ]
        self.param_groups = [g for part in self.parts for g in part.param_groups]
        self.state = {p: s for part in self.parts for p, s in part.state.items()}

    def step(self):
        for part in self.parts:
            part.step()
        self.state = {p: s for part in self.parts for p, s in part.state.items()}


def optimizer(kind, parameters, lr, options):
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    match kind:
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, **options)
        case "lion":
            return lion_pytorch.Lion(parameters, lr=lr, **options)
        case "prodigy":
            return prodigyopt.Prodigy(parameters, lr=lr, **options)
        case "adafactor":
            # As transformers' Trainer sets it, unless a case says otherwise.
            options = {"scale_parameter": False, "relative_step": False} | options
            return transformers.Adafactor(parameters, lr=None if options["relative_step"] else lr, **options)
        case "muon":
            return MuonAndAdamW(parameters, lr, **options)


def state_of(kind, opt, names) -> dict:
    tensors = {}
    for name, p in names.items():
        for key, value in opt.state[p].items():
            if key in ("RMS",) or (kind == "prodigy" and key == "step"):
                continue
            tensors[f"{name}.{key}"] = torch.as_tensor(value).detach().clone()
    if kind == "prodigy":
        for key in ("d", "d_max", "d_numerator", "k"):
            value = opt.param_groups[0][key]
            tensors[f"prodigy.{key}"] = torch.as_tensor(value, dtype=torch.int64 if key == "k" else torch.float64)
    return tensors


def write_optimizers() -> None:
    draw = generator("optimizers")
    start = {n: torch.randn(s, generator=draw) * (0 if n == "zeros" else 0.5) for n, s in SHAPES.items()}
    target = {n: torch.randn(s, generator=draw) for n, s in SHAPES.items()}
    noise = [{n: torch.randn(s, generator=draw) * 0.3 for n, s in SHAPES.items()} for _ in range(STEPS)]
    tensors = {f"start.{n}": t for n, t in start.items()} | {f"target.{n}": t for n, t in target.items()}
    tensors |= {f"noise.{i}.{n}": t for i, ts in enumerate(noise) for n, t in ts.items()}
    for name, kind, lr, options in CASES:
        names = {n: torch.nn.Parameter(t.clone()) for n, t in start.items()}
        opt = optimizer(kind, list(names.values()), lr, options)
        for step in range(STEPS):
            for group in opt.param_groups:
                if group["lr"] is not None:
                    group["lr"] = lr * RATES[step]
            for n, p in names.items():
                without = (n, step) == WITHOUT_GRADIENT
                p.grad = None if without else (p.detach() - target[n]) + noise[step][n]
            opt.step()
            if step + 1 in COMPARED:
                prefix = f"{name}.{step + 1}"
                tensors |= {f"{prefix}.{n}": p.detach().clone() for n, p in names.items()}
                tensors |= {f"{prefix}.{k}": v for k, v in state_of(kind, opt, names).items()}
    cases = [{"name": n, "kind": k, "rate": lr, "params": o} for n, k, lr, o in CASES]
    save(tensors, "optimizers", {"cases": json.dumps(cases), "rates": json.dumps(RATES)})


# MARK: 8 bits


def write_quantisation() -> None:
    draw = generator("quantisation")
    tensors = {}
    for sign in ("signed", "unsigned"):
        code = F.create_dynamic_map(signed=sign == "signed")
        tensors[f"{sign}.map"] = code
        sizes = 10 ** (torch.rand(3000, generator=draw) * -8)
        inputs = {
            "normal": torch.randn(40, 33, generator=draw) * 3e-3,
            "sizes": sizes * torch.randn(3000, generator=draw).sign(),
            "zeros": torch.cat([torch.zeros(256), torch.tensor([0.0, 1.0, 0.0, -2.0])]),
            "tiny": torch.randn(300, generator=draw) * 1e-38,
            "smallest": torch.tensor([1e-42, 0.0, 5e-43, -1e-42]),
        }
        for name, x in inputs.items():
            if sign == "unsigned":
                x = x.abs()
            q, state = F.quantize_blockwise(x, code=code.clone(), blocksize=256)
            tensors |= {f"{sign}.{name}.x": x, f"{sign}.{name}.codes": q, f"{sign}.{name}.absmax": state.absmax}
            tensors[f"{sign}.{name}.back"] = F.dequantize_blockwise(q, state)

    shapes = {"matrix": (70, 61), "square": (64, 64), "small": (30, 10), "vector": (4097,)}
    start = {n: torch.randn(s, generator=draw) * 0.1 for n, s in shapes.items()}
    gradients = []
    for _ in range(4):
        step = {}
        for n, s in shapes.items():
            g = torch.randn(s, generator=draw) * 10 ** (torch.rand(s, generator=draw) * -3)
            g.view(-1)[:300] = 0
            step[n] = g
        gradients.append(step)
    tensors |= {f"start.{n}": t for n, t in start.items()}
    tensors |= {f"gradient.{i}.{n}": t for i, ts in enumerate(gradients) for n, t in ts.items()}
    for case, options in {
        "default": {}, "options": {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.0, "min_8bit_size": 300},
    }.items():  # fmt: skip
        names = {n: torch.nn.Parameter(t.clone()) for n, t in start.items()}
        opt = bnb.optim.AdamW8bit(list(names.values()), lr=1e-2, **options)
        for i, step in enumerate(gradients):
            for n, p in names.items():
                p.grad = step[n].clone()
            for group in opt.param_groups:
                group["lr"] = 1e-2 * RATES[i]
            opt.step()
        for n, p in names.items():
            tensors[f"{case}.{n}"] = p.detach().clone()
            for key in ("step", "state1", "absmax1", "state2", "absmax2"):
                if key in opt.state[p]:
                    tensors[f"{case}.{n}.{key}"] = torch.as_tensor(opt.state[p][key]).clone()
    save(tensors, "quantisation", {"rates": json.dumps(RATES)})


# MARK: Schedules

BASES = [5e-4, 2e-3, 1e-5]
SCHEDULES = [
    (kind, steps, warmup, params)
    for steps in (4, 57, 150)
    for warmup in (0, 1, 13)
    if warmup < steps - 3
    for kind, params in [
        ("constant", {}), ("linear", {}), ("linear", {"start_factor": 0.3, "end_factor": 1.0}),
        ("linear", {"end_factor": 0.0}), ("cosine", {}), ("cosine", {"eta_min": 1e-5}), ("cosine_with_restarts", {}),
        ("cosine_with_restarts", {"T_0": 7, "T_mult": 2, "eta_min": 0}), ("cosine_with_restarts", {"T_0": 5, "T_mult": 1}),
        ("polynomial", {}), ("polynomial", {"power": 2.5}), ("step", {}), ("step", {"step_size": 9, "gamma": 0.7}),
    ]
]  # fmt: skip


def scheduler(kind, opt, steps, params):
    """With the defaults of the reference trainer."""
    match kind:
        case "linear":
            return schedulers.LinearLR(opt, total_iters=steps, **{"start_factor": 1.0, "end_factor": 0.1} | params)
        case "cosine":
            return schedulers.CosineAnnealingLR(opt, T_max=steps, **{"eta_min": 0} | params)
        case "cosine_with_restarts":
            return schedulers.CosineAnnealingWarmRestarts(
                opt, **{"T_0": steps // 4, "T_mult": 1, "eta_min": 5e-5} | params)  # fmt: skip
        case "polynomial":
            return schedulers.PolynomialLR(opt, total_iters=steps, **{"power": 1.0} | params)
        case "step":
            return schedulers.StepLR(opt, **{"step_size": steps // 2, "gamma": 0.1} | params)


def optimizer_of_bases():
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in BASES])


def rates_of(kind, steps, params) -> list[list[float]]:
    opt = optimizer_of_bases()
    schedule = scheduler(kind, opt, steps, params)
    rates = []
    for _ in range(steps):
        rates.append([g["lr"] for g in opt.param_groups])
        opt.step()
        if schedule:
            schedule.step()
    return rates


def warm(kind, steps, warmup, params) -> list[list[float]]:
    """LinearLR up to the curve's first rates, then the curve over what is left of the steps."""
    curve = rates_of(kind, steps - warmup, params)
    opt = optimizer_of_bases()
    for group, first in zip(opt.param_groups, curve[0]):
        group["lr"] = first
    if not warmup:
        return curve
    ramp = schedulers.LinearLR(opt, start_factor=1 / (warmup + 1), end_factor=1, total_iters=warmup)
    rates = []
    for _ in range(warmup):
        rates.append([g["lr"] for g in opt.param_groups])
        opt.step()
        ramp.step()
    return rates + curve


def accelerated(accumulation: int) -> list[list[float]]:
    """The rates at which accelerate's optimizer steps, where the scheduler is called for each batch."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    opt = optimizer_of_bases()
    model = torch.nn.Linear(1, 1)
    steps = 40
    prepared = accelerator.prepare(model, opt, scheduler("linear", opt, steps, {}))
    rates = []
    for _ in range(steps * accumulation):
        with accelerator.accumulate(prepared[0]):
            if accelerator.sync_gradients:
                rates.append([g["lr"] for g in opt.param_groups])
            prepared[1].step()
            prepared[1].zero_grad()
            prepared[2].step()
    return rates


def write_schedules() -> None:
    tensors, cases = {}, []
    for kind, steps, warmup, params in SCHEDULES:
        tensors[str(len(cases))] = torch.tensor(warm(kind, steps, warmup, params), dtype=torch.float64)
        cases.append({"kind": kind, "steps": steps, "warmup": warmup, "params": params})
    for accumulation in (1, 3):
        tensors[str(len(cases))] = torch.tensor(accelerated(accumulation), dtype=torch.float64)
        cases.append({"kind": "linear", "steps": 40, "warmup": 0, "params": {}})
    save(tensors, "schedules", {"cases": json.dumps(cases), "bases": json.dumps(BASES)})


def save(tensors: dict, name: str, metadata: dict) -> None:
    FOLDER.mkdir(exist_ok=True)
    packages = ["bitsandbytes", "prodigyopt", "lion-pytorch", "transformers", "accelerate"]
    metadata |= {"source": json.dumps(origin(*packages))}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata=metadata)
    print(name, len(tensors), (FOLDER / f"{name}.safetensors").stat().st_size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_optimizers()
    write_quantisation()
    write_schedules()
