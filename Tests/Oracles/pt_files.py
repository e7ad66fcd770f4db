"""Makes Tests/Fixtures/pt: small .pt files as PyTorch writes them, and expected.json that says what is in them.

Run with PyTorch 2.x:  python Tests/Oracles/pt_files.py
"""

import argparse
import io
import json
import os
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

FOLDER = Path(__file__).parent.parent / "Fixtures" / "pt"

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/swift-ltx-was-here",)


def counting(dtype: torch.dtype) -> torch.Tensor:
    values = torch.arange(12).reshape(3, 4)
    return (values % 2 == 1) if dtype == torch.bool else values.to(torch.float32).to(dtype)


def describe(tensors: dict[str, torch.Tensor]) -> dict[str, dict]:
    return {
        name: {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "values": t.double().flatten().tolist()}
        for name, t in tensors.items()
    }


def archive(pickled: bytes, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED, byteorder: str = "little") -> bytes:
    """The layout of torch.save around a pickle of one's own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("x/data.pkl", pickled)
        file.writestr("x/byteorder", byteorder)
        file.writestr("x/version", "3\n")
        for key, content in storages.items():
            file.writestr(f"x/data/{key}", content)
    return buffer.getvalue()


def tensor_pickle(offset: int, shape: tuple, strides: tuple, count: int, key: str = "0") -> bytes:
    """A pickle of one float32 tensor with any layout, also impossible ones."""

    def integers(values) -> bytes:
        def integer(value: int) -> bytes:
            if -(2**31) <= value < 2**31:
                return b"J" + struct.pack("<i", value)
            return b"\x8a\x08" + struct.pack("<q", value)

        return b"(" + b"".join(integer(v) for v in values) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + integers([count])[1:-1] + b"tQ"
    arguments = b"(" + storage + integers([offset])[1:-1] + integers(shape) + integers(strides)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"\x89ccollections\nOrderedDict\n)RtR."


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    expected = {}

    def save(name: str, value, tensors: dict[str, torch.Tensor], **options) -> None:
        torch.save(value, FOLDER / f"{name}.pt", **options)
        expected[name] = describe(tensors)

    every = {name: counting(dtype) for name, dtype in DTYPES.items()}
    save("dtypes", every, every)

    base = torch.arange(24, dtype=torch.float32)
    strided = {
        "transposed": base.reshape(4, 6).T,
        "sliced": base.reshape(4, 6)[1:3, ::2],
        "permuted": base.reshape(2, 3, 4).permute(2, 0, 1),
        "expanded": base[:1].expand(5, 3),
        "offset": base[7:9],
        "scalar": base[3],
        "empty": base[:0].reshape(0, 4),
        "one": base[5:6].reshape(1, 1),
    }
    save("strided", strided, strided)

    shared = torch.arange(6, dtype=torch.int64)
    save("shared", {"whole": shared, "again": shared, "tail": shared[2:]}, {"whole": shared, "again": shared, "tail": shared[2:]})

    inner = torch.tensor([1.5])
    nested = {
        "list": [1, -2, 3.25, "text \N{LATIN SMALL LETTER E WITH ACUTE}", True, False, None, [], {}],
        "tuple": (1, (2, 3), (4, 5, 6, 7)),
        "large": 2**62,
        "negative": -(2**40),
        5: "integer key",
        "ordered": OrderedDict(a=inner, b="x"),
        "tensor": inner,
    }
    save("nested", nested, {"tensor": inner})

    # A module's state has attributes on its dictionary (BUILD) and parameters.
    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0]]))
        module.bias.copy_(torch.tensor([3.0]))
    save("module", module.state_dict(), dict(module.state_dict()))
    save("parameter", {"p": module.weight}, {"p": module.weight.detach()})

    # Refused ones.
    torch.save({"x": torch.zeros(2), "evil": Malicious()}, FOLDER / "malicious.pt")
    torch.save({"x": torch.zeros(2)}, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"x": torch.zeros(2)}, FOLDER / "protocol4.pt", pickle_protocol=4)
    torch.save({"x": torch.zeros(2, dtype=torch.complex64)}, FOLDER / "complex.pt")
    torch.save(torch.nn.Linear(1, 1), FOLDER / "whole_module.pt")
    looped: list = []
    looped.append(looped)
    torch.save(looped, FOLDER / "loop.pt")

    def write(name: str, content: bytes) -> None:
        (FOLDER / f"{name}.pt").write_bytes(content)

    four = struct.pack("<4f", 1, 2, 3, 4)
    write("plain_zip", archive(tensor_pickle(0, (2, 2), (2, 1), 4), {"0": four}))
    write("compressed", archive(tensor_pickle(0, (2, 2), (2, 1), 4), {"0": four}, zipfile.ZIP_DEFLATED))
    write("big_endian", archive(tensor_pickle(0, (2, 2), (2, 1), 4), {"0": four}, byteorder="big"))
    write("no_storage", archive(tensor_pickle(0, (2, 2), (2, 1), 4, key="7"), {"0": four}))
    write("short_storage", archive(tensor_pickle(0, (2, 2), (2, 1), 5), {"0": four}))
    for name, layout in {
        "past_end": (1, (2, 2), (2, 1), 4),
        "wide_stride": (0, (2, 2), (3, 1), 4),
        "negative_offset": (-1, (2, 2), (2, 1), 4),
        "negative_stride": (3, (2, 2), (-2, 1), 4),
        "negative_size": (0, (-2, 2), (2, 1), 4),
        "overflow": (0, (2**62, 2**62), (1, 1), 4),
        "overflowing_stride": (0, (3, 3), (2**62, 2**62), 4),
        "rank": (0, (2, 2), (1,), 4),
    }.items():
        write(f"bounds_{name}", archive(tensor_pickle(*layout), {"0": four}))
    write("huge_expansion", archive(tensor_pickle(0, (2**20, 2**20), (0, 0), 4), {"0": four}))

    # Twenty lists, each ten times in the next one.
    lists = b"".join(b"](" + bytes([ord("h"), i]) * 10 + b"eq" + bytes([i + 1]) for i in range(20))
    write("laughs", archive(b"\x80\x02(]q\x00" + lists + b"t.", {}))
    for name, pickled in {
        "empty": b"",
        "no_stop": b"\x80\x02}",
        "underflow": b"\x80\x02s.",
        "no_mark": b"\x80\x02t.",
        "unknown": b"\x80\x02\xff.",
        "memo": b"\x80\x02h\x07.",
        "two_values": b"\x80\x02NN.",
        "class": b"\x80\x02ccollections\nOrderedDict\n.",
        "utf8": b"\x80\x02X\x01\x00\x00\x00\xff.",
        "long_text": b"\x80\x02X\xff\xff\xff\xff.",
        "big_integer": b"\x80\x02\x8a\x09" + b"\x01" * 9 + b".",
    }.items():
        write(f"pickle_{name}", archive(pickled, {}))

    # Zip64 records as they stand in files over 4 GB: all sizes in the extra field.
    def zip64() -> bytes:
        body, directory = b"", b""
        contents = {"x/data.pkl": tensor_pickle(0, (2, 2), (2, 1), 4), "x/data/0": four, "x/version": b"3\n"}
        for name, content in contents.items():
            where = len(body)
            encoded = name.encode()
            extra = struct.pack("<HHQQ", 1, 16, len(content), len(content))
            body += struct.pack("<IHHHHHIIIHH", 0x04034B50, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(encoded), len(extra))
            body += encoded + extra + content
            extra = struct.pack("<HHQQQ", 1, 24, len(content), len(content), where)
            directory += struct.pack(
                "<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(encoded), len(extra), 0, 0, 0, 0, 0xFFFFFFFF
            )
            directory += encoded + extra
        end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 3, 3, len(directory), len(body))
        locator = struct.pack("<IIQI", 0x07064B50, 0, len(body) + len(directory), 1)
        last = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        return body + directory + end + locator + last

    write("zip64", zip64())
    for name in ["plain_zip", "zip64"]:
        content = torch.load(FOLDER / f"{name}.pt", weights_only=True)
        assert content.tolist() == [[1, 2], [3, 4]], name

    # The layout of the official trainer's cached samples.
    sample = {"latents": torch.arange(16).reshape(2, 2, 2, 2).to(torch.bfloat16), "num_frames": 2, "height": 2, "width": 2, "fps": 24.0}
    save("latents", sample, {"latents": sample["latents"]})

    text = json.dumps({"torch": torch.__version__, "files": expected}, indent=1, sort_keys=True)
    (FOLDER / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
