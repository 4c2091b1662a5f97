"""Checkpoints: the label of one structure is one small file, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ase import Atoms

from mlffx.labels.engine import Label
from mlffx.labels.method import Method


class Journal:
    """Finished labels in a directory, each under a name made of everything that decides what it is.

    The same command finds them again; another structure, basis or threshold has another name and is computed anew.

    Args:
        directory: made when the first label is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def key(self, atoms: Atoms, method: Method, levels: Sequence[str], forces: bool) -> str:
        """Name of the label of a structure."""
        said = asdict(method) | {"levels": list(levels), "forces": forces}
        said.pop("memory")  # how, not what
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(atoms.numbers, dtype=np.int64).tobytes())
        for array in (atoms.positions, atoms.cell.array):
            digest.update((np.round(array, 9) + 0.0).tobytes())  # + 0.0: there is only one zero
        return digest.hexdigest()[:20]

    def read(self, key: str) -> Label | None:
        """The label, or None where there is none that can be read."""
        try:
            found = json.loads((self.directory / f"{key}.json").read_text())
            label = Label(**found)
        except (OSError, ValueError, TypeError):
            return None
        label.forces = {level: np.array(values) for level, values in label.forces.items()}
        return label

    def write(self, key: str, label: Label) -> None:
        """Whole or not at all, so that a kill in the middle leaves no half label."""
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = self.directory / f".{key}.{os.getpid()}.part"
        said = asdict(label) | {"forces": {level: np.asarray(f).tolist() for level, f in label.forces.items()}}
        partial.write_text(json.dumps(said))
        partial.replace(self.directory / f"{key}.json")
