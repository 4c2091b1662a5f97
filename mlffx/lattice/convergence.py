"""Whether frequencies have converged: the same potential at several displacements, supercells and meshes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.force_constants import ForceConstants, autodiff, conventional_matrix, finite_displacement
from mlffx.lattice.nac import Nac
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.base import Potential


@dataclass(frozen=True, eq=False)
class Convergence:
    """Frequencies against one setting.

    Attributes:
        setting: `displacement` (A), `supercell` (conventional cells along each axis) or `mesh` (q-points along each).
        values: of the setting, [n].
        frequencies: `X TA`... -> [n], cm-1; for `mesh` the zero-point energy (`zero-point energy`, meV/atom).
        best: what the values are compared with: the frequency at the limit (autodiff, largest supercell, finest mesh).
    """

    setting: str
    values: list[float]
    frequencies: dict[str, np.ndarray]
    best: dict[str, float]

    def errors(self) -> np.ndarray:
        """Largest deviation from the limit at each value, [n], in the unit of `frequencies`."""
        return np.max([np.abs(f - self.best[name]) for name, f in self.frequencies.items()], axis=0)

    def converged_at(self, tolerance: float = 1.0) -> float | None:
        """First value from which on every deviation stays below `tolerance`; None when there is none."""
        fine = self.errors() < tolerance
        for k, value in enumerate(self.values):
            if fine[k:].all():
                return value
        return None


def displacement_convergence(
    potential: Potential,
    crystal: Crystal,
    matrix: np.ndarray,
    displacements: Sequence[float] = (0.003, 0.01, 0.03, 0.1),
    extrapolate: bool = True,
) -> Convergence:
    """Labelled frequencies against the displacement; the limit is automatic differentiation."""
    found = [finite_displacement(potential, crystal, matrix, d, extrapolate=extrapolate) for d in displacements]
    return _collect("displacement", list(displacements), found, autodiff(potential, crystal, matrix))


def supercell_convergence(
    potential: Potential,
    crystal: Crystal,
    repeats: Sequence[int] = (1, 2, 3),
    nac: Nac | None = None,
    solve: Callable[..., ForceConstants] = finite_displacement,
) -> Convergence:
    """Labelled frequencies against conventional cells along each axis; the limit is the largest.

    Points that do not fit a supercell are interpolated in it: that is what converges.
    """
    found = [solve(potential, crystal, conventional_matrix(crystal, n)) for n in repeats]
    return _collect("supercell", [float(n) for n in repeats], found, found[-1], nac)


def mesh_convergence(phonons: Phonons, meshes: Sequence[int] = (7, 11, 15, 21, 31)) -> Convergence:
    """Zero-point energy, meV/atom, against the mesh; the limit is the finest."""
    energies = np.array([phonons.zero_point_energy(n) for n in meshes])
    name = "zero-point energy"
    return Convergence("mesh", [float(n) for n in meshes], {name: energies}, {name: float(energies[-1])})


def _collect(
    setting: str, values: list[float], found: Iterable[ForceConstants], limit: ForceConstants, nac: Nac | None = None
) -> Convergence:
    tables = [_flat(Phonons(fc, nac=nac)) for fc in found]
    best = _flat(Phonons(limit, nac=nac))
    common = [name for name in best if all(name in t for t in tables)]
    return Convergence(
        setting, values, {name: np.array([t[name] for t in tables]) for name in common}, {n: best[n] for n in common}
    )


def _flat(phonons: Phonons) -> dict[str, Any]:
    return {f"{label} {b}": f for label, named in labelled_frequencies(phonons).items() for b, f in named.items()}
