"""Edges and blurred pictures: what OpenCV makes of frames.

The grey is that of the reference's script (ltx-trainer 1.2.0, compute_reference.py): torchvision's `rgb_to_grayscale` on
float32 from 0 to 1, times 255, cut down to 8 bits; then `cv2.Canny`. Frames of clips are decoded by PyAV to rgb24; only
their edges are stored. Needs opencv-python-headless, av and torch; run: `python Tests/Oracles/edges.py CLIPS`, where
CLIPS holds the clips of Scripts/test-media.
"""

import json
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import torch

TARGET = Path(__file__).resolve().parent.parent / "Fixtures" / "edges"
# clip, frame, thresholds
CLIPS = [
    ("bigbuckbunny.mp4", 40, 100, 200),
    ("bikes.mp4", 0, 100, 200),
    ("bikes.mp4", 120, 30, 90),
    ("carphone_pristine.mp4", 3, 100, 200),
]
# name, width, height, thresholds
PICTURES = [("shapes", 97, 61, 100, 200), ("noise", 40, 33, 60, 180), ("column", 1, 50, 20, 60), ("row", 50, 2, 20, 60)]
SIGMAS = [0.6, 2.0, 7.5]


def grey(frame: np.ndarray) -> np.ndarray:
    rgb = torch.from_numpy(frame).float().div(255.0).permute(2, 0, 1)
    red, green, blue = rgb.unbind(0)
    return ((0.2989 * red + 0.587 * green + 0.114 * blue).numpy() * 255).astype("uint8")


def picture(name: str, width: int, height: int) -> np.ndarray:
    random = np.random.default_rng(len(name) + width)
    if name == "noise":
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = np.full((height, width, 3), 40, np.uint8)
    for _ in range(14):
        x, y, radius = random.integers(0, width), random.integers(0, height), int(random.integers(3, 20))
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        if random.random() < 0.5:
            cv2.circle(image, (int(x), int(y)), radius, colour, -1, cv2.LINE_AA)
        else:
            cv2.line(image, (int(x), int(y)), (int(x) + 2 * radius, int(y) - radius), colour, 2, cv2.LINE_AA)
    return np.clip(image.astype(int) + random.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)


def write(name: str, image: np.ndarray) -> None:
    if image.ndim == 3:
        image = image[:, :, ::-1]
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 9] + ([cv2.IMWRITE_PNG_BILEVEL, 1] if image.ndim == 2 else [])
    if not cv2.imwrite(str(TARGET / name), image, settings):
        raise SystemExit(f"{name} can't be written")


def main() -> None:
    clips = Path(sys.argv[1])
    TARGET.mkdir(parents=True, exist_ok=True)
    cases = []
    for clip, wanted, low, high in CLIPS:
        with av.open(str(clips / clip)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index == wanted:
                    pixels = frame.to_ndarray(format="rgb24")
                    break
        edges = f"{Path(clip).stem}-{wanted}-edges.png"
        write(edges, cv2.Canny(grey(pixels), low, high))
        cases.append({"clip": clip, "frame": wanted, "low": low, "high": high, "edges": edges})
    for name, width, height, low, high in PICTURES:
        pixels = picture(name, width, height)
        write(f"{name}.png", pixels)
        write(f"{name}-edges.png", cv2.Canny(grey(pixels), low, high))
        blurred = {}
        for sigma in SIGMAS:
            blurred[f"{name}-blur-{sigma}.png"] = sigma
            write(f"{name}-blur-{sigma}.png", cv2.GaussianBlur(pixels, (0, 0), sigma))
        cases.append({"picture": f"{name}.png", "low": low, "high": high, "edges": f"{name}-edges.png", "blurred": blurred})
    about = {"source": f"opencv-python-headless {cv2.__version__}, av {av.__version__}", "cases": cases}
    (TARGET / "cases.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
