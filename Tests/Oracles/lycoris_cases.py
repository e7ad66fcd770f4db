#!/usr/bin/env python3
"""LoKr and LoHa by LyCORIS, for Tests/Fixtures/lycoris.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0+cpu lycoris-lora==4.1.3 safetensors
    venv/bin/python Tests/Oracles/lycoris_cases.py            # writes the fixtures
    venv/bin/python Tests/Oracles/lycoris_cases.py --check LORA BASE MERGED  # files that swift-ltx wrote

Each case of layers.safetensors is a linear layer with an adapter: weight, bias, x, dy, the
adapter's tensors as LyCORIS saves them, the output, the gradients of x and of every tensor, and the
merged weight. initial.json has the shapes and the zero tensors of new adapters, and LyCORIS's
factorization of sizes.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lycoris.functional import factorization
from lycoris.modules import LohaModule, LokrModule

FIXTURES = Path(__file__).parent.parent / "Fixtures" / "lycoris"

# name: (kind, outputs, inputs, rank, alpha, options)
CASES = {
    "lokr": (LokrModule, 12, 16, 1, 1.5, {}),
    "lokr_both": (LokrModule, 36, 16, 1, 2.0, {"decompose_both": True}),
    "lokr_factor": (LokrModule, 12, 16, 3, 1.5, {"factor": 2}),
    "lokr_rs": (LokrModule, 12, 16, 3, 1.5, {"factor": 2, "rs_lora": True}),
    "lokr_full": (LokrModule, 12, 16, 64, 3.0, {}),
    "loha": (LohaModule, 12, 16, 2, 3.0, {}),
    "loha_wide": (LohaModule, 12, 16, 4, 1.0, {}),
    "loha_rs": (LohaModule, 12, 16, 2, 3.0, {"rs_lora": True}),
}
SHAPES = [(24, 32, 2), (4096, 4096, 16), (2048, 8192, 4), (250, 127, 8), (4096, 2048, 64), (32, 128, 2)]
OPTIONS = [{}, {"factor": 8}, {"decompose_both": True}, {"full_matrix": True}, {"factor": 4, "decompose_both": True}]


def module(kind, outputs, inputs, rank, alpha, options):
    linear = torch.nn.Linear(inputs, outputs)
    adapter = kind("adapter", linear, lora_dim=rank, alpha=alpha, **options)
    return linear, adapter


def layers():
    tensors = {}
    torch.manual_seed(0)
    for name, (kind, outputs, inputs, rank, alpha, options) in CASES.items():
        linear, adapter = module(kind, outputs, inputs, rank, alpha, options)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
        adapter.apply_to()
        x = torch.randn(1, 3, inputs, requires_grad=True)
        dy = torch.randn(1, 3, outputs)
        y = linear(x)
        y.backward(dy)
        saved = adapter.custom_state_dict()
        case = {"weight": linear.weight, "bias": linear.bias, "x": x, "dy": dy, "y": y, "grad.x": x.grad}
        case |= {f"adapter.{key}": value for key, value in saved.items()}
        case |= {f"grad.{key}": value.grad for key, value in adapter.named_parameters() if value.grad is not None}
        # get_merged_weight of LyCORIS 4.1.3 multiplies by the scale twice; forward does so once.
        case["merged"] = linear.weight + adapter.get_weight(linear.weight.shape)
        tensors |= {f"{name}.{key}": value.detach().clone().float().contiguous() for key, value in case.items()}
    save_file(tensors, str(FIXTURES / "layers.safetensors"))


def initial():
    cases = []
    for outputs, inputs, rank in SHAPES:
        for kind, options in [(LokrModule, options) for options in OPTIONS] + [(LohaModule, {})]:
            _, adapter = module(kind, outputs, inputs, rank, 1.0, options)
            tensors = {key: value for key, value in adapter.named_parameters() if key.startswith(("lokr", "hada"))}
            cases.append({
                "kind": {"LokrModule": "lokr", "LohaModule": "loha"}[kind.__name__],
                "outputs": outputs, "inputs": inputs, "rank": rank,
                "factor": options.get("factor", -1),
                "decomposeBoth": options.get("decompose_both", False),
                "fullMatrix": options.get("full_matrix", False),
                "shapes": {key: list(value.shape) for key, value in tensors.items()},
                "zeros": sorted(key for key, value in tensors.items() if not value.any()),
                "deviations": {key: round(value.std().item(), 4) for key, value in tensors.items() if value.numel() >= 4096},
            })
    sizes = [1, 2, 36, 64, 127, 128, 250, 360, 512, 1024, 2048, 3840, 4096, 16384]
    factors = [[size, factor, *factorization(size, factor)] for size in sizes for factor in [-1, 2, 4, 8, 16]]
    lines = [json.dumps(case) for case in cases]
    text = '{"cases": [\n' + ",\n".join(lines) + '\n],\n"factorizations": ' + json.dumps(factors) + "}\n"
    (FIXTURES / "initial.json").write_text(text)


def check(lora, base, merged):
    """Loads a LoKr or LoHa file that `ltx train` wrote, and compares the weights that LyCORIS makes of it with those of
    `ltx lora merge LORA --into BASE`."""
    tensors, weights, expected = load_file(lora), load_file(base), load_file(merged)
    layers = {}
    for key, value in tensors.items():
        path, name = key.rsplit(".", 1)
        layers.setdefault(path, {})[name] = value
    largest = 0.0
    for path, own in sorted(layers.items()):
        kind = LokrModule if any(name.startswith("lokr") for name in own) else LohaModule
        unused = set(own) - set(kind.weight_list)
        assert not unused, f"{path}: LyCORIS does not read {unused}"
        weight = weights[f"model.{path}.weight"].float()
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        with torch.no_grad():
            linear.weight.copy_(weight)
            adapter = kind.make_module_from_state_dict("adapter", linear, *[own.get(name) for name in kind.weight_list])
            # The forward pass, because LoHa's get_diff_weight of 4.1.3 multiplies by the scale twice.
            adapter.apply_to()
            adapted = linear(torch.eye(weight.shape[1])).T
        found = expected[f"model.{path}.weight"].float()
        assert not torch.equal(found, weight), f"{path}: the merged weight is unchanged"
        # The merged weight is rounded to bfloat16, and so may the change be.
        error = ((adapted - found).abs() / weight.abs().max()).max().item()
        largest = max(largest, error)
    print(f"{lora}: {len(layers)} layers, largest difference {largest:.2e} of a layer's largest weight")
    assert largest < 2**-7


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(*sys.argv[2:5])
    else:
        FIXTURES.mkdir(parents=True, exist_ok=True)
        layers()
        initial()
