"""Harmonic force constants of a potential: by displaced supercells in one batch, or by automatic differentiation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.geometry import minkowski_reduce

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import batch_graphs
from mlffx.errors import UserError
from mlffx.lattice import phonopy_api, phonopy_files
from mlffx.lattice.symmetry import SiteIndex
from mlffx.potentials.base import Potential, evaluate
from mlffx.potentials.batched import device_of, evaluate_atoms, graph_of, in_double

SYMMETRIC_SITES = 1e-3  # eV/A: above it the crystal is not at rest and harmonic phonons mean little


@dataclass(frozen=True, eq=False)
class ForceConstants:
    """Second derivatives of the energy at the ideal sites, Phi[i, j, a, b] = d2E / du_ia du_jb.

    Attributes:
        values: rows are the atoms of the primitive cell, columns those of `supercell()`, [n_basis, n_supercell, 3, 3],
            eV/A^2 (float64); `full()` gives all rows.
        crystal: primitive cell.
        matrix: supercell rows in primitive rows, [3, 3].
        method: `finite_displacement`, `autodiff`, `file`...
        displacement: A; None for automatic differentiation.
        symmetrised: whether `values` went through the projector.
        raw: largest violation before symmetrisation, eV/A^2: `acoustic_sum_rule`, `permutation`, `space_group`,
            `projection` (largest change made by the projector), and `residual_force` (eV/A) at the ideal sites.
            Displacements fill the rows by the symmetry of the site, so only automatic differentiation shows what the
            potential itself violates of the space group.
    """

    values: np.ndarray
    crystal: Crystal
    matrix: np.ndarray
    method: str
    displacement: float | None = None
    symmetrised: bool = False
    raw: dict[str, float] = field(default_factory=dict)

    @property
    def geometry(self) -> phonopy_api.Geometry:
        return phonopy_api.geometry(self.crystal, self.matrix)

    def supercell(self) -> Atoms:
        """Ideal supercell in the order of the columns; `site_type` names the primitive atom each one repeats."""
        return self.geometry.supercell.copy()

    @property
    def rows(self) -> np.ndarray:
        """Supercell index of each primitive atom, [n_basis]."""
        return self.geometry.rows

    def full(self) -> np.ndarray:
        """All rows, [n_supercell, n_supercell, 3, 3], eV/A^2."""
        return phonopy_api.expand(self.geometry, self.values)

    def interpolated(self, matrix: Sequence | np.ndarray | int) -> ForceConstants:
        """The same force constants laid out in another supercell, then given every symmetry that one has.

        Each pair is placed at its shortest vectors (shared equally where several are as short), which is how they are
        interpolated to any q-point anyway. A 2x2x1 cell so regains the symmetry of the crystal, averaged over its axes;
        nothing is learned about pairs it did not resolve.
        """
        target = phonopy_api.geometry(self.crystal, supercell_matrix(self.crystal, matrix))
        find, ours = SiteIndex(target.supercell), self.geometry.supercell
        shifts = np.array(list(np.ndindex(3, 3, 3))) - 1
        values = np.zeros((len(self.rows), len(target.supercell), 3, 3))
        for i, row in enumerate(self.rows):
            nearest = minkowski_reduce(ours.cell.array)[0]
            folded = wrap(ours.positions - ours.positions[row], nearest)
            images = folded[:, None] + (shifts @ nearest)[None]  # [n_supercell, 27, 3]
            lengths = np.linalg.norm(images, axis=-1)
            shortest = lengths < lengths.min(axis=1, keepdims=True) + 1e-4
            pair, image = np.nonzero(shortest)
            column = find(target.supercell.positions[target.rows[i]] + images[pair, image])
            if column is None:
                raise UserError("the supercells do not share the crystal", "give a matrix in primitive rows")
            weight = 1.0 / shortest.sum(axis=1)[pair]
            np.add.at(values[i], column, weight[:, None, None] * self.values[i, pair])
        projected = target.symmetry.project(values)
        rows = supercell_matrix(self.crystal, matrix)
        return replace(self, values=projected, matrix=rows, method=f"{self.method}, interpolated", symmetrised=True)

    def __add__(self, other: ForceConstants) -> ForceConstants:
        """Force constants of the sum of two potentials (same crystal and supercell)."""
        return self._combined(other, 1.0, "sum")

    def __sub__(self, other: ForceConstants) -> ForceConstants:
        """Force constants of the difference of two potentials (same crystal and supercell)."""
        return self._combined(other, -1.0, "difference")

    def _combined(self, other: ForceConstants, sign: float, method: str) -> ForceConstants:
        same = np.array_equal(self.matrix, other.matrix) and np.allclose(
            self.crystal.cell, other.crystal.cell, atol=1e-6
        )
        if not same:
            raise UserError(
                "force constants of different supercells cannot be combined", "compute them in one supercell"
            )
        return replace(
            self,
            values=self.values + sign * other.values,
            method=method if self.method != other.method else f"{method} ({self.method})",
            symmetrised=self.symmetrised and other.symmetrised,
            raw={},
        )


def wrap(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Vectors [n, 3] folded to fractions between -1/2 and 1/2 of `cell`."""
    fractions = vectors @ np.linalg.inv(cell)
    return (fractions - np.rint(fractions)) @ cell


def supercell_matrix(crystal: Crystal, supercell: Sequence | np.ndarray | int) -> np.ndarray:
    """[3, 3] integer matrix from n (n x n x n primitive cells), a 3-vector (diagonal) or a matrix in primitive rows."""
    array = np.asarray(supercell)
    matrix = np.eye(3) * array if array.ndim == 0 else np.diag(array) if array.ndim == 1 else array
    if matrix.shape != (3, 3) or np.abs(matrix - np.rint(matrix)).max() > 1e-8 or abs(np.linalg.det(matrix)) < 0.5:
        raise UserError(
            f"{np.asarray(supercell).tolist()} is no supercell", "give n, three or 3x3 integers", "phonons.supercell"
        )
    return np.rint(matrix).astype(int)


