"""The settling test as a control of an evaluated run: `controls=[settle]`, labels of the data set or `settle=FILE`.

A twin labels itself.

Writes settle.csv and the figure settle into `evaluation/controls/`; the table of the report is made from the verdict.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlffx.data.assemble import files_root
from mlffx.data.crystal import Crystal
from mlffx.data.levels import level_name
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.control_context import Context
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.settle import settle_figure
from mlffx.evaluation.settle import Comparison, Settlement, settle
from mlffx.evaluation.settle_labels import SettleLabels, labels_of, read_settle
from mlffx.evaluation.settle_structures import Plan, settle_structures
from mlffx.evaluation.settle_verdict import MISSED, ROW, TITLE, verdict
from mlffx.lattice.isotopes import masses_of
from mlffx.potentials.batched import evaluate_atoms
from mlffx.training.run_directory import RunDirectory

UNITS = {"force": (1e3, "meV/A"), "frequency": (1.0, "cm-1")}


def settle_control(c: Context) -> Verdict:
    """Forces and frozen phonons by finite differences of the high level, against the run."""
    path, masses = labels_file(c.settle, c.settings.data), masses_of(c.crystal.numbers, c.phonons.isotopes)
    if path is not None:
        labels = read_settle(path, c.crystal, masses)
    elif c.settings.data.get("kind") == "twin":
        largest = float(c.task.dataset.amplitudes()[c.task.split.train].max())
        labels = twin_labels(c.settings.data, c.task.dataset.atoms[0], c.crystal, masses, largest)
    else:
        remedy = "no labelled finite displacements: give settle=FILE, or declare data.settle (docs/settle.md)"
        return Verdict("settle", TITLE, "inconclusive", remedy)
    bases = c.members.low_level()
    trained_on = training_displacements(c)
    found = settle(c.members, bases, labels, c.settings.level.name, c.task.low, trained_on, c.sigma_scale)
    c.directory.mkdir(parents=True, exist_ok=True)
    write_csv(found, c.directory / "settle.csv")
    style.save(settle_figure(found), c.directory / "settle")
    return verdict(found)


def twin_labels(
    data: Mapping[str, Any], structure: Atoms, crystal: Crystal, masses: np.ndarray, largest: float
) -> SettleLabels:
    """Of an analytic twin, whose energies cost nothing: in the supercell of its structures, without noise.

    Args:
        largest: rms displacement of the training structures, A; those of the test are displaced no further.
    """
    supercell = crystal.supercell(crystal.repetitions(structure.cell.array))
    frames = settle_structures(crystal, supercell, Plan(full=()).scaled(largest))
    for level, potential in twin_potentials(data).items():
        for frame, energy in zip(frames, evaluate_atoms(potential, frames, forces=False).energies, strict=True):
            frame.info[f"{level}_energy"] = float(energy)
    return labels_of(frames, crystal, masses, "the twin's own potentials")


def labels_file(given: Path | str | None, data: Mapping[str, Any]) -> Path | None:
    """`settle=FILE` of the command line, else `settle` of the data set, relative to its root."""
    if given:
        return Path(given)
    declared = data.get("settle")
    return None if declared is None else files_root(data.get("root")) / str(declared)


def settle_labels(run: Path | str, given: Path | str | None) -> Path | None:
    """Labels of the settling test: those given, else those of the run's data set where they are there.

    Raises:
        UserError: for a file that was asked for and is not there.
    """
    if given is not None and not Path(given).is_file():
        raise UserError(
            "no such file", "python -m mlffx.evaluation.settle_structures makes the structures", f"settle={given}"
        )
    found = labels_file(given, RunDirectory(run).read_config().get("data", {}))
    return found if found is not None and found.is_file() else None


def training_displacements(c: Context) -> list[np.ndarray]:
    """Of the training and validation structures, in the order of the ideal sites, [n_atoms, 3] each, A."""
    matches = c.task.dataset.matches or []
    used = {int(k) for k in (*c.task.split.train, *c.task.split.validation)}
    return [m.displacements[np.argsort(m.order)] for k, m in enumerate(matches) if k in used]


def write_csv(found: Settlement, path: Path) -> None:
    """Every force and frequency, true and predicted; cells without a value are empty."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["kind", "name", "unit", *ROW, *MISSED])
        for kind, c in (("frequency", found.modes), ("force", found.forces)):
            if c is None:
                continue
            factor, unit = UNITS[kind]
            arrays = [None if a is None else factor * a for a in _columns(c)]
            for i, name in enumerate(c.names):
                cells = ["" if a is None or not np.isfinite(a[i]) else f"{a[i]:.4f}" for a in arrays]
                writer.writerow([kind, name, unit, *cells])


def _columns(c: Comparison) -> list[np.ndarray | None]:
    return [getattr(c, name) for name in (*ROW, *MISSED)]


def report_table(found: Verdict) -> tuple[list[str], list[list[str]]] | None:
    """Heads and rows of the report's table, from the numbers of the verdict; None where there is nothing to show."""
    modes, forces = found.numbers.get("frequencies"), found.numbers.get("forces")
    if not modes and not forces:
        return None
    high, low = (level_name(str(found.numbers.get(key) or "").upper()) for key in ("high", "low"))
    heads = ["", f"{high}, true", "predicted", *([f"{low}, true", "shift, true", "predicted", "missed"] if low else [])]
    rows = []
    for row in (modes or {}).get("rows", []):
        label, branch = row["name"].split()
        rows.append([f"{style.greek(label)} {branch}, cm⁻¹", *_cells(row, bool(low), "+")])
    for row in (forces or {}).get("rows", []):
        rows.append([f"{row['name']}, rms, meV/Å", *_cells(row, bool(low), "")])
    return heads, rows


def _cells(row: Mapping[str, Any], with_low: bool, sign: str) -> list[str]:
    def cell(value: str, sigma: str = "", sign: str = "") -> str:
        if row.get(value) is None:
            return ""
        text = f"{row[value]:{sign}.1f}"
        return text if row.get(sigma) is None else f"{text} ± {row[sigma]:.1f}"

    cells = [cell("high", "high_noise"), cell("predicted", "sigma")]
    if with_low:
        cells += [cell("low"), cell("shift", "shift_noise", sign)]
        cells += [cell("predicted_shift", "shift_sigma", sign), cell("missed", "", sign)]
    return cells
