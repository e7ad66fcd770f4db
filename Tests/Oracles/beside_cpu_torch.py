"""Lets PyPI's torchvision load beside a CPU build of torch: import this before it.

What it has compiled is for CUDA builds and fails to load; resizing is Python code over torch. (audio_reference.py does the same
for torchaudio.)
"""

import sys

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # It describes operations that only its compiled part has.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operation in ("nms", "qnms"):
        library.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
