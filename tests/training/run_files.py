"""What a run leaves behind, read back: the rows of its epochs and its weights."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from mlffx.potentials.build import load_potential

TIMES = ("seconds", "structures_per_second")  # columns that differ from one repetition to the next

Weights = dict[str, torch.Tensor]


def rows(run: Path) -> list[dict[str, str]]:
    """Of metrics.csv, one an epoch."""
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def timeless(run: Path) -> list[dict[str, str]]:
    """The rows without what the clock has written."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows(run)]


def weights(run: Path) -> Weights:
    """Of the best epoch."""
    return load_potential(run / "checkpoints" / "best.ckpt").state_dict()


def same(a: Weights, b: Weights) -> bool:
    """Bit by bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
