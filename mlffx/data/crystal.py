"""The ideal crystal behind displaced supercells: which site each atom belongs to, and how far it has moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.build import bulk

from mlffx.config import checked
from mlffx.errors import UserError

# Let spglib raise instead of returning None and warning; phonopy and symfc do the same when they are imported.
spglib.error.OLD_ERROR_HANDLING = False

LARGEST_REPETITION = 10_000  # cells along an axis; a file with more has a damaged lattice


@dataclass(frozen=True)
class Match:
    """Sites of a structure, in the order of its atoms.

    Attributes:
        sites: ideal positions next to the (unwrapped) atoms, [n_atoms, 3], A; they carry the rigid drift.
        site_type: atom of the primitive cell, [n_atoms].
        displacements: positions - sites, [n_atoms, 3], A, with zero mean.
        drift: rigid translation of the structure against the ideal crystal, [3], A.
        order: index of each atom's site in `Crystal.supercell(repetitions)`, [n_atoms].
    """

    sites: np.ndarray
    site_type: np.ndarray
    displacements: np.ndarray
    drift: np.ndarray
    order: np.ndarray


@dataclass(frozen=True)
class Crystal:
    """A primitive cell.

    Attributes:
        cell: rows are primitive lattice vectors, [3, 3], A.
        scaled_positions: [n_basis, 3], fractions of `cell`.
        numbers: atomic numbers, [n_basis].
    """

    cell: np.ndarray
    scaled_positions: np.ndarray
    numbers: np.ndarray

    @classmethod
    def from_prototype(cls, prototype: str, species: Sequence[str], a: float) -> Crystal:
        """Crystal of a structure ASE knows (`diamond`, `rocksalt`, `zincblende`, `fcc`...) with cubic constant a, A."""
        prototype = checked(prototype, str, "data.crystal.prototype")
        species = checked(species, Sequence[str], "data.crystal.species")
        a = checked(a, float, "data.crystal.a")
        try:
            atoms = bulk("".join(species), prototype, a=a)
        except (ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"'{prototype}' with {list(species)}: {error}", where="data.crystal") from error
        return cls.from_atoms(atoms)

    @classmethod
    def from_spec(cls, spec: Any) -> Crystal:
        """From the keys of `data.crystal`: prototype, species and a.

        Raises:
            UserError: for anything else.
        """
        if not isinstance(spec, Mapping) or set(spec) != {"prototype", "species", "a"}:
            raise UserError(f"'{spec}' is not understood", "give prototype, species and a", "data.crystal")
        return cls.from_prototype(spec["prototype"], spec["species"], spec["a"])

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> Crystal:
        """The cell as it is, taken to be primitive."""
        return cls(atoms.cell.array.copy(), atoms.get_scaled_positions(), atoms.numbers.copy())

    @classmethod
    def from_displaced(cls, atoms: Atoms, symprec: float = 0.2) -> Crystal:
        """Symmetrised primitive cell of a slightly displaced supercell, in the supercell's own orientation.

        Raises:
            UserError: when no symmetry is found within `symprec` A.
        """
        try:
            found = spglib.get_symmetry_dataset(
                (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec
            )
        except spglib.error.SpglibError:
            found = None
        if found is None:
            raise UserError(f"no crystal symmetry within {symprec} A", "declare data.crystal", "data.crystal")
        rotation = found.std_rotation_matrix  # idealised = rotation @ original
        standard = (found.std_lattice @ rotation, found.std_positions, found.std_types)
        primitive = spglib.standardize_cell(standard, to_primitive=True, no_idealize=True, symprec=1e-4)  # type: ignore[arg-type]
        assert primitive is not None
        return cls(*(np.asarray(x) for x in primitive))

    @classmethod
    def from_arrays(cls, arrays: Crystal | Mapping[str, Any]) -> Crystal:
        """From a mapping with the three attributes, as `to_arrays` gives it; a crystal is returned as it is."""
        if isinstance(arrays, Crystal):
            return arrays
        return cls(
            np.asarray(arrays["cell"], dtype=float),
            np.asarray(arrays["scaled_positions"], dtype=float),
            np.asarray(arrays["numbers"], dtype=int),
        )

    def to_arrays(self) -> dict[str, list]:
        """Plain nested lists, fit for a checkpoint or YAML."""
        return {
            "cell": self.cell.tolist(),
            "scaled_positions": self.scaled_positions.tolist(),
            "numbers": self.numbers.tolist(),
        }

    @property
    def n_basis(self) -> int:
        return len(self.numbers)

    def primitive(self) -> Atoms:
        """The primitive cell as an ASE object."""
        return Atoms(self.numbers, cell=self.cell, scaled_positions=self.scaled_positions, pbc=True)

    def scaled(self, scale: float) -> Crystal:
        """The same crystal with its lattice constant times `scale`."""
        return Crystal(self.cell * scale, self.scaled_positions, self.numbers)

    def repetitions(self, cell: np.ndarray) -> np.ndarray:
        """Integer matrix M with cell ~ M @ self.cell (a strained supercell is accepted up to 10 %).

        Raises:
            UserError: when the cell is no supercell of this crystal.
        """
        exact = np.asarray(cell) @ np.linalg.inv(self.cell)
        possible = np.isfinite(exact).all() and np.abs(exact).max() < LARGEST_REPETITION
        matrix = np.rint(exact).astype(int) if possible else np.zeros((3, 3), dtype=int)
        size = max(abs(np.linalg.det(matrix)), 1.0) ** (1 / 3)
        if round(abs(np.linalg.det(matrix))) == 0 or np.abs(exact - matrix).max() > 0.1 * size:
            raise UserError(
                "the cell is no supercell of the crystal", "check the lattice constant or declare data.crystal", "cell"
            )
        return matrix

    def supercell(self, matrix: np.ndarray | Sequence) -> Atoms:
        """Ideal supercell with lattice matrix @ cell (a 3-vector is a diagonal one); basis index in `site_type`."""
        matrix = np.asarray(matrix, dtype=int)
        matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
        points = _lattice_points(matrix)
        cell = matrix @ self.cell
        positions = (points[:, None, :] + self.scaled_positions[None]).reshape(-1, 3) @ self.cell
        atoms = Atoms(np.tile(self.numbers, len(points)), positions=positions, cell=cell, pbc=True)
        atoms.set_array("site_type", np.tile(np.arange(self.n_basis), len(points)))
        return atoms

    def match(self, atoms: Atoms, largest: float = 1.5) -> Match:
        """Find the site of every atom, whatever the order of the atoms and the drift of the whole structure.

        Raises:
            UserError: for other species, another cell, or atoms further than `largest` A from any free site.
        """
        ideal = self.supercell(self.repetitions(atoms.cell.array))
        ideal.set_cell(atoms.cell, scale_atoms=True)
        if sorted(ideal.numbers) != sorted(atoms.numbers):
            raise UserError(
                f"composition {atoms.symbols} is not that of the crystal ({ideal.symbols})",
                "check species and data.crystal",
            )
        best: tuple[float, np.ndarray, np.ndarray] | None = None
        for origin in np.flatnonzero(ideal.numbers == atoms.numbers[0])[: 4 * self.n_basis]:
            trial = _assign(atoms, ideal, atoms.positions[0] - ideal.positions[origin])
            if trial is not None and (best is None or trial[0] < best[0] - 1e-9):
                best = trial
                if best[0] < 0.4:  # rms displacement far below half a bond: no other origin can do better
                    break
        if best is None or np.linalg.norm(best[2], axis=1).max() > largest:
            raise UserError(
                "atoms cannot be matched to the sites of the crystal", "is the structure molten or another phase?"
            )
        _, order, displacements = best
        sites = atoms.positions - displacements
        drift = _minimum_image((sites - ideal.positions[order])[:1], atoms.cell.array)[0]
        return Match(sites, ideal.arrays["site_type"][order], displacements, drift, order)


def _lattice_points(matrix: np.ndarray) -> np.ndarray:
    """Integer primitive translations inside the supercell `matrix`, [|det|, 3]."""
    n = round(abs(np.linalg.det(matrix)))
    if n == 0:
        raise UserError(f"supercell matrix {matrix.tolist()} is singular", where="supercell")
    reach = np.abs(matrix).sum(axis=0)
    axes = [np.arange(-r, r + 1) for r in reach]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = grid @ np.linalg.inv(matrix)
    inside = grid[((fractions > -1e-8) & (fractions < 1 - 1e-8)).all(axis=1)]
    assert len(inside) == n
    return inside


def _minimum_image(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    fractions = vectors @ np.linalg.inv(cell)
    return (fractions - np.rint(fractions)) @ cell


def _assign(atoms: Atoms, ideal: Atoms, shift: np.ndarray) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Nearest free site of every atom for a trial shift, refined by the mean offset: rms, order, displacements."""
    cell = atoms.cell.array
    for _ in range(3):
        offsets = _minimum_image(atoms.positions[:, None] - shift - ideal.positions[None], cell)
        distances = np.linalg.norm(offsets, axis=-1)
        distances[atoms.numbers[:, None] != ideal.numbers[None]] = np.inf
        order = distances.argmin(axis=1)
        displacements = offsets[np.arange(len(atoms)), order]
        mean = displacements.mean(axis=0)
        shift = shift + mean
        displacements = displacements - mean
        if np.abs(mean).max() < 1e-10:
            break
    if len(np.unique(order)) != len(atoms):
        return None
    return float(np.sqrt((displacements**2).sum(axis=1).mean())), order, displacements
