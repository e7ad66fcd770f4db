"""Run files of Weights & Biases, read and written by its own Python package (wandb<0.19: later ones have no reader in Python).

    check_wandb.py RUN.wandb           parses every record and prints it, one a line
    check_wandb.py --fixtures FOLDER   writes what WandBRecordTests compares with: records, byte for byte, and digests of
                                       files whose records end anywhere near the end of a block
"""

import hashlib
import json
import os
import sys

import wandb
from google.protobuf import text_format
from wandb.proto import wandb_internal_pb2 as pb
from wandb.sdk.internal.datastore import DataStore

wandb._set_internal_process(disable=True)
wandb._assert_is_internal_process = True


def check(path):
    store = DataStore()
    store.open_for_scan(path)
    count = 0
    while (data := store.scan_data()) is not None:
        record = pb.Record()
        record.ParseFromString(data)
        count += 1
        if record.num != count:
            sys.exit(f"record {count} is numbered {record.num}")
        print(text_format.MessageToString(record, as_one_line=True))


def opened(path):
    if os.path.exists(path):
        os.remove(path)
    store = DataStore()
    store.open_for_write(path)
    return store


def framing(path):
    """SHA-256 of files of two or three records, by the lengths of these."""
    digests = {}
    for room in range(-3, 18):
        first = 32768 - 7 - 7 - room
        for lengths in ([first, 10], [first, 40_000], [1, first - 8, 70_000 + room]):
            store = opened(path)
            for index, length in enumerate(lengths):
                store._write_data(bytes([97 + index]) * length)
            store.close()
            with open(path, "rb") as file:
                digests[",".join(map(str, lengths))] = hashlib.sha256(file.read()).hexdigest()
            os.remove(path)
    return digests


def records(path):
    store = opened(path)
    number = 0

    def write(**fields):
        nonlocal number
        number += 1
        store.write(pb.Record(num=number, **fields))

    version = pb.VersionInfo(producer="swift-ltx", min_consumer="0.12.0")
    write(header=pb.HeaderRecord(version_info=version))
    run = pb.RunRecord(run_id="abc12345", entity="somebody", project="films", display_name="a name")
    run.tags.extend(["x", "ü"])
    run.host = "host"
    run.start_time.seconds = 1_700_000_000
    run.start_time.nanos = 500_000_000
    run.config.update.add(key="model", value_json='{"path":"a/b"}')
    run.config.update.add(key="steps", value_json="250")
    write(run=run)
    history = pb.HistoryRecord(step=pb.HistoryStep(num=300))
    history.item.add(nested_key=["train/loss"], value_json="0.25")
    history.item.add(nested_key=["_step"], value_json="300")
    write(history=history)
    summary = pb.SummaryRecord()
    summary.update.add(nested_key=["train/loss"], value_json="0.25")
    write(summary=summary)
    files = pb.FilesRecord()
    files.files.add(path="media/videos/a.mp4", type=pb.FilesItem.FileType.MEDIA)
    write(files=files)
    write(exit=pb.RunExitRecord(exit_code=255, runtime=12))
    store.close()


if sys.argv[1] == "--fixtures":
    folder = sys.argv[2]
    records(f"{folder}/records.wandb")
    with open(f"{folder}/framing.json", "w") as file:
        json.dump(framing(f"{folder}/temporary.wandb"), file, indent=1)
        file.write("\n")
else:
    check(sys.argv[1])
