"""Frames scaled and cut to a bucket: what PyTorch makes of random pictures.

The steps are those of the reference's dataset scripts (ltx-trainer 1.2.0), whose torchvision hands tensors to
`torch.nn.functional.interpolate` with `mode="bicubic", antialias=True`. Run: `python Tests/Oracles/frame_filling.py`.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

TARGET = Path(__file__).resolve().parent.parent / "Fixtures" / "frame-filling.safetensors"
# width, height of the picture, then of the bucket: shrunk and wider, shrunk and taller, enlarged, shrunk along one
# side only, odd overhang, exact.
CASES = [(90, 50, 32, 32), (41, 97, 64, 32), (20, 13, 64, 64), (64, 50, 64, 32), (53, 32, 32, 32), (32, 64, 32, 64)]


def fill(frame: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """[H, W, 3] uint8 to [3, height, width] in -1..1."""
    x = frame.float().div(255).permute(2, 0, 1)[None]
    h, w = frame.shape[:2]
    if w / h > width / height:
        scaled = (height, int(w * height / h))
    else:
        scaled = (int(h * width / w), width)
    if scaled != (h, w):
        x = torch.nn.functional.interpolate(x, size=scaled, mode="bicubic", align_corners=False, antialias=True)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return (x[0, :, top : top + height, left : left + width].clamp(0, 1) - 0.5) / 0.5


def main() -> None:
    random = torch.Generator().manual_seed(2026)
    tensors = {}
    for index, (w, h, width, height) in enumerate(CASES):
        # Noise over broad patches: overshoots at edges, and detail that aliases without a filter.
        patches = torch.randint(0, 2, (h // 8 + 1, w // 8 + 1, 3), generator=random) * 200
        picture = patches.repeat_interleave(8, 0).repeat_interleave(8, 1)[:h, :w]
        picture = (picture + torch.randint(0, 56, (h, w, 3), generator=random)).to(torch.uint8)
        tensors[f"{index}.frame"] = picture
        tensors[f"{index}.pixels"] = fill(picture, width, height).contiguous()
    save_file(tensors, TARGET, {"source": f"torch {torch.__version__.split('+')[0]}", "seed": "2026", "dtype": "float32"})


if __name__ == "__main__":
    main()
