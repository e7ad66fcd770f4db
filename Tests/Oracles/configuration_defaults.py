"""The keys of the official trainer's configuration, with the defaults that it gives them.

    PYTHONPATH=ltx-trainer/src:ltx-core/src:ltx-pipelines/src python Tests/Oracles/configuration_defaults.py

writes Tests/Fixtures/configuration-defaults.json. Needs the sources of ltx-trainer 1.2.0, which are not on PyPI. The default
negative prompt is left out.
"""

import json
import tempfile
from pathlib import Path

from ltx_trainer.config import LtxTrainerConfig

STRATEGIES = {
    "text_to_video": {"name": "text_to_video"},
    "video_to_video": {"name": "video_to_video"},
    "flexible": {
        "name": "flexible",
        "video": {
            "is_generated": True,
            "latents_dir": "latents",
            "conditions": [
                {"type": "first_frame"},
                {"type": "prefix", "temporal_boundary": 1},
                {"type": "suffix", "temporal_boundary": 1},
                {"type": "spatial_crop", "spatial_region": [0, 0, 1, 1]},
                {"type": "mask", "mask_dir": "video_masks"},
                {"type": "reference", "latents_dir": "reference_latents"},
            ],
        },
    },
}
CONDITIONS = [
    {"type": "first_frame", "image_or_video": "i"},
    {"type": "prefix", "video": "v"},
    {"type": "suffix", "audio": "a"},
    {"type": "spatial_crop", "video": "v", "spatial_region": [0, 0, 1, 1]},
    {"type": "mask", "video": "v", "mask": "m"},
    {"type": "reference", "video": "v"},
]
SAMPLES = [
    {"prompt": "p", "conditions": CONDITIONS},
    {"prompt": "p", "conditions": [{"type": "video_to_audio", "video": "v"}]},
    {"prompt": "p", "conditions": [{"type": "audio_to_video", "audio": "a"}]},
]

cases = []
with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    (root / "m").touch()
    for name in ("latents", "conditions", "reference_latents", "video_masks"):
        (root / name).mkdir()
    for strategy in STRATEGIES.values():
        given = {
            "model": {"model_path": f"{root}/m"},
            "lora": {},
            "data": {"preprocessed_data_root": str(root)},
            "training_strategy": strategy,
            "validation": {"samples": SAMPLES},
        }
        resolved = LtxTrainerConfig(**given).model_dump()
        del resolved["validation"]["negative_prompt"]
        for case in (given, resolved):
            case["model"]["model_path"] = "/m"
            case["data"]["preprocessed_data_root"] = "/d"
        cases.append({"given": given, "resolved": resolved})
path = Path(__file__).parent.parent / "Fixtures" / "configuration-defaults.json"
path.write_text(json.dumps(cases, indent=1) + "\n")
