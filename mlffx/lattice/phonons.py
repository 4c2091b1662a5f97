"""Phonons of force constants: frequencies, bands, densities of states, thermodynamics, and the protocol behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlffx.errors import UserError
from mlffx.lattice import paths, phonopy_api, phonopy_files
from mlffx.lattice.force_constants import ForceConstants
from mlffx.lattice.isotopes import masses_of
from mlffx.lattice.nac import Nac
from mlffx.lattice.results import Bands, DensityOfStates, Modes, Protocol, Thermal
from mlffx.lattice.symmetry import keeps_symmetry
from mlffx.units import THZ_TO_CM1

IMAGINARY = -5.0  # cm-1: acoustic modes at Gamma scatter around zero by less
KJ_MOL_TO_MEV = 1000 / 96.48533212331  # kJ/mol -> meV


class Phonons:
    """Phonons of one set of force constants with one set of masses.

    Attributes:
        symmetric: whether the force constants have every symmetry of the crystal. A 2x2x1 supercell does not, and then
            levels of the crystal are split by a few cm-1.

    Args:
        force_constants: see `finite_displacement` and `autodiff`.
        masses: [n_basis], amu; natural isotopes when None (`masses_of(numbers, {"H": "D"})` for others).
        nac: non-analytical term of polar crystals.
        isotope: name of what the masses stand for, for the protocol.
    """

    def __init__(
        self,
        force_constants: ForceConstants,
        masses: Sequence[float] | np.ndarray | None = None,
        nac: Nac | None = None,
        isotope: str = "natural",
    ) -> None:
        self.force_constants, self.crystal = force_constants, force_constants.crystal
        self.masses = masses_of(self.crystal.numbers) if masses is None else np.asarray(masses, dtype=float)
        self.nac, self.isotope = nac, isotope
        if self.masses.shape != (self.crystal.n_basis,) or (self.masses <= 0).any():
            raise UserError(
                f"{self.masses.tolist()} are no masses for {self.crystal.n_basis} atoms", where="phonons.masses"
            )
        self._ph = phonopy_api.lattice(self.crystal, force_constants.matrix, self.masses)
        phonopy_api.set_force_constants(self._ph, force_constants.values)
        if nac is not None:
            if len(nac.born) != self.crystal.n_basis:
                raise UserError(f"{len(nac.born)} Born charges for {self.crystal.n_basis} atoms", where="phonons.nac")
            phonopy_api.set_nac(self._ph, nac.neutral().born, nac.dielectric, nac.method)
        self._mesh = [31, 31, 31]
        # A 2x2x1 supercell or raw force constants lack symmetries of the crystal: then every q-point counts.
        self.symmetric = force_constants.symmetrised and keeps_symmetry(self.crystal, force_constants.matrix)

    @classmethod
    def load(cls, path: Path) -> Phonons:
        """Phonons of a `phonopy_params.yaml`, with its masses and non-analytical term."""
        stored = phonopy_files.load(path)
        if stored.values is None:
            raise UserError("the phonopy file holds no force constants", "write them with phonopy --include-fc", path)
        constants = ForceConstants(stored.values, stored.crystal, stored.matrix, "file")
        nac = None
        if stored.born is not None and stored.dielectric is not None:
            nac = Nac(stored.born, stored.dielectric, str(path))
        return cls(constants, stored.masses, nac, isotope="masses of the file")

    @property
    def ph(self) -> phonopy_api.Phonopy:
        """The phonopy object, for what phonopy can do beyond this class."""
        return self._ph

    @property
    def n_modes(self) -> int:
        return 3 * self.crystal.n_basis

    def with_masses(self, masses: Sequence[float] | np.ndarray, isotope: str) -> Phonons:
        """The same force constants with other isotopes."""
        return Phonons(self.force_constants, masses, self.nac, isotope)

    def modes(self, qpoints: np.ndarray | Sequence, nac_direction: Sequence[float] | np.ndarray | None = None) -> Modes:
        """Frequencies and eigenvectors.

        Args:
            qpoints: [n_q, 3] or [3], fractions of the reciprocal primitive cell (`paths.to_primitive` converts).
            nac_direction: direction in the same coordinates from which q = 0 is approached (polar crystals); without it
                q = 0 has no LO-TO splitting.
        """
        q = np.asarray(qpoints, dtype=float).reshape(-1, 3)
        direction = None if nac_direction is None or self.nac is None else np.asarray(nac_direction, dtype=float)
        frequencies, vectors = phonopy_api.solve_qpoints(self._ph, q, direction)
        return Modes(q, frequencies * THZ_TO_CM1, vectors)

    def frequencies(self, qpoints: np.ndarray | Sequence, nac_direction: Sequence[float] | None = None) -> np.ndarray:
        """[n_q, n_modes], cm-1, ascending, imaginary ones negative; arguments as in `modes`."""
        return self.modes(qpoints, nac_direction).frequencies

    def bands(self, points_per_segment: int = 51) -> Bands:
        """Band structure along the path of Hinuma et al."""
        path = paths.band_path(self.crystal, points_per_segment)
        frequencies = phonopy_api.solve_paths(self._ph, path.segments)
        distance: list[np.ndarray] = []
        labels: list[tuple[float, str]] = []
        spans: list[tuple[int, int]] = []
        start = 0.0
        for segment, ends in zip(path.segments, path.ends, strict=True):
            steps = np.linalg.norm(np.diff(paths.cartesian(self.crystal, segment), axis=0), axis=1)
            along = start + np.concatenate([[0.0], np.cumsum(steps)])
            first = sum(len(d) for d in distance)
            spans.append((first, first + len(along)))
            distance.append(along)
            if labels and labels[-1][1] != ends[0]:
                labels[-1] = (start, f"{labels[-1][1]}|{ends[0]}")
            elif not labels:
                labels.append((start, ends[0]))
            start = float(along[-1])
            labels.append((start, ends[1]))
        return Bands(
            np.concatenate(distance),
            np.concatenate(path.segments),
            np.concatenate(frequencies) * THZ_TO_CM1,
            labels,
            spans,
        )

    def dos(self, mesh: int | Sequence[int] = 31, pitch: float = 2.0) -> DensityOfStates:
        """Density of states by linear tetrahedra, total and per element.

        Args:
            mesh: q-points along each reciprocal vector, Gamma centred.
            pitch: spacing of the frequency grid, cm-1.

        Raises:
            UserError: when the result does not integrate to three modes an atom (mesh too coarse).
        """
        self._mesh = _mesh(mesh)
        _, _, sampled = phonopy_api.mesh_frequencies(self._ph, self._mesh, self.symmetric)
        low, high = sampled.min() * THZ_TO_CM1, sampled.max() * THZ_TO_CM1
        grid = pitch * np.arange(np.floor(low / pitch) - 3, np.ceil(high / pitch) + 4)
        elements = list(dict.fromkeys(self.crystal.numbers.tolist()))
        groups = [np.flatnonzero(self.crystal.numbers == z).tolist() for z in elements]
        total, parts = phonopy_api.density_of_states(self._ph, self._mesh, grid / THZ_TO_CM1, groups, self.symmetric)
        projected = {chemical_symbols[z]: part / THZ_TO_CM1 for z, part in zip(elements, parts, strict=True)}
        result = DensityOfStates(grid, total / THZ_TO_CM1, projected, self._mesh)
        if abs(result.integral() - self.n_modes) > 0.03 * self.n_modes:
            raise UserError(
                f"the density of states holds {result.integral():.2f} of {self.n_modes} modes",
                "take a finer mesh or a finer frequency grid",
                "phonons.mesh",
            )
        return result

    def thermal(self, temperatures: Sequence[float], mesh: int | Sequence[int] = 31) -> Thermal:
        """Harmonic free energy, entropy and heat capacity at temperatures [n], K. Imaginary modes are left out: check
        `imaginary` first."""
        self._mesh = _mesh(mesh)
        found = phonopy_api.thermal(self._ph, self._mesh, temperatures, self.symmetric)
        atoms, gas = self.crystal.n_basis, 8.31446261815324
        return Thermal(
            np.asarray(temperatures, dtype=float),
            found["free_energy"] * KJ_MOL_TO_MEV / atoms,
            found["entropy"] / gas / atoms,
            found["heat_capacity"] / gas / atoms,
            float(found["zero_point_energy"]) * KJ_MOL_TO_MEV / atoms,
        )

    def zero_point_energy(self, mesh: int | Sequence[int] = 31) -> float:
        """meV/atom."""
        return self.thermal([0.0], mesh).zero_point_energy

    def imaginary(self, mesh: int | Sequence[int] = 12) -> list[dict[str, Any]]:
        """Modes below -5 cm-1 on an irreducible mesh and at the labelled points: q, mode, frequency; worst first."""
        q, _, frequencies = phonopy_api.mesh_frequencies(self._ph, _mesh(mesh), self.symmetric)
        named = paths.labelled_points(self.crystal)
        if named:
            q = np.concatenate([q, np.array(list(named.values()))])
            frequencies = np.concatenate([frequencies, self.frequencies(np.array(list(named.values()))) / THZ_TO_CM1])
        found = [
            {"q": q[k].tolist(), "mode": int(m), "frequency_cm1": float(frequencies[k, m] * THZ_TO_CM1)}
            for k, m in np.argwhere(frequencies * THZ_TO_CM1 < IMAGINARY)
        ]
        return sorted(found, key=lambda mode: mode["frequency_cm1"])

    def commensurate(self, qpoint: Sequence[float] | np.ndarray) -> bool:
        """Whether q fits the supercell: there frequencies are exact, elsewhere they are interpolated."""
        phase = np.asarray(self.force_constants.matrix) @ np.asarray(qpoint, dtype=float)
        return bool(np.abs(phase - np.rint(phase)).max() < 1e-6)

    def protocol(self) -> Protocol:
        """What these numbers depend on."""
        fc = self.force_constants
        return Protocol(
            method=fc.method,
            displacement=fc.displacement,
            supercell=np.asarray(fc.matrix).tolist(),
            supercell_atoms=int(fc.values.shape[1]),
            symmetrised=fc.symmetrised,
            raw_violations=dict(fc.raw),
            nac="none" if self.nac is None else self.nac.to_dict(),
            mesh=list(self._mesh),
            masses=self.masses.tolist(),
            isotope=self.isotope,
            cell=self.crystal.cell.tolist(),
            lattice_constant=lattice_constant(self.force_constants),
        )

    def save(self, path: Path) -> None:
        """Write `phonopy_params.yaml`: the interchange format, read by phonopy, phono3py and `Phonons.load`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        phonopy_files.save(self._ph, path)

    def write_force_constants(self, path: Path) -> None:
        """Write FORCE_CONSTANTS in phonopy's text format, for programs that read no YAML; `save` holds the cells."""
        path.parent.mkdir(parents=True, exist_ok=True)
        phonopy_files.write_force_constants(self._ph, path)


def lattice_constant(force_constants: ForceConstants) -> float:
    """a of the conventional cell, A."""
    crystal = force_constants.crystal
    return float(np.linalg.norm((paths.to_conventional(crystal) @ crystal.cell)[0]))


def reduced_mass_ratio(masses: Sequence[float], others: Sequence[float]) -> float:
    """sqrt(mu' / mu) of two diatomic crystals: the ratio of their optical frequencies at Gamma, omega / omega'."""
    mu, other = (1 / (1 / m[0] + 1 / m[1]) for m in (masses, others))
    return math.sqrt(other / mu)


def _mesh(mesh: int | Sequence[int]) -> list[int]:
    numbers = [int(n) for n in np.broadcast_to(np.asarray(mesh), 3)]
    if min(numbers) < 1:
        raise UserError(f"mesh {numbers}", "give positive integers", "phonons.mesh")
    return numbers
