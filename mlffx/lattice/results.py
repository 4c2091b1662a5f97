"""What phonon calculations return: plain records with shapes and units, and the protocol that belongs beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np


def versions() -> dict[str, str]:
    """Versions of the packages the numbers depend on."""
    return {name: version(name) for name in ("phonopy", "symfc", "spglib", "seekpath", "numpy", "torch")}


@dataclass
class Protocol:
    """Everything a frequency depends on besides the potential; written beside every number.

    Units: A, amu; mesh of the density of states and thermodynamics.
    """

    method: str
    displacement: float | None
    supercell: list[list[int]]
    supercell_atoms: int
    symmetrised: bool
    raw_violations: dict[str, float]
    nac: dict[str, Any] | str
    mesh: list[int]
    masses: list[float]
    isotope: str
    cell: list[list[float]]
    lattice_constant: float
    anharmonic: str = "harmonic: no zero-point, thermal or anharmonic shift"
    versions: dict[str, str] = field(default_factory=versions)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Modes:
    """Solutions at q-points.

    Attributes:
        qpoints: [n_q, 3], fractions of the reciprocal primitive cell.
        frequencies: [n_q, n_modes], cm-1, ascending, imaginary ones negative.
        eigenvectors: [n_q, n_modes, n_basis, 3], complex, mass-weighted, normalised.
    """

    qpoints: np.ndarray
    frequencies: np.ndarray
    eigenvectors: np.ndarray


@dataclass(frozen=True, eq=False)
class Bands:
    """A band structure.

    Attributes:
        distance: along the path, [n], 1/A (without 2 pi).
        qpoints: [n, 3], fractions of the reciprocal primitive cell.
        frequencies: [n, n_modes], cm-1.
        labels: (distance, label) of the end points; `U|K` where the path jumps.
        segments: (first, last + 1) index of each segment: draw each on its own.
    """

    distance: np.ndarray
    qpoints: np.ndarray
    frequencies: np.ndarray
    labels: list[tuple[float, str]]
    segments: list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class DensityOfStates:
    """Density of states per primitive cell.

    Attributes:
        frequency: [n], cm-1.
        total: [n], states per cm-1; integrates to 3 n_basis.
        projected: element -> [n]; integrates to 3 per atom of the element.
        mesh: q-points along each axis.
    """

    frequency: np.ndarray
    total: np.ndarray
    projected: dict[str, np.ndarray]
    mesh: list[int]

    def integral(self) -> float:
        """Number of modes per primitive cell."""
        return float(np.trapezoid(self.total, self.frequency))


@dataclass(frozen=True, eq=False)
class Thermal:
    """Harmonic thermodynamics per atom.

    Attributes:
        temperature: [n], K.
        free_energy: [n], meV/atom, zero-point energy included.
        entropy: [n], k_B/atom.
        heat_capacity: [n], k_B/atom (3 at high temperature).
        zero_point_energy: meV/atom.
    """

    temperature: np.ndarray
    free_energy: np.ndarray
    entropy: np.ndarray
    heat_capacity: np.ndarray
    zero_point_energy: float
