#!/usr/bin/env python3
"""Reads the .pt files that `ltx preprocess --format pt` writes with PyTorch, and compares them with safetensors of the same.

Run by hand:  check_pt_files.py CACHE_PT CACHE_SAFETENSORS
Both are output folders of one dataset. Every file must load with `weights_only`, hold the same names, and equal tensors;
numbers are Python's in .pt and tensors of one element in safetensors. Exit status 1 if anything differs.
"""
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file


def main():
    ours, other = map(Path, sys.argv[1:3])
    files, wrong = sorted(ours.rglob("*.pt")), 0
    for path in files:
        name = path.relative_to(ours)
        data = torch.load(path, map_location="cpu", weights_only=True)
        wanted = load_file((other / name).with_suffix(".safetensors"))
        problems = [] if data.keys() == wanted.keys() else [f"names {sorted(data)} and {sorted(wanted)}"]
        for key in data.keys() & wanted.keys():
            value = data[key] if isinstance(data[key], torch.Tensor) else torch.tensor([data[key]], dtype=wanted[key].dtype)
            if value.dtype != wanted[key].dtype or not torch.equal(value, wanted[key]):
                problems.append(key)
        if zipfile.ZipFile(path).testzip():
            problems.append("a checksum")
        wrong += bool(problems)
        print(name, "differs: " + ", ".join(problems) if problems else "equal")
    print(f"{len(files) - wrong} passed, {wrong} failed")
    sys.exit(bool(wrong) or not files)


main()