def conventional_matrix(crystal: Crystal, repeats: Sequence[int] | int) -> np.ndarray:
    """Supercell of `repeats` conventional cells (n or n1, n2, n3) in rows of the primitive cell, [3, 3]."""
    from mlffx.lattice.paths import to_conventional

    conventional = np.rint(to_conventional(crystal)).astype(int)
    return np.diag(np.broadcast_to(np.asarray(repeats, dtype=int), 3)) @ conventional


def finite_displacement(
    potential: Potential,
    crystal: Crystal,
    matrix: Sequence | np.ndarray | int,
    distance: float = 0.01,
    symmetrise: bool = True,
    extrapolate: bool = True,
) -> ForceConstants:
    """Force constants from the forces of symmetry-inequivalent displaced supercells, all in one batch, in float64.

    Central differences leave an error c d^2 from the fourth order of the energy (-0.06 cm-1 at Gamma of diamond for
    0.01 A, but 1e-3 eV/A^2 in the largest force constant). Displacements of d and 2 d cancel it:
    Phi = (4 Phi(d) - Phi(2 d)) / 3 + O(d^4) (Richardson), which agrees with automatic differentiation to 1e-4 eV/A^2.

    Args:
        potential: any potential.
        crystal: primitive cell at the lattice constant of interest; sites at rest by symmetry.
        matrix: supercell, see `supercell_matrix`.
        distance: displacement d, A, applied with both signs so that cubic terms cancel; larger ones only pay where
            forces carry noise.
        symmetrise: project onto space group, permutation and sum rule.
        extrapolate: displace by 2 d as well and remove the leading error; False is the plain recipe of the field.
    """
    if not 0 < distance < 0.3:
        raise UserError(f"a displacement of {distance:g} A", "take one between 0.001 and 0.1 A", "phonons.displacement")
    cell = phonopy_api.geometry(crystal, supercell_matrix(crystal, matrix))
    near = phonopy_api.displaced_supercells(cell, distance)
    far = phonopy_api.displaced_supercells(cell, 2 * distance) if extrapolate else []
    _, forces, _ = evaluate_atoms(in_double(potential), [*near, *far, cell.supercell], forces=True)
    values = phonopy_api.solve(cell, distance, forces[: len(near)])
    if extrapolate:
        values = (4 * values - phonopy_api.solve(cell, 2 * distance, forces[len(near) : -1])) / 3
    return finish(cell, values, crystal, "finite_displacement", symmetrise, distance, residual=np.abs(forces[-1]).max())


def autodiff(
    potential: Potential, crystal: Crystal, matrix: Sequence | np.ndarray | int, symmetrise: bool = True
) -> ForceConstants:
    """Force constants by differentiating the forces on the primitive atoms: 3 n_basis vector-Jacobian products.

    One forward pass, one backward pass for the forces, one more for every row, so memory does not grow with the number
    of rows. No displacement enters; `raw` is what the potential itself violates.

    Args:
        potential: any potential that is twice differentiable.
        crystal: primitive cell.
        matrix: supercell, see `supercell_matrix`.
        symmetrise: project onto space group, permutation and sum rule.
    """
    cell = phonopy_api.geometry(crystal, supercell_matrix(crystal, matrix))
    ideal, rows = cell.supercell, cell.rows
    potential = in_double(potential)
    graph = batch_graphs([graph_of(potential, ideal)]).to(device_of(potential))
    positions = graph[keys.POSITIONS].clone().requires_grad_(True)
    graph[keys.POSITIONS] = positions
    forces = evaluate(potential, graph, forces=True, create_graph=True)[keys.FORCES]
    values = np.zeros((len(rows), len(ideal), 3, 3))
    if forces.requires_grad:  # forces of a linear energy do not depend on positions at all
        for i, row in enumerate(rows):
            for axis in range(3):
                (gradient,) = torch.autograd.grad(forces[row, axis], positions, retain_graph=True, allow_unused=True)
                if gradient is not None:
                    values[i, :, axis, :] = -gradient.detach().cpu().numpy()
    if not np.isfinite(values).all():
        raise UserError(
            "the Hessian of the potential is not finite at the perfect crystal",
            "the architecture takes the root of something that vanishes there",
        )
    return finish(cell, values, crystal, "autodiff", symmetrise, None, residual=float(forces.detach().abs().max()))


def load_force_constants(path: Path) -> ForceConstants:
    """Force constants of a phonopy file (`phonopy_params.yaml`), as they are there.

    Raises:
        UserError: for a file without force constants.
    """
    stored = phonopy_files.load(path)
    if stored.values is None:
        raise UserError("the phonopy file holds no force constants", "write them with phonopy --include-fc", path)
    return ForceConstants(stored.values, stored.crystal, stored.matrix, "file")


def finish(
    cell: phonopy_api.Geometry,
    values: np.ndarray,
    crystal: Crystal,
    method: str,
    symmetrise: bool,
    displacement: float | None = None,
    residual: float | None = None,
) -> ForceConstants:
    """Raw violations first, then the projection; both are kept."""
    matrix = np.rint(cell.supercell.cell.array @ np.linalg.inv(crystal.cell)).astype(int)
    raw = cell.symmetry.violations(values)
    projected = cell.symmetry.project(values)
    raw["projection"] = float(np.abs(projected - values).max())
    if residual is not None:
        raw["residual_force"] = float(residual)
    return ForceConstants(projected if symmetrise else values, crystal, matrix, method, displacement, symmetrise, raw)
