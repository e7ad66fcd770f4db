#!/usr/bin/env python3
"""Reads a folder of event files as TensorBoard does (PyPI: tensorboard, pillow), and prints it as JSON.

    check_tensorboard.py FOLDER

Scalars, pictures and sound by its EventAccumulator, which is for programs; texts by the accumulator of its pages, for only that
drops texts of steps that are done again. Checks that both give the same scalars, and that pictures decode to the size that is said of them. `TensorBoardTests` runs it where LTX_TENSORBOARD_PYTHON names a
Python that has these packages.
"""

import io
import json
import math
import sys

from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util


def number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def main() -> None:
    log = EventAccumulator(
        sys.argv[1], size_guidance={kind: 0 for kind in ("scalars", "images", "audio", "tensors", "histograms")}
    )
    log.Reload()
    tags = log.Tags()
    pages = plugin_event_accumulator.EventAccumulator(sys.argv[1], tensor_size_guidance={"scalars": 0, "text": 0})
    pages.Reload()
    for tag in tags["scalars"]:
        shown = [[e.step, tensor_util.make_ndarray(e.tensor_proto).item()] for e in pages.Tensors(tag)]
        assert repr(shown) == repr([[e.step, e.value] for e in log.Scalars(tag)]), f"{tag}: the page shows {shown}"
    result = {
        "scalars": {t: [[e.step, number(e.value)] for e in log.Scalars(t)] for t in tags["scalars"]},
        "images": {t: [[e.step, e.width, e.height] for e in log.Images(t)] for t in tags["images"]},
        "audio": {t: [[e.step, e.sample_rate, e.length_frames] for e in log.Audio(t)] for t in tags["audio"]},
        "text": {
            t: [[e.step, e.tensor_proto.string_val[0].decode()] for e in pages.Tensors(t)]
            for t in (pages.PluginTagToContent("text") if "text" in pages.ActivePlugins() else {})
        },
    }
    for tag in tags["images"]:
        for event in log.Images(tag):
            size = Image.open(io.BytesIO(event.encoded_image_string)).size
            assert size == (event.width, event.height), f"{tag}: {size} is said to be {event.width}x{event.height}"
    json.dump(result, sys.stdout, sort_keys=True)


if __name__ == "__main__":
    main()
