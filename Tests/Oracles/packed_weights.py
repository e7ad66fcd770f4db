"""Fixtures of weights in 4 and 2 bits: `Fixtures/packed`, by optimum-quanto, bitsandbytes and comfy-kitchen.

Run by hand, with the packages of requirements.txt:

    venv/bin/python Tests/Oracles/packed_weights.py
"""

import json

import torch
from safetensors.torch import save_file

from fixtures import ROOT, generator, origin

FOLDER = ROOT / "packed"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Rows and columns. Groups of quanto: 128, 96, 64, 32, and complete rows; an odd number of groups;
# blocks of bitsandbytes that cross rows, that are incomplete, and an odd number of elements.
SHAPES = [(6, 256), (5, 288), (3, 320), (6, 160), (6, 130), (5, 70), (3, 5)]


def matrix(case: str, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows of different sizes, with a row of zeros, a constant row, and an outlier."""
    rng = generator(f"packed/{case}")
    scales = torch.tensor([1e-3, 1.0, 30.0]).repeat(rows // 3 + 1)[:rows, None]
    weight = torch.randn(rows, columns, generator=rng) * scales
    if rows > 4:
        weight[3] = 0
        weight[4] = 0.37
    weight[0, columns // 2] = 5
    return weight.to(dtype)


def through(tensors: dict, case: str, dense: torch.Tensor) -> None:
    """A linear layer with the dequantized weight: output and the gradient of its input."""
    rng = generator(f"packed/{case}/layer")
    x = torch.randn(2, 3, dense.shape[1], generator=rng).to(dense.dtype).requires_grad_()
    dy = torch.randn(2, 3, dense.shape[0], generator=rng).to(dense.dtype)
    y = torch.nn.functional.linear(x, dense)
    y.backward(dy)
    values = {"x": x, "dy": dy, "y": y, "grad.x": x.grad, "dense": dense}
    tensors |= {f"{case}.{k}": v.detach().clone().contiguous() for k, v in values.items()}


def quanto(weight: torch.Tensor, bits: int):
    """The weight as `quantize` and `freeze` of optimum-quanto store it, without packing for one kernel.

    For qint4 in bfloat16 with groups of 128, quanto then repacks the weight for tinygemm, which replaces the shift by the
    middle of the range, rounded to bfloat16. All other dtypes and groups have these values.
    """
    from optimum.quanto import qint2, qint4
    from optimum.quanto.nn import QLinear
    from optimum.quanto.tensor import MaxOptimizer, WeightQBitsTensor

    kind = qint4 if bits == 4 else qint2
    layer = QLinear(weight.shape[1], weight.shape[0], bias=False, weights=kind, dtype=weight.dtype)
    group = layer.weight_group_size
    scale, shift = MaxOptimizer()(weight, qtype=kind, axis=0, group_size=group)
    return WeightQBitsTensor.quantize(weight, kind, 0, group, scale, shift, optimized=False)


def make_quanto() -> None:
    tensors = {}
    for bits in (4, 2):
        for name, dtype in DTYPES.items():
            for rows, columns in SHAPES:
                case = f"int{bits}_{name}_{rows}x{columns}"
                weight = matrix(case, rows, columns, dtype)
                quantized = quanto(weight, bits)
                tensors |= {
                    f"{case}.weight": weight,
                    f"{case}.codes": quantized._data._data.clone(),
                    f"{case}.scale": quantized._scale.flatten().clone(),
                    f"{case}.shift": quantized._shift.flatten().clone(),
                }
                through(tensors, case, quantized.dequantize())
    save_file(tensors, FOLDER / "quanto.safetensors", metadata={"origin": json.dumps({"source": origin("optimum-quanto")})})


def make_saved_quanto() -> None:
    """Layers as optimum-quanto saves them, under the names of its state dict.

    Of a weight that quanto has repacked for tinygemm, it saves the layout of all others again. `dense` has these values.
    """
    from optimum.quanto import freeze, qfloat8, qint2, qint4, qint8, quantize
    from optimum.quanto.tensor import WeightQBitsTensor

    tensors = {}
    for kind in (qint4, qint2, qint8, qfloat8):
        for name, dtype in DTYPES.items() if kind.bits < 8 else [("bfloat16", torch.bfloat16)]:
            for rows, columns in ((16, 256), (5, 288), (6, 160), (5, 70)):
                case = f"{kind.name}_{name}_{rows}x{columns}"
                model = torch.nn.Sequential(torch.nn.Linear(columns, rows)).to(dtype)
                with torch.no_grad():
                    model[0].weight.copy_(matrix(case, rows, columns, dtype))
                    if kind.is_floating_point:  # of a row of zeros, quanto stores NaN
                        model[0].weight[3] = 1
                    model[0].bias.copy_(torch.randn(rows, generator=generator(f"packed/{case}/bias")))
                quantize(model, weights=kind)
                freeze(model)
                saved = {k.removeprefix("0."): v.detach().clone() for k, v in model.state_dict().items()}
                weight = model[0].weight
                if kind.bits < 8 and type(weight) is not WeightQBitsTensor:
                    weight = weight.weight_qbits_tensor()
                tensors |= {f"{case}.{k}": v for k, v in saved.items()}
                tensors[f"{case}.dense"] = weight.dequantize().clone()
    save_file(tensors, FOLDER / "quanto_saved.safetensors", metadata={"origin": json.dumps({"source": origin("optimum-quanto")})})


def dequantized(codes: torch.Tensor, state, dtype: torch.dtype) -> torch.Tensor:
    """The values by the implementation that bitsandbytes uses on every device without a kernel of its own.

    For rows that are not a multiple of the block, its kernel for CPUs with AVX-512 takes scales of other blocks: in 0.50.2 a
    matrix of 5 x 288 is off by 73 where the largest rounding error is 9.
    """
    from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
    from bitsandbytes.functional import dequantize_blockwise

    absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
    compute = _dequantize_4bit_compute.__wrapped__
    return compute(codes.reshape(-1), absmax.float(), state.code, state.blocksize, state.shape, dtype)


def make_normal_float() -> None:
    from bitsandbytes.functional import quantize_4bit

    tensors = {}
    for name, dtype in DTYPES.items():
        for rows, columns in SHAPES:
            case = f"nf4_{name}_{rows}x{columns}"
            weight = matrix(case, rows, columns, dtype)
            codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4")
            tensors |= {f"{case}.weight": weight, f"{case}.codes": codes.flatten(), f"{case}.absmax": state.absmax.clone()}
            through(tensors, case, dequantized(codes, state, dtype))
    note = {"origin": json.dumps({"source": origin("bitsandbytes")})}
    save_file(tensors, FOLDER / "nf4.safetensors", metadata=note)

    # Layers as bitsandbytes saves them.
    saved = {}
    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            for rows, columns in ((6, 320), (5, 70)):
                case = f"{kind}_{'nested' if nested else 'plain'}_{rows}x{columns}"
                weight = matrix(case, rows, columns, torch.bfloat16)
                codes, state = quantize_4bit(weight, blocksize=64, quant_type=kind, compress_statistics=nested)
                saved[f"{case}.weight"] = codes
                saved |= {f"{case}.weight.{k}": v.clone() for k, v in state.as_dict(packed=True).items()}
                saved[f"{case}.dense"] = dequantized(codes, state, torch.float32)
    save_file(saved, FOLDER / "bitsandbytes.safetensors", metadata=note)


def make_nvfp4() -> None:
    import comfy_kitchen as ck

    tensors = {}
    for rows, columns in ((24, 64), (132, 80), (128, 64)):
        case = f"nvfp4_{rows}x{columns}"
        weight = matrix(case, rows, columns, torch.float32)
        scale = weight.abs().amax() / (448.0 * 6.0)
        # The Python implementation; the others differ in rounding.
        with ck.use_backend("eager"):
            codes, scales = ck.quantize_nvfp4(weight, scale)
            dense = ck.dequantize_nvfp4(codes, scale, scales, torch.float32)
        tensors |= {
            f"{case}.values": weight, f"{case}.weight": codes, f"{case}.weight_scale": scales, f"{case}.weight_scale_2": scale,
            f"{case}.dense": dense,
        }  # fmt: skip
    note = {"origin": json.dumps({"source": origin("comfy-kitchen")})}
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / "nvfp4.safetensors", metadata=note)


def decibels(exact: torch.Tensor, found: torch.Tensor) -> float:
    """The ratio of signal to noise in dB."""
    exact, found = exact.double(), found.double()
    return float(10 * torch.log10(exact.square().sum() / (found - exact).square().sum()))


def make_noise() -> None:
    """The libraries' errors for normally distributed weights."""
    import comfy_kitchen as ck
    from bitsandbytes.functional import quantize_4bit
    from optimum.quanto import qfloat8, qint8
    from optimum.quanto.tensor import AbsmaxOptimizer, quantize_weight

    weight = torch.randn(96, 512, generator=generator("packed/noise")).to(torch.bfloat16)
    wide = weight.float()
    found = {}
    for name, kind in (("int8-quanto", qint8), ("fp8-quanto", qfloat8)):
        scale = AbsmaxOptimizer()(weight, qtype=kind, axis=0)
        found[name] = quantize_weight(weight, kind, 0, scale, optimized=False).dequantize()
    for name, bits in (("int4-quanto", 4), ("int2-quanto", 2)):
        found[name] = quanto(weight, bits).dequantize()
    for name, nested in (("nf4", False), ("nf4, double quantization", True)):
        codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=nested)
        found[name] = dequantized(codes, state, torch.bfloat16)
    with ck.use_backend("eager"):
        scale = wide.abs().amax() / (448.0 * 6.0)
        codes, scales = ck.quantize_nvfp4(wide, scale)
        found["nvfp4"] = ck.dequantize_nvfp4(codes, scale, scales, torch.float32)
        scale = wide.abs().amax() / 448
        found["fp8"] = ck.quantize_per_tensor_fp8(wide, scale).float() * scale
        scale = wide.abs().amax(1, keepdim=True) / 127
        found["int8"] = (wide / scale).round().clamp(-128, 127) * scale
    save_file({"weight": weight}, FOLDER / "noise.safetensors")
    report = {
        "source": origin("optimum-quanto", "bitsandbytes", "comfy-kitchen"),
        "decibels": {name: round(decibels(weight, values), 4) for name, values in found.items()},
    }
    (FOLDER / "noise.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["decibels"], indent=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    make_quanto()
    make_saved_quanto()
    make_normal_float()
    make_nvfp4()
    make_noise()
