"""Pictures and clips of many kinds, and the RGB that the reference's readers give for them.

Pictures: Pillow with what ltx-trainer 1.2.0's `open_image_as_srgb` does (EXIF orientation, LittleCMS to sRGB, RGB). Clips:
PyAV's `to_ndarray(format="rgb24")` of a frame. Needs Pillow, opencv-python-headless, av and numpy; run:
`python Tests/Oracles/pictures.py CLIPS`, where CLIPS holds the clips of Scripts/test-media. Profiles are written by hand, for
Pillow can make none but sRGB's.
"""

import io
import json
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import PIL
from PIL import Image, ImageCms, ImageOps

TARGET = Path(__file__).resolve().parent.parent / "Fixtures" / "pictures"
D50 = np.array([0.9642, 1, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65 = (0.3127, 0.3290)
DISPLAY_P3 = [(0.68, 0.32), (0.265, 0.69), (0.15, 0.06)]
ADOBE_RGB = [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)]


def s15(x: float) -> bytes:
    return struct.pack(">i", round(x * 65536))


def xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(s15(v) for v in values)


def curve(values: list[int]) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


def parametric(kind: int, *values: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + b"".join(s15(v) for v in values)


def profile(primaries, trc: bytes, version: int = 4) -> bytes:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    matrix = adapt @ (columns * np.linalg.solve(columns, white))
    name = b"profile\0"
    tags = [(b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)),
            (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", xyz(D50))]
    tags += [(n, xyz(matrix[:, i])) for i, n in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(n, trc) for n in (b"rTRC", b"gTRC", b"bTRC")]
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for n, content in tags:
        content += bytes(-len(content) % 4)
        table += n + struct.pack(">II", start + len(data), len(content))
        data += content
    head = struct.pack(">I", start + len(data)) + b"none" + struct.pack(">I", version << 24) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(s15(v) for v in D50)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + data


def as_srgb(path: Path) -> Image.Image:
    with Image.open(path) as raw:
        image = ImageOps.exif_transpose(raw)
    icc = image.info.get("icc_profile")
    if icc is None:
        return image.convert("RGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")


def make_pictures(image: Image.Image) -> None:
    light = np.linspace(0, 1, 256)
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    srgb = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    save = lambda name, picture=image, **options: picture.save(TARGET / name, **options)
    save("p3.png", icc_profile=profile(DISPLAY_P3, srgb))
    save("p3-table.png", icc_profile=profile(DISPLAY_P3, curve([round(65535 * v) for v in light]), 2))
    save("adobe.png", icc_profile=profile(ADOBE_RGB, curve([563]), 2))
    save("adobe.jpg", icc_profile=profile(ADOBE_RGB, parametric(0, 563 / 256)), quality=95, subsampling="4:4:4")
    save("srgb.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        save(f"exif{orientation}.jpg", exif=exif, quality=90, subsampling="4:4:4")
    exif = Image.Exif()
    exif[0x112] = 6
    save("exif6.png", exif=exif)
    save("halved.jpg", quality=90, subsampling="4:2:0")
    save("odd.jpg", image.crop((0, 0, 55, 39)), quality=90, subsampling="4:2:0")
    grey = image.convert("L")
    save("grey.png", grey)
    save("grey.jpg", grey, quality=90)
    save("bilevel.png", grey.convert("1"))
    save("palette.png", image.quantize(32))
    save("palette-alpha.png", image.quantize(32), transparency=3)
    alpha = Image.fromarray((np.indices((image.height, image.width)).sum(0) * 2 % 256).astype("uint8"))
    for name, picture in (("rgba.png", image.copy()), ("grey-alpha.png", grey.copy())):
        picture.putalpha(alpha)
        save(name, picture)
    wide = np.asarray(image).astype(int)[:, :, ::-1] * 257
    wide = (wide + np.random.default_rng(0).integers(-200, 200, wide.shape)).clip(0, 65535).astype(np.uint16)
    cv2.imwrite(str(TARGET / "rgb16.png"), wide)
    cv2.imwrite(str(TARGET / "rgba16.png"), np.dstack([wide, wide[:, :, 0]]))


# name, pixel format, size, encoder, tags
CLIPS = [
    ("ten-bit.mkv", "yuv420p10le", (96, 64), "libx264", {}),
    ("ten-bit-full.mkv", "yuv420p10le", (96, 64), "libx264", {"color_range": 2}),
    ("ten-bit-422.mkv", "yuv422p10le", (96, 64), "libx264", {}),
    ("full.mkv", "yuvj420p", (96, 64), "libx264", {"color_range": 2}),
    ("bt709.mkv", "yuv420p", (96, 64), "libx264", {"colorspace": 1}),
    ("odd.mkv", "yuv420p", (67, 45), "ffv1", {}),
    ("planes.mkv", "yuv444p", (96, 64), "libx264", {}),
    ("rgb.mkv", "bgr0", (64, 48), "ffv1", {}),
]


def make_clips(clip: Path) -> None:
    with av.open(str(clip)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(62))][60:]
    for name, layout, (width, height), encoder, tags in CLIPS:
        with av.open(str(TARGET / name), "w", options={"fflags": "+bitexact"}) as output:
            stream = output.add_stream(encoder, rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = width, height, layout
            if encoder == "libx264":
                stream.options = {"crf": "14"}
            for key, value in tags.items():
                setattr(stream.codec_context, key, value)
            for index, frame in enumerate(frames):
                scaled = frame.reformat(width=width, height=height, format=layout)
                scaled.pts, scaled.time_base = index, Fraction(1, 25)
                for packet in stream.encode(scaled):
                    output.mux(packet)
            for packet in stream.encode():
                output.mux(packet)


def rgb_of_clip(path: Path) -> Image.Image:
    with av.open(str(path)) as container:
        return Image.fromarray(list(container.decode(video=0))[-1].to_ndarray(format="rgb24"))


def main() -> None:
    clips = Path(sys.argv[1])
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.iterdir():
        old.unlink()
    with av.open(str(clips / "bigbuckbunny.mp4")) as container:
        frame = [frame for frame, _ in zip(container.decode(video=0), range(61))][60].to_ndarray(format="rgb24")
    make_pictures(Image.fromarray(frame).resize((56, 40), Image.LANCZOS))
    make_clips(clips / "bikes.mp4")
    names = sorted(path.name for path in TARGET.iterdir())
    for name in names:
        path = TARGET / name
        wanted = rgb_of_clip(path) if path.suffix == ".mkv" else as_srgb(path)
        wanted.save(TARGET / f"{name}.wanted.png", optimize=True, icc_profile=None)
    about = {"source": f"Pillow {PIL.__version__}, av {av.__version__}", "names": names}
    (TARGET / "cases.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
