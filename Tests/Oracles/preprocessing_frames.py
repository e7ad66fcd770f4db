"""Pixels as they enter the video VAE, and masks in latent cells: by the rules of ltx-trainer 1.2.0, in PyAV, Pillow, torchvision."""

import io
import struct
from pathlib import Path

import beside_cpu_torch  # noqa: F401  (before torchvision)
import av
import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch.nn.functional import avg_pool2d, interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize, to_tensor

CELL, GROUP = 32, 8


def frames_of(path: Path, count: int) -> torch.Tensor:
    """The first frames of a clip: [F, 3, H, W], 0 to 1."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if len(frames) == count:
                break
            frames.append(frame.to_ndarray(format="rgb24"))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float().div(255)


def picture_of(path: Path) -> torch.Tensor:
    """[1, 3, H, W], 0 to 1, upright."""
    with Image.open(path) as picture:
        picture = ImageOps.exif_transpose(picture)
    profile = picture.info.get("icc_profile")
    if profile is None:
        return to_tensor(picture.convert("RGB"))[None]
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return to_tensor(ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode="RGB"))[None]


def filling(x: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Scaled until it covers the rectangle, and cut at its centre: [F, C, height, width], 0 to 1."""
    h, w = x.shape[2:]
    size = [height, int(w * height / h)] if w / h > width / height else [int(h * width / w), width]
    x = resize(x, size, InterpolationMode.BICUBIC)
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width].clamp(0, 1)


def every(count: int, factor: int) -> list[int]:
    """The frames that a temporal factor keeps: 0, 1, 1 + factor, …"""
    return [0, *range(1, count, factor)]


def pixels(x: torch.Tensor, width: int, height: int, factor: int = 1) -> torch.Tensor:
    """As the VAE gets them: [3, F, height, width], -1 to 1, float16."""
    x = filling(x, width, height)[every(len(x), factor)]
    return ((x - 0.5) / 0.5).permute(1, 0, 2, 3).to(torch.float16).contiguous()


# clip, bucket WxHxF, temporal factor: aspect wider and taller than the clip's, the same, the clip's own size, enlarging.
CLIPS = [
    ("bigbuckbunny", 64, 32, 9, 1),
    ("bigbuckbunny", 32, 64, 9, 1),
    ("bikes", 64, 64, 9, 1),
    ("bikes", 96, 32, 17, 2),
    ("carphone_pristine", 64, 64, 9, 1),
    ("carphone_pristine", 176, 144, 1, 1),
    ("carphone_pristine", 192, 160, 1, 1),
]


def clip_pixels(media: Path) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{w}x{h}x{f}" + (f".every{factor}" if factor > 1 else ""):
            pixels(frames_of(media / f"{name}.mp4", f), w, h, factor)
        for name, w, h, f, factor in CLIPS
    }


def wide_profile() -> bytes:
    """An ICC profile of three primaries and one curve: those of Display P3, gamma 2.2."""
    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(2.2 * 256), 0)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(78), b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249), b"rXYZ": b"XYZ " + bytes(4) + fixed(0.51512, 0.2412, -0.00105),
        b"gXYZ": b"XYZ " + bytes(4) + fixed(0.29198, 0.69225, 0.04189), b"bXYZ": b"XYZ " + bytes(4) + fixed(0.1571, 0.06657, 0.78407),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s12x4s28x", 132 + 12 * len(tags) + len(data), b"", 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return header + fixed(0.9642, 1, 0.8249) + bytes(48) + table + data


def write_pictures(folder: Path) -> None:
    """Small pictures of each kind, from one formula: waves of colour with an edge."""
    y, x = np.mgrid[0:60, 0:88]
    rgb = np.stack([127 + 90 * np.sin(x / 9 + c) + 38 * np.cos(y / (5 + c)) for c in range(3)], -1)
    rgb[10:30, 20:50] = [230, 60, 20]
    rgb = np.clip(np.round(rgb), 0, 255).astype(np.uint8)
    colour = Image.fromarray(rgb)
    turned = Image.Exif()
    turned[0x0112] = 6
    colour.rotate(90, expand=True).save(folder / "orientation.jpg", quality=95, subsampling=0, exif=turned)
    colour.save(folder / "profile.png", icc_profile=wide_profile())
    colour.save(folder / "subsampled.jpg", quality=90, subsampling=2)
    colour.convert("L").save(folder / "grey.png")
    colour.convert("L").save(folder / "grey.jpg", quality=95)
    alpha = Image.fromarray(np.clip(x * 4, 0, 255).astype(np.uint8))
    colour.putalpha(alpha)
    colour.save(folder / "alpha.png")
    colour.convert("LA").save(folder / "grey_alpha.png")
    Image.fromarray(rgb).quantize(32, dither=Image.Dither.NONE).save(folder / "palette.png", transparency=3)
    Image.fromarray(rgb[..., 0] > 128).save(folder / "bilevel.png")
    deep = rgb.astype(np.uint16) * 256 + (x[..., None] * 3 % 256).astype(np.uint16)
    Image.fromarray(deep[..., 1]).save(folder / "deep_grey.png")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 88, 60, "rgb48be", 1
    packets = encoder.encode(av.VideoFrame.from_ndarray(deep, format="rgb48be")) + encoder.encode(None)
    (folder / "deep.png").write_bytes(b"".join(bytes(p) for p in packets))


