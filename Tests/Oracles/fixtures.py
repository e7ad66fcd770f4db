"""Writes fixtures: one folder per case, in the format that `ltx probe` reads and its comparison expects."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent / "Fixtures"
MODELS = ROOT / "models"

# Implementations that round at other places lie apart by more than their own distance from float32: twice was seen.
BFLOAT16_MARGIN = 3.0
BFLOAT16_FLOOR = 1e-2


def generator(name: str) -> torch.Generator:
    """A generator whose seed follows from a name, so that a new case never changes the others."""
    return torch.Generator().manual_seed(seed_of(name))


def seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def origin(*packages: str) -> list[str]:
    return [f"{p} {version(p)}" for p in packages] + [f"torch {version('torch').split('+')[0]}"]


def plain(tensors: dict) -> dict:
    """F32 and I64 only, contiguous and not sharing memory."""
    out = {}
    for key, value in tensors.items():
        if value is None:
            continue
        kind = torch.float32 if value.is_floating_point() else torch.int64
        out[key] = value.detach().to(kind).contiguous().clone()
    return out


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    if want.numel() == 0:
        return 0.0
    return float((got.double() - want.double()).abs().max() / want.double().abs().max().clamp(min=1e-12))


def write_case(
    component: str,
    name: str,
    inputs: dict,
    expected: dict,
    *,
    source: list[str],
    args: list[str] = (),
    dtype: str = "float32",
    tolerance=1e-4,
    exact: list[str] = (),
    together: dict | None = None,
    what: str = "",
    why: str = "",
    second_opinion: dict | None = None,
    float32: dict | None = None,
) -> None:
    """`float32`: what the reference gives in float32 for a bfloat16 case; sets the tolerances of that case.

    `together`: {prefix: tolerance} for all tensors of a prefix as one vector, in the 2-norm.
    """
    folder = ROOT / component / name
    folder.mkdir(parents=True, exist_ok=True)
    inputs, expected = plain(inputs), plain(expected)
    for key, value in expected.items():
        if not torch.isfinite(value).all():
            raise SystemExit(f"{component}/{name}: {key} is not finite")
    case = {"component": component}
    if what:
        case["what"] = what
    case |= {"args": list(args), "dtype": dtype, "inputs": "inputs.safetensors", "expected": "expected.safetensors"}
    if exact:
        case["exact"] = list(exact)
    if float32 is not None:
        float32 = plain(float32)
        case["tolerance"] = {
            key: round(max(BFLOAT16_FLOOR, BFLOAT16_MARGIN * relative_error(value, float32[key])), 4)
            for key, value in expected.items()
            if key not in exact
        }
        case["why"] = "three times the reference's own distance between bfloat16 and float32, at least 1e-2"
    else:
        case["tolerance"] = tolerance
    if together:
        case["together"] = together
    if why:
        case["why"] = why
    case["source"] = source
    case["seed"] = seed_of(f"{component}/{name}")
    if second_opinion:
        case["second_opinion"] = second_opinion
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")
    note = {"origin": json.dumps({"source": source, "seed": case["seed"], "dtype": dtype})}
    save_file(inputs, folder / "inputs.safetensors", metadata=note)
    save_file(expected, folder / "expected.safetensors", metadata=note)
    spread = {k: f"{float(v.double().std()):.2g}" for k, v in list(expected.items())[:3] if v.numel() > 1}
    print(f"  {component}/{name}  std {spread}", flush=True)


def agree(case: str, package: str, got: dict, want: dict, limit: float) -> dict:
    """Compares with an independent implementation and says by how much it differs; stops beyond `limit`."""
    errors = {key: relative_error(got[key], want[key]) for key in got}
    worst = max(errors.values())
    if not worst <= limit:
        raise SystemExit(f"{case}: {package} differs from the reference by {errors}, allowed {limit}")
    return {"source": f"{package} {version(package)}", "largest_relative_difference": float(f"{worst:.1e}")}


def read_checkpoint(path: Path) -> tuple[dict, dict]:
    """(tensors, configuration) of a unified checkpoint."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    return load_file(path), config
