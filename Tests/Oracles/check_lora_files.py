#!/usr/bin/env python3
"""Loads LoRA files that `ltx lora` wrote with ltx-core and with diffusers, and compares what they do.

    check_lora_files.py path/to/ltx

The effect that is wanted comes from the fixtures' own tensors in float32, so nothing of `ltx` takes part in it. Prints the
largest difference of each file, relative to the largest velocity, and fails beyond the tolerance.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.modules["torchaudio"] = None

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import lora_cases  # noqa: E402
import reference  # noqa: E402
from fixtures import MODELS, relative_error  # noqa: E402
from transformer_cases import Draw, checkpoint_of  # noqa: E402

# Rounding the factors to bfloat16 moves velocities by less than this; a wrong scale moves them by far more.
TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2}


def main() -> int:
    binary, failures = sys.argv[1], 0
    torch.set_num_threads(1)
    checkpoint = checkpoint_of(lora_cases.MODEL)
    tensors, config = checkpoint
    draw = Draw("check_lora_files", config, 1, grid=(2, 2, 1), audio_frames=3, text=3)
    inputs = draw.stream("video", [0.7]) | draw.stream("audio", [0.7])
    names = ("lora_kohya", "lora_comfyui_alpha", "lora_diffusers")
    folded = {name: lora_cases.folded(lora_cases.factors(name, tensors)) for name in names}
    folded["lora_all"] = load_file(MODELS / "lora_all.safetensors")

    def velocity(loras):
        weights = reference.add_loras(tensors, loras)
        return reference.transformer(reference.load_transformer((weights, config), torch.float32), inputs)

    def core(path):
        """Keys as ltx-core's map renames them, factors as its fusing multiplies them, in float32."""
        from ltx_core.loader.sd_ops import LTXV_LORA_COMFY_RENAMING_MAP as renaming

        lora = {renaming.apply_to_key(k): v for k, v in load_file(path).items()}
        weights = dict(tensors)
        for key in lora:
            if key.endswith(".lora_A.weight"):
                base = "model.diffusion_model." + key.replace(".lora_A.weight", ".weight")
                weights[base] = weights[base].float() + lora[key.replace("lora_A", "lora_B")].float() @ lora[key].float()
        return reference.transformer(reference.load_transformer((weights, config), torch.float32), inputs)

    def diffusers(path):
        return lora_cases.diffusers_velocity(checkpoint, path, inputs)

    def check(what, got, want, tolerance):
        nonlocal failures
        error = max(relative_error(got[key], want[key]) for key in want)
        failures += not error <= tolerance
        print(f"{'ok  ' if error <= tolerance else 'FAIL'} {what}: {error:.1e}, allowed {tolerance:.0e}", flush=True)

    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:

        def ltx(*arguments):
            subprocess.run([binary, "lora", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

        plain = velocity([])
        for name in names:
            source, want = MODELS / f"{name}.safetensors", velocity([(folded[name], 1.0)])
            moved = max(relative_error(plain[key], want[key]) for key in want)
            print(f"     {name} itself moves the velocity by {moved:.1e}")
            for dtype, tolerance in TOLERANCES.items():
                for target in ("comfyui", "diffusers"):
                    out = Path(folder) / f"{name}-{target}.safetensors"
                    ltx("convert", source, out, "--to", target, "--dtype", dtype)
                    if target == "comfyui":
                        check(f"{name} to {target}, {dtype}, in ltx-core", core(out), want, tolerance)
                    check(f"{name} to {target}, {dtype}, in diffusers", diffusers(out), want, tolerance)
        a, b = MODELS / "lora_kohya.safetensors", MODELS / "lora_all.safetensors"
        out = Path(folder) / "merged.safetensors"
        ltx("merge", f"{a}:0.8", f"{b}:-0.3", "--output", out)
        want = velocity([(folded["lora_kohya"], 0.8), (folded["lora_all"], -0.3)])
        check("merged, in ltx-core", core(out), want, TOLERANCES["float32"])
        check("merged, in diffusers", diffusers(out), want, TOLERANCES["float32"])
        ltx("scale", a, out, "--by", "0.5", "--stream", "audio")
        half = {
            k: v * 0.5 if "lora_B" in k and ".audio_to" not in k and ("audio_" in k and "to_audio" not in k) else v
            for k, v in folded["lora_kohya"].items()
        }
        half = {k: folded["lora_kohya"][k] if "av_ca_" in k else v for k, v in half.items()}
        check("audio halved, in ltx-core", core(out), velocity([(half, 1.0)]), TOLERANCES["float32"])
        ltx("resize", b, out, "--rank", "2")
        best = {}
        for key, down in folded["lora_all"].items():
            if key.endswith(".lora_A.weight"):
                up = folded["lora_all"][key.replace("lora_A", "lora_B")]
                u, s, v = torch.linalg.svd(up.double() @ down.double(), full_matrices=False)
                best[key], best[key.replace("lora_A", "lora_B")] = v[:2].float(), (u[:, :2] * s[:2]).float()
        check("resized to rank 2, in ltx-core", core(out), velocity([(best, 1.0)]), TOLERANCES["float32"])
        check("resized to rank 2, in diffusers", diffusers(out), velocity([(best, 1.0)]), TOLERANCES["float32"])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
