"""Measured values for a run: which there are, in which isotopes, and where they lie on the path of the bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import spglib

from mlffx.data.crystal import Crystal
from mlffx.evaluation.comparison import LABELS, Measured
from mlffx.evaluation.spectra import BandPath
from mlffx.lattice.paths import cartesian, to_primitive
from mlffx.references.tables import COMPOSITIONS, Measurement, materials, reference

KINDS = ("experiment", "model_of_experiment")
ON_PATH = 1e-3  # 1/A; how far from the path a measured q may lie and still be drawn on it


@dataclass(frozen=True)
class Experiment:
    """Everything measured that a run can be held against.

    Attributes:
        labelled: frequencies at GAMMA, X, L, W, K, of every isotope: rows of comparison.csv.
        elsewhere: frequencies at other points, for the dispersion only.
        harmonic: measured value with the anharmonic shift removed, cm-1, where that is published.
        notes: isotope, temperature and lattice constant of the measurements, for people.
        lattice_constants: measured ones, of every isotope.
    """

    labelled: list[Measured]
    elsewhere: list[Measured]
    harmonic: list[Measured]
    notes: list[str]
    lattice_constants: Sequence[Measurement] = ()

    def labelled_for(self, isotope: str) -> list[Measured]:
        """Values at labelled points of one isotope."""
        return [m for m in self.labelled if m.isotope == isotope]

    def drawn(self, isotope: str) -> list[Measured]:
        """All values of one isotope, for a dispersion."""
        return [m for m in self.labelled + self.elsewhere if m.isotope == isotope]

    def isotopes(self) -> list[str]:
        """Isotopic compositions with values at labelled points, natural first."""
        found = dict.fromkeys(m.isotope for m in self.labelled)
        return sorted(found, key=lambda name: name != "natural")


NOTHING = Experiment([], [], [], [])


def known_material(name: str) -> str | None:
    """The reference table that belongs to a data set of this name; a twin has none: its truth is known exactly."""
    return name if name in materials() else None


def experiment(material: str, crystal: Crystal) -> Experiment:
    """Measured frequencies of a material.

    Args:
        material: name of a reference table.
        crystal: whose reciprocal lattice the q-points are converted to.
    """
    table = reference(material)
    labelled: list[Measured] = []
    elsewhere: list[Measured] = []
    for m in table.frequencies(kinds=KINDS):
        if m.isotope == "7LiH":  # the shell model's prediction for another mass is nobody's measurement
            continue
        record = _measured(m, crystal)
        at_label = m.label in LABELS and not m.branch.startswith("mode_")
        (labelled if at_label else elsewhere).append(record)
    harmonic = [_measured(m, crystal) for m in table.select(quantity="harmonic_frequency")]
    lattice = table.select(kind="experiment", quantity="lattice_constant")
    return Experiment(labelled, elsewhere, harmonic, _notes(table.measurements), tuple(lattice))


def _measured(m: Measurement, crystal: Crystal) -> Measured:
    text = m.source if not m.method else f"{m.source}; {m.method}"
    q = None if m.q is None else tuple(float(x) for x in to_primitive(crystal, m.q))
    return Measured(
        label=m.label,
        branch=m.branch,
        cm1=m.value,
        sigma_cm1=m.sigma if m.sigma is not None else float("nan"),
        source=f"{text} (grade {m.grade})" if m.grade else text,
        isotope=m.isotope,
        temperature_K=m.temperature,
        grade=m.grade,
        neutron="neutron" in m.method.lower(),
        fitted=m.kind == "model_of_experiment",
        q=q,  # type: ignore[arg-type]
    )


def place(records: Sequence[Measured], path: BandPath, crystal: Crystal) -> list[Measured]:
    """The records with every position on the axis of the bands where a symmetry-equivalent point lies."""
    rotations = _rotations(crystal)
    on_path = cartesian(crystal, path.q)
    shifts = np.array(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij")).reshape(3, -1).T
    lattice = cartesian(crystal, shifts)
    out = []
    for record in records:
        places = path.places(record.label)
        if not places and record.q is not None:
            star = cartesian(crystal, np.array(record.q)) @ rotations  # [n_operations, 3]
            star = np.unique(np.round((star[:, None] + lattice[None]).reshape(-1, 3), 6), axis=0)
            places = _on_segments(star, path, on_path)
        out.append(replace(record, places=tuple(places)))
    return out


def _on_segments(star: np.ndarray, path: BandPath, on_path: np.ndarray) -> list[float]:
    """Distances along the path of the points of a star that lie on one of its straight pieces."""
    found: list[float] = []
    for start, stop in path.segments:
        a, b = on_path[start], on_path[stop - 1]
        length = float(np.linalg.norm(b - a))
        along = (star - a) @ (b - a) / length
        off = np.linalg.norm(star - a - np.outer(along, (b - a) / length), axis=1)
        for s in along[(off < ON_PATH) & (along > -ON_PATH) & (along < length + ON_PATH)]:
            position = float(path.distance[start] + np.clip(s, 0.0, length))
            if all(abs(position - other) > ON_PATH for other in found):
                found.append(position)
    return found


def _rotations(crystal: Crystal) -> np.ndarray:
    """Point group with inversion (time reversal) as Cartesian matrices that act on row vectors, [n, 3, 3]."""
    cell: Any = (crystal.cell, crystal.scaled_positions, crystal.numbers)
    found: Any = spglib.get_symmetry(cell, symprec=1e-5)
    columns = crystal.cell.T
    proper = np.array([(columns @ r @ np.linalg.inv(columns)).T for r in found["rotations"]])
    return np.concatenate([proper, -proper])


def _notes(measurements: Sequence[Measurement]) -> list[str]:
    """What a comparison must state: lattice constants, and the anharmonic shift where it is known."""
    notes = []
    for m in measurements:
        if m.kind == "experiment" and m.quantity in ("lattice_constant", "lattice_constant_static"):
            spread = f" ± {m.sigma:g}" if m.sigma is not None else ""
            notes.append(
                f"experimental lattice constant ({m.isotope}, {m.temperature:g} K, {m.method}): {m.value:g}{spread} Å"
            )
        if m.quantity == "anharmonic_shift":
            notes.append(
                f"anharmonic shift of {m.label} {m.branch} at {m.temperature:g} K: -{m.value:g} ± {m.sigma:g} cm⁻¹ "
                f"({m.source}); a harmonic frequency should lie that much above the measured one"
            )
    return notes


def masses_for(isotope: str) -> dict[str, str]:
    """Element -> isotope, for `PhononSettings.isotopes`."""
    return dict(COMPOSITIONS[isotope])
