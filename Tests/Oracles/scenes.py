#!/usr/bin/env python3
"""Makes Tests/Fixtures/scenes.json: what PyPI's scenedetect computes, for Tests/MediaTests/SceneOracleTests.swift.

Needs scenedetect 0.7.2 and opencv-python 5.0. Run from the repository's root: python Tests/Oracles/scenes.py

"clips": frames made by `frame` below (the test makes the same), scores and cuts of ContentDetector on them.
"merges": random rows of "above the threshold" flags and the cuts that FlashFilter lets pass.
"hsv": sums over colours (every fifth red) of OpenCV's HSV, channel by channel, weighted by the colour's place.
"""
import json
from pathlib import Path

import cv2
import numpy as np
import scenedetect
from scenedetect import ContentDetector, FrameTimecode
from scenedetect.detector import FlashFilter
from scenedetect.scene_manager import compute_downscale_factor


def frame(width, height, t, scene):
    """Deterministic RGB: a moving gradient per scene with noise; wraps in 32 bits."""
    y, x = np.meshgrid(np.arange(height, dtype=np.uint32), np.arange(width, dtype=np.uint32), indexing="ij")
    planes = []
    for c in range(3):
        noise = x * np.uint32(7919) + y * np.uint32(104729) + np.uint32((t * 15485863 + c * 32452843) & 0xFFFFFFFF)
        noise = ((noise ^ (noise >> np.uint32(13))) * np.uint32(2654435761)) >> np.uint32(27)
        base = (scene * (37 + 29 * c) + 60 * c) & 255
        ramp = (x * np.uint32(scene + 1 + c) + y * np.uint32(3 + c) + np.uint32(2 * t)) >> np.uint32(2)
        planes.append((np.uint32(base) + ramp + noise) & np.uint32(255))
    return np.stack(planes, -1).astype(np.uint8)


def clip(width, height, lengths, threshold=27.0, min_scene_len=15):
    detector = ContentDetector(threshold=threshold, min_scene_len=min_scene_len)
    factor = compute_downscale_factor(max(width, height))
    scores, cuts, t = [], [], 0
    for scene, length in enumerate(lengths):
        for _ in range(length):
            image = frame(width, height, t, scene)[:, :, ::-1]
            if factor > 1.0:
                size = (max(1, round(width / factor)), max(1, round(height / factor)))
                image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            cuts += [c.frame_num for c in detector.process_frame(FrameTimecode(t, 25.0), np.ascontiguousarray(image))]
            scores.append(detector._frame_score)
            t += 1
    return dict(width=width, height=height, lengths=lengths, threshold=threshold, minimum=min_scene_len, scores=scores, cuts=cuts)


def merge(rng, minimum, density, count=160):
    filter = FlashFilter(FlashFilter.Mode.MERGE, minimum)
    flags = rng.random(count) < density
    cuts = []
    for i, above in enumerate(flags):
        cuts += [c.frame_num for c in filter.filter(FrameTimecode(i, 25.0), bool(above))]
    return dict(minimum=minimum, above=[int(i) for i in np.flatnonzero(flags)], count=count, cuts=cuts)


def hsv():
    sums = [0, 0, 0]
    for red in range(0, 256, 5):
        green, blue = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
        image = np.stack([blue, green, np.full_like(blue, red)], -1).astype(np.uint8)
        out = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int64)
        weight = (red * 65536 + green * 256 + blue) % 65521 + 1
        for c in range(3):
            sums[c] += int((out[..., c] * weight).sum())
    return sums


rng = np.random.default_rng(7)
out = dict(
    source=f"scenedetect {scenedetect.__version__}, opencv {cv2.__version__}",
    clips=[
        clip(400, 230, [6, 7, 5], min_scene_len=3),
        clip(181, 322, [5, 6, 5], threshold=20.0, min_scene_len=4),
        clip(512, 384, [3, 3], min_scene_len=2),
        clip(96, 64, [20, 17, 3, 2, 4, 30, 14, 18]),
    ],
    merges=[merge(rng, m, d) for m in (0, 1, 5, 15) for d in (0.02, 0.05, 0.1, 0.3)],
    hsv=hsv(),
)
path = Path("Tests/Fixtures/scenes.json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(out) + "\n")
print(path, [c["cuts"] for c in out["clips"]], [m["cuts"] for m in out["merges"]][-4:])
