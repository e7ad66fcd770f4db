#!/usr/bin/env python3
"""Writes Tests/Fixtures/tensorboard/events with TensorBoard's own messages and record writer (PyPI: tensorboard 2.21.0).

    tensorboard_events.py

`TensorBoardTests` writes the same events and compares the bytes.
"""

import io
from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

FOLDER = Path(__file__).resolve().parent.parent / "Fixtures" / "tensorboard"


def text(tag: str, words: str) -> summary_pb2.Summary.Value:
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
    return summary_pb2.Summary.Value(
        tag=tag,
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
        tensor=tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=[words.encode()]),
    )


def image(tag: str, data: bytes, width: int, height: int) -> summary_pb2.Summary.Value:
    picture = summary_pb2.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
    return summary_pb2.Summary.Value(tag=tag, image=picture)


def sound(tag: str, data: bytes) -> summary_pb2.Summary.Value:
    clip = summary_pb2.Summary.Audio(
        sample_rate=48000, num_channels=2, length_frames=123456, encoded_audio_string=data, content_type="audio/wav"
    )
    return summary_pb2.Summary.Value(tag=tag, audio=clip)


def scalars(**values: float) -> list:
    return [summary_pb2.Summary.Value(tag=f"train/{tag}", simple_value=value) for tag, value in values.items()]


def main() -> None:
    def event(time: float, step: int = 0, values: list | None = None, **rest: object) -> event_pb2.Event:
        if values is not None:
            rest["summary"] = summary_pb2.Summary(value=values)
        return event_pb2.Event(wall_time=time, step=step, **rest)

    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    events = [
        event(1.7e9, file_version="brain.Event:2", source_metadata=event_pb2.SourceMetadata(writer="swift-ltx")),
        event(1.7e9, 8, session_log=start),
        event(1.7e9 + 1, 8, scalars(loss=0.25, zero=0.0, tiny=1e-40, negative=-3.5)),
        event(1.7e9 + 2, 100_000_000_000, scalars(loss=float("inf"))),
        event(1.7e9 + 3, 9, [image("validation_samples/a", bytes(range(256)) * 3, 768, 448)]),
        event(1.7e9 + 4, 9, [text("validation/prompt", "Ein Käfer läuft 🐞"), text("empty", "")]),
        event(1.7e9 + 5, 10, [sound("validation_samples/b", bytes(1000))]),
    ]
    file = io.BytesIO()
    writer = RecordWriter(file)
    for item in events:
        writer.write(item.SerializeToString())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "events").write_bytes(file.getvalue())


if __name__ == "__main__":
    main()
