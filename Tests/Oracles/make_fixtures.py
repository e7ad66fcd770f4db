#!/usr/bin/env python3
"""Makes Tests/Fixtures from the reference implementations on PyPI.

    make_fixtures.py                      everything
    make_fixtures.py --only transformer   one component (the models it needs must be there)

The same packages on the same kind of processor give the same files.
"""

import argparse
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# torchaudio (which ltx-core requires) may fail to load beside a CPU build of torch; `audio_reference` brings it in without
# what it has compiled, and nothing else needs it.
sys.modules["torchaudio"] = None

import torch  # noqa: E402


def steps() -> dict:
    import adapter_cases
    import audio_cases
    import audio_checkpoints
    import checkpoints
    import gemma
    import lora_cases
    import small_cases
    import text_cases
    import transformer_cases
    import upsampler_cases
    import vae_cases

    return {
        "models": lambda: (checkpoints.make_transformer(), checkpoints.make_vae(), checkpoints.make_loras(), gemma.make()),
        "audio-models": audio_checkpoints.make,
        "transformer": transformer_cases.make_transformer,
        "video-vae": vae_cases.make,
        "upsample": upsampler_cases.make,
        "audio-vae": audio_cases.make,
        "text-encoder": text_cases.make_text_encoder,
        "connectors": text_cases.make_connectors,
        "rope": transformer_cases.make_rope,
        "lora-gradients": transformer_cases.make_lora_gradients,
        "lora": lora_cases.make,
        "training": adapter_cases.make,
        "denoise": transformer_cases.make_denoise,
        "positions": small_cases.make_positions,
        "sigmas": small_cases.make_sigmas,
        "conditioning": small_cases.make_conditioning,
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    known = steps()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(known))
    for name in parser.parse_args().only or known:
        print(name, flush=True)
        known[name]()


if __name__ == "__main__":
    main()
