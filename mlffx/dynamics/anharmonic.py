"""How anharmonic a crystal is: sigma^A, and the harmonic force constants that fit its thermal motion best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from symfc import Symfc
from symfc.utils.utils import SymfcAtoms

from mlffx.errors import UserError

BLOCKS = 8  # of replicas, for errors


@dataclass(frozen=True)
class Anharmonicity:
    """sigma^A of F. Knoop, T. A. R. Purcell, M. Scheffler, C. Carbogno, Phys. Rev. Mater. 4, 083809 (2020).

    Attributes:
        total: std(F - F_harmonic) / std(F) over all force components; 0 harmonic, 1 as large as the forces.
        sigma: its jackknife error.
        elements: the same over the atoms of each element: symbol -> (value, error).
    """

    total: float
    sigma: float
    elements: dict[str, tuple[float, float]]


def anharmonicity(
    displacements: np.ndarray, forces: np.ndarray, force_constants: np.ndarray, numbers: np.ndarray
) -> Anharmonicity:
    """sigma^A of thermal snapshots against given harmonic force constants.

    Args:
        displacements, forces: [n_snapshots, R, n, 3] or [n_snapshots, n, 3], A and eV/A.
        force_constants: [n, n, 3, 3], eV/A^2.
        numbers: atomic numbers, [n].
    """
    u, f = _with_replicas(displacements), _with_replicas(forces)
    n = len(numbers)
    flat = np.asarray(force_constants).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    rest = f + (u.reshape(*u.shape[:2], 3 * n) @ flat).reshape(f.shape)
    blocks = list(_blocks(u))

    def value(mine: np.ndarray) -> tuple[float, float]:
        missed, whole = (np.stack([_squares(x[b][..., mine, :]) for b in blocks]) for x in (rest, f))
        if whole.sum() <= 0:
            raise UserError("all forces vanish", "sigma^A needs thermal displacements", "sigma_a")
        kept = [np.sqrt((missed.sum() - missed[i]) / (whole.sum() - whole[i])) for i in range(len(blocks))]
        error = np.sqrt((len(blocks) - 1) * np.var(kept)) if len(blocks) > 1 else np.nan
        return float(np.sqrt(missed.sum() / whole.sum())), float(error)

    total, sigma = value(np.ones(n, dtype=bool))
    elements = {chemical_symbols[z]: value(np.asarray(numbers) == z) for z in np.unique(numbers)}
    return Anharmonicity(total, sigma, elements)


@dataclass(frozen=True, eq=False)
class EffectiveHarmonic:
    """Harmonic force constants fitted to forces along a trajectory (the idea of O. Hellman et al., Phys. Rev. B 84,
    180301).

    Attributes:
        force_constants: second order, [n, n, 3, 3], eV/A^2, with all symmetries and sum rules.
        blocks: the same with one block of replicas (or snapshots) left out, [n_blocks, n, n, 3, 3]; `jackknife` makes
            errors of anything computed from them.
        rms: root mean square of the forces left over, eV/A.
        third_order: whether third-order force constants were fitted along (and so do not disturb the second).
    """

    force_constants: np.ndarray
    blocks: np.ndarray
    rms: float
    third_order: bool


def effective_force_constants(
    supercell: Atoms, displacements: np.ndarray, forces: np.ndarray, third_order: bool = False, recentre: bool = True
) -> EffectiveHarmonic:
    """Temperature-dependent effective force constants from snapshots, by symfc.

    Args:
        supercell: ideal supercell.
        displacements, forces: [n_snapshots, R, n, 3] or [n_snapshots, n, 3], A and eV/A.
        third_order: fit third-order force constants too.
        recentre: measure displacements and forces from their means (thermal motion about the mean positions).
    """
    u, f = _with_replicas(displacements), _with_replicas(forces)
    if recentre:
        u, f = u - u.mean(axis=(0, 1)), f - f.mean(axis=(0, 1))
    orders = [2, 3] if third_order else [2]
    cell = SymfcAtoms(
        cell=supercell.cell.array, scaled_positions=supercell.get_scaled_positions(), numbers=supercell.numbers
    )
    solver = Symfc(cell, log_level=0)
    for order in orders:
        solver.compute_basis_set(orders=[order])

    def fit(snapshots: np.ndarray, answers: np.ndarray) -> np.ndarray:
        solver.displacements, solver.forces = snapshots, answers
        solver.solve(orders=orders, is_compact_fc=False)
        return np.array(solver.force_constants[2])

    n = len(supercell)
    flat_u, flat_f = (np.ascontiguousarray(x.reshape(-1, n, 3)) for x in (u, f))
    if 3 * n * len(flat_u) < sum(solver.basis_set[o].basis_set.shape[1] for o in orders):
        raise UserError(
            f"{len(flat_u)} snapshots are too few for the force constants", "sample more of them", "snapshots"
        )
    best = fit(flat_u, flat_f)
    left = flat_f + np.einsum("ijab,sjb->sia", best, flat_u)
    if third_order:
        cubic = np.array(solver.force_constants[3]).transpose(0, 3, 1, 4, 2, 5).reshape(3 * n, 3 * n, 3 * n)
        for rest, snapshot in zip(left, flat_u, strict=True):
            rest += 0.5 * (cubic @ snapshot.ravel() @ snapshot.ravel()).reshape(n, 3)
    blocks = []
    for block in _blocks(u) if len(flat_u) > 1 else ():
        keep = np.ones(u.shape[:2], dtype=bool)
        keep[block] = False
        blocks.append(fit(np.ascontiguousarray(u[keep]), np.ascontiguousarray(f[keep])))
    return EffectiveHarmonic(best, np.array(blocks), float(np.sqrt((left**2).mean())), third_order)


def jackknife(values: np.ndarray) -> np.ndarray:
    """Standard error from leave-one-block-out values [n_blocks, ...]."""
    values = np.asarray(values)
    return np.sqrt((len(values) - 1) * values.var(axis=0))


def _with_replicas(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    return array[:, None] if array.ndim == 3 else array


def _squares(x: np.ndarray) -> float:
    return float((x**2).sum())


def _blocks(array: np.ndarray) -> Iterator[tuple]:
    """Index of each block: whole replicas where there are several, else stretches of time."""
    snapshots, replicas = array.shape[:2]
    if replicas > 1:
        for block in np.array_split(np.arange(replicas), min(replicas, BLOCKS)):
            yield (slice(None), block)
    else:
        for block in np.array_split(np.arange(snapshots), min(snapshots, BLOCKS)):
            yield (block, slice(None))
