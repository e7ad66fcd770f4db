"""Cases of `ltx probe caption-processor` and `caption-towers`, by transformers.

    python captioner_models.py && python captioner_media.py

Prompts are those of the published chat templates, written out in `prompt`. The padding of positions, and `delta`, follow
our contract: positions at padding are 0, and a token that follows at index i has position i + delta.
"""

import json
import wave

import captioner_models
import numpy as np
import torch
from captioner_models import FAMILIES, SPECIAL
from fixtures import MODELS, ROOT, generator, origin, write_case
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor, WhisperFeatureExtractor
from transformers.video_utils import VideoMetadata

MEDIA = ROOT / "caption-processor" / "media"
SOURCE = origin("transformers")
INSTRUCTION = "Say what can be seen and heard, in order.\n\nAnswer briefly."


# Media


def picture(name: str, count: int, height: int, width: int) -> torch.Tensor:
    """[count, 3, height, width] uint8: broad patches that move, with noise on top."""
    rng = generator(f"caption-media/{name}")
    patches = torch.randint(0, 2, (3, height // 6 + 3, width // 6 + 3), generator=rng) * 190
    frames = []
    for index in range(count):
        large = patches.repeat_interleave(6, 1).repeat_interleave(6, 2)
        frame = large[:, index % 6 : index % 6 + height, index % 5 : index % 5 + width]
        frames.append(frame + torch.randint(0, 60, (3, height, width), generator=rng))
    return torch.stack(frames).to(torch.uint8)


def tones(name: str, samples: int) -> np.ndarray:
    """16-bit mono at 16 kHz: two gliding tones, noise, and a click at the end."""
    rng = np.random.default_rng(captioner_models.generator(f"caption-media/{name}").initial_seed())
    time = np.arange(samples) / 16000
    wave_form = 0.3 * np.sin(2 * np.pi * (300 + 400 * time) * time) + 0.1 * np.sin(2 * np.pi * 2500 * time)
    wave_form += 0.02 * rng.standard_normal(samples)
    wave_form[-40:-20] += 0.6
    return np.clip(np.round(wave_form * 32768), -32768, 32767).astype(np.int16)


IMAGES = {"still.png": (45, 61)}
CLIPS = {"clip.safetensors": (11, 5.0, 30, 44), "wide.safetensors": (6, 3.0, 16, 90)}
RECORDINGS = {"short.wav": 16000 + 77, "long.wav": 36000 + 41, "click.wav": 333}


def make_media() -> None:
    MEDIA.mkdir(parents=True, exist_ok=True)
    for name, (height, width) in IMAGES.items():
        Image.fromarray(picture(name, 1, height, width)[0].permute(1, 2, 0).numpy()).save(MEDIA / name)
    for name, (count, rate, height, width) in CLIPS.items():
        save_file({"frames": picture(name, count, height, width), "fps": torch.tensor([rate])}, MEDIA / name)
    for name, samples in RECORDINGS.items():
        with wave.open(str(MEDIA / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(tones(name, samples).tobytes())


# The processor


def part_of(kind: str, name: str, audio: str | None = None) -> dict:
    return {"type": kind, kind: f"../media/{name}"} | ({"audio": f"../media/{audio}"} if audio else {})


def user(*parts: dict) -> dict:
    return {"role": "user", "content": [*parts, {"type": "text", "text": INSTRUCTION}]}


class Reference:
    def __init__(self, family: str) -> None:
        folder = MODELS / FAMILIES[family]
        self.family = family
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "preprocessor_config.json").read_text())
        self.factor = 2 * config["patch_size"]
        shared = {k: config[k] for k in ("image_mean", "image_std", "patch_size", "merge_size", "temporal_patch_size")}
        size = {"shortest_edge": config["min_pixels"], "longest_edge": config["max_pixels"]}
        self.images = Qwen2VLImageProcessor(**shared, size=size)
        self.videos = Qwen2VLVideoProcessor(**shared, cap_pixels_per_frame=False)
        keys = ("feature_size", "hop_length", "n_fft", "sampling_rate", "chunk_length", "padding_value")
        self.audio = WhisperFeatureExtractor(**{k: config[k] for k in keys})
        self.model = captioner_models.load(family)
        self.ids = {r: self.tokenizer.token_to_id(t) for r, t in zip(captioner_models.ROLES, SPECIAL[family])}

    def processed(self, request: dict) -> dict:
        """The outputs of `caption-processor`."""
        batch = request.get("batch") or [request["messages"]]
        fps = request.get("fps", 2)
        aligned = request.get("use_audio_in_video", False)
        found = {"image": [], "video": [], "audio": []}
        for message in (m for conversation in batch for m in conversation):
            for part in message["content"] if isinstance(message["content"], list) else []:
                if part["type"] != "text":
                    found[part["type"]].append(part[part["type"]].split("/")[-1])
                if part["type"] == "video" and aligned and "audio" in part:
                    found["audio"].append(part["audio"].split("/")[-1])
        out, frames_of = {}, []
        if found["image"]:
            images = [picture(name, 1, *IMAGES[name])[0] for name in found["image"]]
            out |= self.images(images=images, return_tensors="pt", **self.size(request.get("image_pixels")))
        if found["video"]:
            clips = [self.sampled(name, fps) for name in found["video"]]
            bounds = request.get("video_pixels") or [128 * self.factor**2, 768 * self.factor**2]
            made = self.videos(videos=clips, do_sample_frames=False, return_tensors="pt", **self.size(bounds))
            out |= {k: made[k] for k in ("pixel_values_videos", "video_grid_thw")}
            out["video_second_per_grid"] = torch.full([len(clips)], 2 / fps)
        if found["audio"]:
            samples = [tones(name, RECORDINGS[name]).astype(np.float32) / 32768 for name in found["audio"]]
            padding = {"padding": "max_length"} if self.family == "qwen25" else {"padding": True, "truncation": False}
            made = self.audio(samples, sampling_rate=16000, return_attention_mask=True, return_tensors="pt", **padding)
            frames_of = made["attention_mask"].sum(-1).tolist()
            mask = made["attention_mask"][:, : max(frames_of)].long()
            out["input_features"] = made["input_features"][..., : max(frames_of)] * mask[:, None]
            out["feature_attention_mask"] = mask
        return out | self.prompts(batch, request, out, frames_of)

    @staticmethod
    def size(bounds: list[int] | None) -> dict:
        return {"size": {"shortest_edge": bounds[0], "longest_edge": bounds[1]}} if bounds else {}

    def sampled(self, name: str, fps: float) -> torch.Tensor:
        count, rate, height, width = CLIPS[name]
        metadata = VideoMetadata(total_num_frames=count, fps=rate)
        indices = self.videos.sample_frames(metadata, fps=fps, min_frames=4, max_frames=768, temporal_patch_size=2)
        return picture(name, count, height, width)[torch.as_tensor(indices)]

    def audio_tokens(self, frames: int) -> int:
        if self.family == "qwen25":
            return max(0, ((frames - 1) // 2 + 1 - 2) // 2 + 1)

        def convolved(count: int) -> int:
            for _ in range(3):
                count = (count - 1) // 2 + 1
            return count

        chunk = 2 * self.model.config.audio_config.n_window
        return frames // chunk * convolved(chunk) + convolved(frames % chunk)

    def prompts(self, batch: list, request: dict, media: dict, frames_of: list[int]) -> dict:
        recordings = iter(frames_of)
        images = iter(media.get("image_grid_thw", torch.empty(0, 3)).tolist())
        videos = iter(media.get("video_grid_thw", torch.empty(0, 3)).tolist())
        rows = [self.prompt(conversation, request, images, videos, recordings) for conversation in batch]
        longest = max(map(len, rows))
        ids = torch.tensor([[self.ids["pad"]] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        positions, _ = self.model.model.get_rope_index(
            ids,
            media.get("image_grid_thw"),
            media.get("video_grid_thw"),
            mask,
            request.get("use_audio_in_video", False),
            torch.tensor(frames_of) if frames_of else None,
            media.get("video_second_per_grid"),
        )
        positions = positions.float() * mask
        delta = positions.amax(dim=(0, 2)).unsqueeze(1) + 1 - longest
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "delta": delta}

    def prompt(self, conversation: list, request: dict, images, videos, recordings) -> list[int]:
        if self.family == "qwen25" and conversation[0]["role"] != "system":
            conversation = [{"role": "system", "content": "You are a helpful assistant."}, *conversation]
        token = dict(zip(captioner_models.ROLES, SPECIAL[self.family]))
        text = ""
        for message in conversation:
            text += f"<|im_start|>{message['role']}\n"
            content = message["content"]
            for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
                if part["type"] == "text":
                    text += part["text"]
                elif part["type"] == "audio":
                    count = self.audio_tokens(next(recordings))
                    text += token["audio_start"] + token["audio"] * count + token["audio_end"]
                elif part["type"] == "image":
                    grid = next(images)
                    count = grid[0] * grid[1] * grid[2] // 4
                    text += token["vision_start"] + token["image"] * count + token["vision_end"]
                else:
                    inner = self.clip(next(videos), part, request, recordings, token)
                    text += token["vision_start"] + inner + token["vision_end"]
            text += "<|im_end|>\n"
        text += "<|im_start|>assistant\n"
        if self.family == "qwen3" and request.get("enable_thinking") is False:
            text += "<think>\n\n</think>\n\n"
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def clip(self, grid: list[int], part: dict, request: dict, recordings, token: dict) -> str:
        per_step = grid[1] * grid[2] // 4
        if not request.get("use_audio_in_video") or "audio" not in part:
            return token["video"] * (grid[0] * per_step)
        seconds = 2 / request.get("fps", 2)
        rate = 25 if self.family == "qwen25" else 13
        # In the order of time, frames first: by chunks of two seconds in Qwen2.5-Omni.
        moments = [(step * seconds * rate, 0) for step in range(grid[0]) for _ in range(per_step)]
        moments += [(float(index), 1) for index in range(self.audio_tokens(next(recordings)))]
        if self.family == "qwen25":
            moments = [(time // (2 * rate), kind) for time, kind in moments]
        kinds = [kind for _, kind in sorted(moments)]
        return token["audio_start"] + "".join(token["audio" if k else "video"] for k in kinds) + token["audio_end"]


REQUESTS = {
    "image": ({"messages": [user(part_of("image", "still.png"))], "enable_thinking": False}, True),
    "video_and_audio": (
        {
            "messages": [user(part_of("video", "clip.safetensors"), part_of("audio", "short.wav"))],
            "enable_thinking": False,
            "video_pixels": [256, 900],
        },
        True,
    ),
    "interleaved": (
        {
            "messages": [
                {"role": "system", "content": "You describe clips."},
                user(part_of("video", "clip.safetensors", "long.wav")),
            ],
            "use_audio_in_video": True,
            "video_pixels": [256, 700],
        },
        False,
    ),
    "interleaved_wide": (
        {
            "messages": [user(part_of("video", "wide.safetensors", "short.wav"))],
            "use_audio_in_video": True,
            "fps": 3,
            "video_pixels": [256, 4000],
        },
        False,
    ),
    "batch": (
        {
            "batch": [
                [user(part_of("image", "still.png"), part_of("audio", "click.wav"))],
                [user(part_of("video", "wide.safetensors"), part_of("audio", "short.wav")), user()],
            ],
            "image_pixels": [64, 600],
            "video_pixels": [256, 700],
        },
        True,
    ),
}
TOLERANCE = {"pixel_values": 0.025, "pixel_values_videos": 0.025, "*": 1e-4}
IDS = ("input_ids", "attention_mask", "position_ids", "delta", "video_second_per_grid")
GRIDS = ("image_grid_thw", "video_grid_thw", "feature_attention_mask")


def make_processor(reference: Reference) -> None:
    for name, (request, has_values) in REQUESTS.items():
        made = {k: v for k, v in reference.processed(request).items()}
        kept = {k: v for k, v in made.items() if has_values or k in IDS + GRIDS}
        case = f"{reference.family}_{name}"
        write_case(
            "caption-processor",
            case,
            {},
            kept,
            source=SOURCE,
            args=["--captioner-model", f"{{root}}/models/{FAMILIES[reference.family]}"],
            exact=[k for k in kept if k in IDS + GRIDS],
            tolerance=TOLERANCE,
            why="two grey levels after the resize, as between libtorch's kernels; everything else is arithmetic",
        )
        folder = ROOT / "caption-processor" / case
        (folder / "inputs.safetensors").unlink()
        captioner_models.write(folder / "request.json", request)
        described = json.loads((folder / "case.json").read_text())
        captioner_models.write(folder / "case.json", described | {"inputs": "request.json"})


# The towers



def tower_inputs(reference: Reference, name: str) -> dict:
    patch = 3 * 2 * (reference.factor // 2) ** 2
    rng = generator(f"caption-towers/{reference.family}_{name}")
    out = {}

    def pixels(key: str, items: list[list[int]]) -> dict:
        grid = torch.tensor(items)
        kind = "pixel_values" if key == "image" else "pixel_values_videos"
        return {kind: torch.randn(int(grid.prod(1).sum()), patch, generator=rng), f"{key}_grid_thw": grid}

    def recordings(lengths: list[int]) -> dict:
        mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
        return {
            "input_features": torch.randn(len(lengths), 128, max(lengths), generator=rng) * 0.5 * mask[:, None],
            "feature_attention_mask": mask,
        }

    if name in ("images", "bf16"):
        # Windows of three tokens that divide neither side, and the smallest image.
        out |= pixels("image", [[1, 8, 10], [1, 2, 2]])
    if name == "video":
        out |= pixels("video", [[2, 8, 6], [1, 4, 10]])
    if name == "recordings":
        out |= recordings([50, 40, 7, 1] if reference.family == "qwen25" else [120, 7, 1])
    if name == "short_recording":
        out |= recordings([9])
    if name == "bf16":
        out |= recordings([30])
    return out


def towers(model: torch.nn.Module, inputs: dict, dtype: torch.dtype) -> dict:
    out = {}
    for kind, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        if pixels not in inputs:
            continue
        made = model.model.visual(inputs[pixels].to(dtype), grid_thw=inputs[f"{kind}_grid_thw"])
        out[f"{kind}_embeds"] = made.pooler_output
        for index, level in enumerate(getattr(made, "deepstack_features", None) or []):
            out[f"deepstack.{kind}.{index}"] = level
    if "input_features" in inputs:
        mask = inputs["feature_attention_mask"]
        made = model.get_audio_features(inputs["input_features"].to(dtype), feature_attention_mask=mask)
        out["audio_embeds"] = made.last_hidden_state
    return {k: v.float() for k, v in out.items()}


def make_towers(reference: Reference) -> None:
    for name in ("images", "video", "recordings", "short_recording", "bf16"):
        inputs = tower_inputs(reference, name)
        with torch.no_grad():
            exact = towers(reference.model, inputs, torch.float32)
            made = exact
            if name == "bf16":
                made = towers(captioner_models.load(reference.family, torch.bfloat16), inputs, torch.bfloat16)
        write_case(
            "caption-towers",
            f"{reference.family}_{name}",
            inputs,
            made,
            source=SOURCE,
            args=["--captioner-model", f"{{root}}/models/{FAMILIES[reference.family]}"],
            dtype="bfloat16" if name == "bf16" else "float32",
            tolerance=3e-5,
            float32=exact if name == "bf16" else None,
        )


def main() -> None:
    torch.set_num_threads(1)
    make_media()
    for family in FAMILIES:
        reference = Reference(family)
        make_processor(reference)
        make_towers(reference)


if __name__ == "__main__":
    main()
