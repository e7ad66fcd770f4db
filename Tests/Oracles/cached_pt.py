"""Caches as the official trainer's scripts store them: `.pt`, sizes as Python numbers.

Writes Tests/Fixtures/cached-pt/new (latents [C, F, H, W]) and .../old (lists of tokens, as caches of 2024 have them) with
the same numbers. Needs torch only: python Tests/Oracles/cached_pt.py
"""

from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent / "Fixtures" / "cached-pt"


def save(value, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def main():
    generator = torch.Generator().manual_seed(7)
    video = torch.randn(4, 2, 2, 3, generator=generator)
    audio = torch.randn(2, 9, 4, generator=generator)
    text = torch.randn(8, 6, generator=generator).bfloat16()
    mask = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    sizes = {"num_frames": 2, "height": 2, "width": 3, "fps": 25.0}
    sound = {"num_time_steps": 9, "frequency_bins": 4, "duration": 0.36}
    tokens = video.permute(1, 2, 3, 0).reshape(-1, 4).contiguous()
    steps = audio.permute(1, 2, 0).reshape(-1, 2).contiguous()
    for name, latents, audio_latents in (("new", video, audio), ("old", tokens, steps)):
        save({"latents": latents, **sizes}, ROOT / name / "latents" / "a.pt")
        save({"latents": audio_latents, **sound}, ROOT / name / "audio_latents" / "a.pt")
        conditions = {"video_prompt_embeds": text, "audio_prompt_embeds": text, "prompt_attention_mask": mask}
        save(conditions, ROOT / name / "conditions" / "a.pt")


if __name__ == "__main__":
    main()
