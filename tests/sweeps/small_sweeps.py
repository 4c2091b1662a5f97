"""Overrides of jobs of seconds, and what a sweep says of them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

TWIN = [
    "data=diamond_twin",
    "data.n_frames=28",
    "data.validation_size=4",
    "data.test_size=4",
    "split_seed=1",
    "level=low",
    "logger=csv",
]
LINEAR = [*TWIN, "model=force_constants", "loss=energy", "model.anharmonic_cutoff=1.7"]


def done(said: str) -> list[str]:
    """Names of the jobs that a sweep says it ran."""
    return re.findall(r"^\[\d+/\d+\] (\S+): ", said, flags=re.MULTILINE)


def rows(path: Path) -> list[dict[str, str]]:
    """Of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
