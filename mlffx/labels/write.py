"""Finished labels as extended XYZ, one energy a level in each comment line, and a record of how they were made."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlffx.labels.engine import Label
from mlffx.labels.method import Method

PACKAGES = ("pyscf", "numpy", "scipy", "ase", "mlffx")


def write_extxyz(path: Path, labelled: Sequence[tuple[str, Atoms, Label]], levels: Sequence[str]) -> None:
    """All structures in one file: `energy_LEVEL` in the comment line, `forces_dft` as a column, eV and A.

    The reader takes a level by its keys: `{file: NAME.xyz, energy_key: energy_hf}`.
    """
    lines = []
    for name, atoms, label in labelled:
        forces = label.forces.get("dft")
        lattice = " ".join(f"{x:.10g}" for x in atoms.cell.array.ravel())
        said = [
            f'Lattice="{lattice}"',
            "Properties=species:S:1:pos:R:3" + (":forces_dft:R:3" if forces is not None else ""),
        ]
        said += ['pbc="T T T"', f'name="{name}"']
        said += [f"{key}={_text(value)}" for key, value in atoms.info.items() if key != "name" and _keep(key)]
        said += [f"energy_{level}={label.energies[level]:.7f}" for level in levels if level in label.energies]
        said += [f"{key}={value:.6g}" for key, value in label.details.items()]
        lines += [str(len(atoms)), " ".join(said)]
        for index, (symbol, position) in enumerate(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)):
            row = f"{symbol:<2} " + " ".join(f"{x:13.9f}" for x in position)
            lines.append(row + (" " + " ".join(f"{x:12.7f}" for x in forces[index]) if forces is not None else ""))
    partial = path.with_name(path.name + ".part")
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(path)


def _keep(key: str) -> bool:
    """What came with a structure stays with it, but labels of somebody else do not."""
    return not key.startswith("energy")


def _text(value: str | float) -> str:
    return f"{value:.10g}" if isinstance(value, (int, float)) else f'"{value}"'


def write_record(
    path: Path,
    values: Mapping[str, Any],
    method: Method,
    labelled: Sequence[tuple[str, Atoms, Label]],
    left_out: Mapping[str, str],
    levels: Sequence[str],
    command: str,
) -> dict[str, Any]:
    """Settings, versions, timings and what was left out, as JSON beside the labels."""
    steps = sorted({step for _, _, label in labelled for step in label.seconds})
    record = {
        "command": command,
        "settings": dict(values),
        "levels": {level: method.description(level) for level in levels},
        "energies": "energy_LEVEL, eV per cell",
        "forces": "forces_dft, eV/A" if any(label.forces for _, _, label in labelled) else "none",
        "structures": len(labelled),
        "left_out": dict(left_out),
        "seconds_per_structure": {
            step: round(float(np.mean([label.seconds.get(step, 0.0) for _, _, label in labelled])), 2) for step in steps
        },
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(path)
    return record


def data_config(name: str, file: str, levels: Sequence[str], method: Method, forces: bool) -> str:
    """YAML of the `levels` of a data configuration that reads the file."""
    rows = ["levels:"]
    for level in levels:
        said = [f"file: {file}", f"energy_key: energy_{level}"]
        if level == "dft" and forces:
            said += ["forces_key: forces_dft", "labels: [energy, forces]"]
        rows.append(f"  {level}: {{{', '.join(said)}, description: {method.description(level)}}}")
    return "\n".join(rows)
