"""Anharmonic shifts of the modes that have names: lines in molecular dynamics at GAMMA, X, L against their phonons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.dynamics.projection import ModeLine
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.force_constants import ForceConstants
from mlffx.lattice.isotopes import masses_of
from mlffx.lattice.paths import labelled_points
from mlffx.lattice.phonons import Phonons

SAME = 1.0  # cm-1; a line and a phonon of the same force constants that are one mode
NEXT = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(-1, 3)


@dataclass(frozen=True)
class LabelledShift:
    """What anharmonicity does to a named mode.

    Attributes:
        label, branch: its name.
        harmonic: cm-1, from the force constants of the potential in the supercell of the dynamics.
        shift, sigma: line in the dynamics minus `harmonic`, cm-1, with the error of a finite run.
        linewidth, linewidth_sigma: full width at half maximum, cm-1.
    """

    label: str
    branch: str
    harmonic: float
    shift: float
    sigma: float
    linewidth: float
    linewidth_sigma: float


def labelled_shifts(
    lines: Sequence[ModeLine], constants: ForceConstants, isotopes: dict[str, str | float]
) -> list[LabelledShift]:
    """Lines at the labelled points that fit the supercell, in their order.

    A line stands for a star of wave vectors; stars are told apart by their length, modes of a star by their frequency.
    """
    crystal = constants.crystal
    phonons = Phonons(constants, masses_of(crystal.numbers, isotopes))
    points = labelled_points(crystal)
    found = []
    for label, branches in labelled_frequencies(phonons).items():
        length = shortest(points[label], crystal)
        star = [line for line in lines if abs(shortest(line.q, crystal) - length) < 1e-3]
        for branch, frequency in branches.items():
            mine = min(star, key=lambda line: abs(line.harmonic - frequency), default=None)
            if mine is not None and abs(mine.harmonic - frequency) < SAME:
                found.append(
                    LabelledShift(
                        label,
                        branch,
                        mine.harmonic,
                        mine.frequency - mine.harmonic,
                        mine.frequency_sigma,
                        mine.linewidth,
                        mine.linewidth_sigma,
                    )
                )
    return found


def shortest(q: np.ndarray, crystal: Crystal) -> float:
    """Length of a wave vector in the first Brillouin zone, 1/A (without 2 pi)."""
    reciprocal = np.linalg.inv(crystal.cell).T
    reduced = np.asarray(q) - np.rint(q)
    return float(np.linalg.norm((reduced + NEXT) @ reciprocal, axis=1).min())
