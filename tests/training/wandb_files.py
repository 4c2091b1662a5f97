"""Reads what an offline W&B run has on disk: a LevelDB log of protocol buffers."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> list[wandb_internal_pb2.Record]:
    """Every record of a .wandb file; checksums are checked."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    found, parts, at = [], b"", HEADER
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:  # too little for a header: the block is padded
            at += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        body = data[at + HEADER : at + HEADER + length]
        assert zlib.crc32(body, zlib.crc32(bytes([kind]))) == checksum, "a damaged record"
        at += HEADER + length
        parts = body if kind in (FULL, FIRST) else parts + body
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
    return found


class OfflineRun:
    """One run read back.

    Attributes:
        run: id, names, group, tags, job type.
        config, summary: plain dictionaries.
        history: one dictionary a row.
        made, used: names of artifacts put out and taken in, with the digests of their manifests.
    """

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("run-*.wandb")
        self.config, self.summary, self.history = {}, {}, []
        self.made, self.used = {}, {}
        self.exit_code = None
        for record in records(path):
            if record.HasField("run"):
                self.run = record.run
                self.config |= _items(record.run.config.update)
            elif record.HasField("config"):
                self.config |= _items(record.config.update)
            elif record.HasField("history"):
                self.history.append(_items(record.history.item))
            elif record.HasField("summary"):
                self.summary |= _items(record.summary.update)
            elif record.HasField("artifact"):
                where = self.used if record.artifact.use_after_commit else self.made
                where[record.artifact.name] = record.artifact.digest
            elif record.HasField("exit"):
                self.exit_code = record.exit.exit_code

    def rows(self, key: str) -> list[dict]:
        """Rows that have a key."""
        return [row for row in self.history if key in row]


def _items(items) -> dict:
    """Keys and values; those of a table come one by one."""
    found: dict = {}
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        node = found
        for key in above:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)
    return found


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Runs below `folder/wandb`, oldest first."""
    return [OfflineRun(f) for f in sorted((folder / "wandb").glob("offline-run-*"))]