def picture_pixels(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        if path.name.startswith("mask"):
            continue
        x = picture_of(path)
        if path.name == "deep_grey.png":
            # The reference takes all above 255 for white; the picture itself is the upper byte.
            found[f"{path.name}.reference"] = pixels(x, 64, 64)
            with Image.open(path) as picture:
                levels = np.asarray(picture).astype(np.int64) // 256
            x = torch.from_numpy(levels).float().div(255).expand(1, 3, -1, -1)
        found[path.name] = pixels(x, 64, 64)
    return found


def write_masks(folder: Path) -> None:
    """A clip of 25 frames whose white rectangle wanders over grey steps, its first 10 frames alone, and a picture."""
    frames = []
    for index in range(25):
        frame = np.zeros((72, 128, 3), np.uint8)
        frame[:, 96:] = 140
        frame[56:, :40] = 110
        left = 4 * index
        frame[8:44, left : left + 40] = 255
        # A flash in one frame only.
        if index in (8, 16):
            frame[40:72, 40:96] = 255
        frames.append(frame)
    for name, kept in (("mask", frames), ("mask_short", frames[:10])):
        with av.open(str(folder / f"{name}.mp4"), "w", options={"fflags": "+bitexact"}) as out:
            stream = out.add_stream("libx264", rate=25, options={"crf": "10", "threads": "1", "x264-params": "threads=1"})
            stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
            for frame in kept:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode(None))
    y, x = np.mgrid[0:72, 0:128]
    red = x * 3 // 2
    picture = np.stack([red, red, np.where(y > 30, 255, 0)], -1).astype(np.uint8)
    picture[(x + y) % 64 < 12] = 255
    Image.fromarray(picture).save(folder / "mask.png")


# width, height, frames of the clip's bucket.
MASK_BUCKETS = [(96, 96, 25), (128, 64, 17), (64, 96, 25)]


def reference_mask(x: torch.Tensor, is_picture: bool, width: int, height: int, frames: int) -> torch.Tensor:
    """As ltx-trainer 1.2.0: stretched, frames grouped from frame 0. `x`: [F, 3, H, W]."""
    grey = x.mean(1, keepdim=True)
    if is_picture:
        grey = resize(grey, [height, width]).expand(frames, -1, -1, -1)
    else:
        grey = interpolate(grey[:frames], size=(height, width), mode="nearest")
    cells = avg_pool2d(grey, CELL)[:, 0]
    groups = torch.nn.functional.pad(cells, (0, 0, 0, 0, 0, -len(cells) % GROUP))
    groups = groups.unflatten(0, (-1, GROUP)).amax(1)
    return (groups[: (frames - 1) // GROUP + 1] > 0.5).float()


def aligned_mask(x: torch.Tensor, is_picture: bool, width: int, height: int, frames: int) -> torch.Tensor:
    """Cells that lie where the clip's do: filled like the clip; the first frame alone, then eight each. Not yet compared with 0.5.

    A clip that ends early gives the groups that have a frame.
    """
    grey = filling(x[:frames], width, height).mean(1, keepdim=True)
    if is_picture:
        grey = grey.expand(frames, -1, -1, -1)
    cells = avg_pool2d(grey, CELL)[:, 0]
    return torch.stack([cells[:1].amax(0)] + [group.amax(0) for group in cells[1:].split(GROUP)])


def masks(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for name in ("mask.mp4", "mask_short.mp4", "mask.png"):
        is_picture = name.endswith("png")
        for w, h, f in MASK_BUCKETS:
            x = picture_of(folder / name) if is_picture else frames_of(folder / name, f)
            key = f"{name}.{w}x{h}x{f}"
            found[f"{key}.reference"] = reference_mask(x, is_picture, w, h, f)
            cells = aligned_mask(x, is_picture, w, h, f)
            found[f"{key}.cells"] = cells.contiguous()
            found[f"{key}.aligned"] = (cells > 0.5).float()
            near = (cells - 0.5).abs().min().item()
            print(f"  {key}: nearest cell to 0.5 by {near:.4f}, mean {found[f'{key}.aligned'].mean():.2f}")
    return found
