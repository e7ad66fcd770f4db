#!/usr/bin/env python3
"""Makes Tests/Fixtures/scenes.json: what PyPI's scenedetect computes, for Tests/MediaTests/SceneOracleTests.swift.

Needs scenedetect 0.7.2, opencv-python 5.0, FFmpeg's program, and the clips of Scripts/test-media. Run from the repository's
root: python Tests/Oracles/scenes.py

"clips": frames made by `frame` below (the test makes the same), scores and cuts of ContentDetector on them.
"merges": random rows of "above the threshold" flags and the cuts that FlashFilter lets pass.
"films": cut together from real clips by `command`, which the test runs too; `md5` is of the decoded frames. For each, the
scenes [start, end) that detectors find by the command line's `options`, and the tables of statistics of some.
"hsv": sums over colours (every fifth red) of OpenCV's HSV, channel by channel, weighted by the colour's place.
"""
import json
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
import scenedetect
from scenedetect import (
    AdaptiveDetector,
    ContentDetector,
    FrameTimecode,
    HistogramDetector,
    SceneManager,
    StatsManager,
    ThresholdDetector,
    open_video,
)
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


CLIPS = ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"]


def part(clip, start, end, size, rate, extra=""):
    """A stretch of a clip in seconds, scaled without rounding that depends on the machine."""
    width, height = size
    scaled = f"scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int+bitexact,setsar=1"
    return f"[{clip}:v]trim={start}:{end},setpts=PTS-STARTPTS,{scaled},fps={rate},format=yuv420p{extra}"


def joined(parts):
    names = "".join(f"[p{i}]" for i in range(len(parts)))
    return ";".join(f"{p}[p{i}]" for i, p in enumerate(parts)) + f";{names}concat=n={len(parts)}:v=1[v]"


def films():
    small, large, ntsc = (160, 120), (480, 270), "30000/1001"
    return {
        # bikes.mp4 has hard cuts of its own; the short pieces at the end are closer than the least length.
        "cuts": joined([
            part(0, 0, 4, small, 25), part(2, 0.5, 2.5, small, 25), part(1, 0, 2, small, 25),
            part(0, 7, 7.3, small, 25), part(1, 3, 3.3, small, 25), part(2, 0, 0.3, small, 25),
            part(0, 5, 7, small, 25),
        ]),
        # Fades through black: short, long, with black that is held, one that ends the film.
        "fades": joined([
            part(2, 0, 2, small, 25, ",fade=out:40:10"), part(0, 1.4, 3, small, 25, ",fade=in:0:6,fade=out:30:10"),
            part(1, 0, 1, small, 25, ",fade=out:0:1"), part(1, 1, 3, small, 25, ",fade=in:0:20"),
            part(0, 5, 7, small, 25, ",fade=out:30:20"),
        ]),
        # Dissolves of 0.8 s and 0.2 s.
        "dissolves": ";".join([
            part(2, 0, 2.4, small, 25) + "[a]", part(1, 0, 2.4, small, 25) + "[b]", part(0, 0, 2.4, small, 25) + "[c]",
            "[a][b]xfade=fade:0.8:1.6[ab]", "[ab][c]xfade=fade:0.2:3.8,setpts=N/25/TB[v]",
        ]),
        # Larger than what detectors look at, at a rate that is no whole number.
        "large": joined([
            part(1, 0, 1.5, large, ntsc), part(0, 0, 2, large, ntsc, ",fade=out:40:15"),
            part(1, 3, 4.5, large, ntsc, ",fade=in:0:15"), part(2, 0.5, 1.5, large, ntsc),
        ]),
    }


def film_command(graph):
    inputs = " ".join(f"-i {clip}" for clip in CLIPS)
    return f"{inputs} -filter_complex {graph} -map [v] -c:v ffv1 -level 1 -threads 1 -fflags +bitexact"


DETECTORS = [
    ([], lambda: ContentDetector()),
    (["--threshold", "17", "--min-scene-length", "5"], lambda: ContentDetector(threshold=17, min_scene_len=5)),
    (["--luma-only"], lambda: ContentDetector(luma_only=True)),
    (["--detector", "adaptive"], lambda: AdaptiveDetector()),
    (
        ["--detector", "adaptive", "--threshold", "2", "--adaptive-window", "4", "--luma-only"],
        lambda: AdaptiveDetector(adaptive_threshold=2, window_width=4, luma_only=True),
    ),
    (["--detector", "threshold"], lambda: ThresholdDetector()),
    (
        ["--detector", "threshold", "--threshold", "40.7", "--fade-bias", "-0.5"],
        lambda: ThresholdDetector(threshold=40.7, fade_bias=-0.5),
    ),
    (
        ["--detector", "threshold", "--fade-bias", "1", "--min-scene-length", "30"],
        lambda: ThresholdDetector(fade_bias=1, min_scene_len=30),
    ),
    (["--detector", "histogram"], lambda: HistogramDetector()),
    (
        ["--detector", "histogram", "--threshold", "0.05", "--min-scene-length", "3"],
        lambda: HistogramDetector(threshold=0.05, min_scene_len=3),
    ),
    (["--downscale", "3"], lambda: ContentDetector()),
    (["--frame-skip", "2"], lambda: ContentDetector()),
    (["--duration", "77"], lambda: ContentDetector()),
]
MEASURED = {"cuts": [0, 8], "fades": [4, 5], "large": [3]}


def detect(path, options, detector, stats=None):
    manager = SceneManager(StatsManager() if stats else None)
    given = dict(zip(options[::2], options[1::2])) if "--luma-only" not in options else {}
    if "--downscale" in given:
        manager.auto_downscale = False
        manager.downscale = int(given["--downscale"])
    manager.add_detector(detector())
    manager.detect_scenes(
        open_video(str(path), backend="opencv"), frame_skip=int(given.get("--frame-skip", 0)),
        duration=int(given["--duration"]) if "--duration" in given else None,
    )
    if stats:
        manager.stats_manager.save_to_csv(stats)
    # A video without a cut is one scene with us.
    scenes = manager.get_scene_list(start_in_scene=True)
    return [[start.frame_num, end.frame_num] for start, end in scenes]


def film(name, graph, folder):
    path = Path(folder) / f"{name}.mkv"
    subprocess.run(["ffmpeg", "-v", "error", *film_command(graph).split(), str(path)], cwd=".deps/media", check=True)
    md5 = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "md5", "-"], check=True, capture_output=True, text=True
    ).stdout.strip()
    cases = []
    for i, (options, detector) in enumerate(DETECTORS):
        case = dict(options=options, scenes=detect(path, options, detector))
        if i in MEASURED.get(name, []):
            table = Path(folder) / "stats.csv"
            detect(path, options, detector, str(table))
            case["statistics"] = table.read_text()
        cases.append(case)
    return dict(name=name, command=film_command(graph), md5=md5, cases=cases)


rng = np.random.default_rng(7)
with tempfile.TemporaryDirectory() as folder:
    made = [film(name, graph, folder) for name, graph in films().items()]
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
    films=made,
)
path = Path("Tests/Fixtures/scenes.json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(out) + "\n")
print(path, [c["cuts"] for c in out["clips"]], [m["cuts"] for m in out["merges"]][-4:])
for f in made:
    print(f["name"], f["md5"], [len(c["scenes"]) for c in f["cases"]])
