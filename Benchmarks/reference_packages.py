"""Lets the reference's trainer be loaded from a checkout (PyPI has no such package), unmodified, on the CPU.

Needs torch, torchvision, torchaudio, torchcodec (and an FFmpeg that it finds), av, transformers, accelerate, pandas, typer,
rich, einops, scipy, pillow-heif, opencv-python-headless, imageio, optimum-quanto, peft, sentencepiece, safetensors, wandb.
`transformers` must be older than 5.15 for the dataset scripts.
"""
import os
import sys
import types
from pathlib import Path


def without_compiled_parts():
    """Lets PyPI's torchvision and torchaudio load beside a CPU build of torch: what they compile is for CUDA builds, and
    nothing of it is used here (torchaudio decodes by torchcodec)."""
    import torch

    extension = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
    extension.fail_if_no_align = lambda function: function
    extension._load_lib = lambda name: False
    sys.modules["torchaudio._extension"] = extension
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operation in ("nms", "qnms"):
            library.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
        torchvision.kept_library = library  # its end would undefine the operation


def script(trainer, name, threads):
    """The path of a script of packages/ltx-trainer, whose packages can then be imported, with so many threads."""
    trainer = Path(trainer).resolve()
    path = trainer / "scripts" / name
    if not path.is_file():
        sys.exit(f"{path} is missing: the first argument is the folder packages/ltx-trainer of the reference")
    os.environ["OMP_NUM_THREADS"] = threads  # read when torch is loaded
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    packages = [trainer / "src"] + [trainer.parent / name / "src" for name in ("ltx-core", "ltx-pipelines")]
    sys.path[:0] = [str(path.parent)] + [str(path) for path in packages if path.is_dir()]
    without_compiled_parts()
    return str(path)
