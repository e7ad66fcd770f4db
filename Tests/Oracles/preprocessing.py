"""What preprocessing must give: pixels, pictures, sound, masks, captions, buckets, names.

By the rules of the reference's dataset scripts (ltx-trainer 1.2.0, which PyPI does not have), carried out by the libraries
they use: PyAV, Pillow, torchvision, torchaudio, ltx-core. Run `Scripts/test-media`, then `python Tests/Oracles/preprocessing.py`.
"""

import json
import math
import random
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import preprocessing_frames
import preprocessing_sound
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "Fixtures" / "preprocessing"
MEDIA = ROOT.parent / ".deps" / "media"
PACKAGES = ["av", "pillow", "torchvision", "torchaudio", "ltx-core", "torch"]

PHRASES = ["In the video,", "In this video,", "In this video clip,", "In the clip,", "Caption:"] + [
    f"{what} {verb}"
    for what in ("This video", "The video", "This clip", "The clip", "The animation", "This image", "The image", "This picture", "The picture")
    for verb in ("shows", "depicts", "features", "captures", "highlights", "introduces", "presents")
]

CAPTIONS = [
    "The video shows a rabbit.", "  The video shows a rabbit. ", "The video  shows a rabbit.", "the video shows a rabbit.",
    "In this video, The clip depicts a race", "In this video clip, a man in a car", "In this video clip a man in a car",
    "In the video,no blank after it", "Caption: The image features a tree", "The picture presents", "The picture presented a tree",
    "The videos show a tree", "A man. The video shows a tree.", "\n\tThis image captures\nrain\u00a0", "This image\nshows rain",
    "The animation highlights “light”", "\u3000The video shows rain\u3000", "Caption:", "", "   ",
    "This pictureshows a dog", "The clip introduces introduces", "In the clip, In the clip, twice",
]
TRIGGERS = [None, "ohwx", "  two words ", "", "   "]


def cleaned(caption: str, trigger: str | None, removes: bool) -> str:
    if removes:
        caption = caption.strip()
        phrase = next((phrase for phrase in PHRASES if caption.startswith(phrase)), None)
        if phrase is not None:
            caption = caption[len(phrase) :].strip()
    return (trigger.strip() + " " if trigger else "") + caption


def captions() -> list[dict]:
    cases = [(caption, None, True) for caption in CAPTIONS + [f"{phrase} a {i}" for i, phrase in enumerate(PHRASES)]]
    cases += [(caption, trigger, removes) for caption in CAPTIONS[:3] for trigger in TRIGGERS for removes in (False, True)]
    return [
        {"caption": caption, "trigger": trigger, "removes_prefixes": removes, "text": cleaned(caption, trigger, removes)}
        for caption, trigger, removes in cases
    ]


def bucket_for(width: int, height: int, frames: int, buckets: list) -> list | None:
    """Buckets are [width, height, frames]."""
    fitting = [b for b in buckets if b[2] <= frames]
    return min(
        fitting, default=None,
        key=lambda b: (abs(math.log(width / height) - math.log(b[0] / b[1])), -b[2], -b[0] * b[1]))


def buckets() -> list[dict]:
    chance = random.Random(2026)
    cases = []

    def add(width, height, frames, choice):
        cases.append({"width": width, "height": height, "frames": frames, "buckets": choice, "best": bucket_for(width, height, frames, choice)})

    sizes = [32, 64, 96, 128, 256, 384, 512, 768]
    for _ in range(170):
        choice = [[chance.choice(sizes), chance.choice(sizes), 8 * chance.randrange(12) + 1] for _ in range(chance.randrange(1, 7))]
        add(chance.randrange(64, 2000), chance.randrange(64, 2000), chance.randrange(1, 120), choice)
    # Equal aspects, equal distances to both sides, equal areas, the same twice, and a square between upright and lying.
    for _ in range(30):
        size = chance.choice([(640, 480), (512, 512), (1920, 1080), (720, 1280)])
        choice = [[64, 64, 9], [128, 128, 9], [128, 128, 17], [128, 64, 17], [64, 128, 17], [64, 128, 9], [96, 64, 9], [192, 128, 9], [128, 128, 9]]
        chance.shuffle(choice)
        add(*size, chance.choice([8, 9, 16, 17, 40]), choice[: chance.randrange(2, 10)])
    return cases


def names() -> list[dict]:
    """Media as the dataset names them, and the cached files' paths below an output folder."""
    folder = "/data/my set"
    media = [
        "a.mp4", "scenes/a.mp4", "scenes/deep/er/a.mov", f"{folder}/a.mp4", f"{folder}/in/side.mkv", "/other/place/a.mp4", "/a.mp4",
        "/data/my set2/a.mp4", "/data/a.mp4", "./x.mp4", "./in/./x.mp4", "in//x.mp4", "two.dots.mp4", "v1.5/clip.final.v2.webm",
        ".hidden.mp4", ".hidden", "in/.hidden", "noextension", "v1.5/noextension", "with blank.mp4", "  stripped.mp4 ", "ünï/çödé 日本.mp4",
        "e\u0301.mp4", "UPPER.MP4", "a.tar.gz", "quote'\".mp4", "100%.mp4", "#1.mp4",
    ]
    cases = []
    for name in media:
        root = PurePosixPath(folder)
        path = root / name.strip()
        path = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath(*path.parts[1:])
        cases.append({"folder": folder, "media": name, "output": str(path.with_suffix(".pt")).removesuffix(".pt")})
    return cases


def main() -> None:
    torch.set_num_threads(1)
    TARGET.mkdir(parents=True, exist_ok=True)
    preprocessing_frames.write_pictures(TARGET)
    preprocessing_frames.write_masks(TARGET)
    note = {"source": ", ".join(f"{p} {version(p).split('+')[0]}" for p in PACKAGES)}
    sound, sound_cases = preprocessing_sound.sounds(MEDIA)
    for name, tensors in {
        "clips": preprocessing_frames.clip_pixels(MEDIA), "pictures": preprocessing_frames.picture_pixels(TARGET),
        "masks": preprocessing_frames.masks(TARGET), "sound": sound,
    }.items():
        save_file(tensors, TARGET / f"{name}.safetensors", note)
    lists = {
        "sound": sound_cases, "audio-masks": preprocessing_sound.audio_masks(), "captions": captions(), "buckets": buckets(),
        "names": names(),
    }
    for name, cases in lists.items():
        text = "[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n"
        (TARGET / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
