"""Recipes of the fixture models. Random weights are not committed; the tests draw them again from a recipe.

A recipe is `Tests/Fixtures/models/<name>.json`: the names and shapes of the tensors, the metadata, and the SHA-256
of the file that `Tests/TestSupport/FixtureModels.swift` must write. Tensors that are not random are committed beside
it, as `<name>.fixed.safetensors`.
"""

import hashlib
import json

from safetensors import safe_open
from safetensors.torch import save_file

from fixtures import MODELS


def write_recipe(name: str, fixed: set[str] = frozenset(), scales: dict[str, float] | None = None) -> None:
    """Writes the recipe of `models/<name>.safetensors`, which must have been drawn by `checkpoints.randomise`."""
    path = MODELS / f"{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        keys = sorted(file.keys())
        shapes = {key: list(file.get_slice(key).get_shape()) for key in keys}
        config = file.metadata()["config"]
        kept = {key: file.get_tensor(key) for key in keys if key in fixed}
    recipe = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "config": config,
        "scales": {key: scale for key, scale in sorted((scales or {}).items()) if key in shapes},
        "shapes": shapes,
    }
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in recipe.items() if key != "shapes")
    rows = ",\n".join(f"    {json.dumps(key)}: {json.dumps(shape)}" for key, shape in shapes.items())
    text = "{\n" + lines + ',\n  "shapes": {\n' + rows + "\n  }\n}\n"
    (MODELS / f"{name}.json").write_text(text, encoding="utf-8")
    if kept:
        save_file(kept, MODELS / f"{name}.fixed.safetensors")
