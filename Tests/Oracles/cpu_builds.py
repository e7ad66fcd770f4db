"""Lets PyPI's torchaudio and torchvision load beside a CPU build of torch: import this before them.

What they compile is for CUDA builds; resampling, spectrograms and resizing are Python code over torch.
"""

import sys
import types

import torch

extension = types.ModuleType("torchaudio._extension")
extension._IS_ALIGN_AVAILABLE = extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
extension.fail_if_no_align = lambda function: function
sys.modules["torchaudio._extension"] = extension

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
