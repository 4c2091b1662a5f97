"""What mlffx asks of phonopy, here and in `phonopy_files`: phonopy renames parts of its interface between versions.

Cells go in and out as `Crystal` and ASE objects, rows are lattice vectors, q-points are fractions of the reciprocal
primitive cell, frequencies are THz (imaginary ones negative). The primitive cell is always the crystal's own, so
nothing depends on phonopy's choice of one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from phonopy import Phonopy, run_qha
from phonopy.harmonic.dynamical_matrix import NacParams
from phonopy.harmonic.force_constants import compact_fc_to_full_fc
from phonopy.phonon.mesh import Mesh
from phonopy.phonon.spectrum import TetrahedronDOSAccumulator
from phonopy.structure.atoms import PhonopyAtoms

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice.isotopes import natural_mass
from mlffx.lattice.symmetry import SupercellSymmetry
from mlffx.units import COULOMB_EV_A


@dataclass(frozen=True, eq=False)
class Geometry:
    """A crystal in a supercell: what force constants need and masses do not change. Shared, so never given results.

    Attributes:
        ph: phonopy object.
        supercell: ideal supercell in phonopy's order, with `site_type`.
        rows: supercell index of each primitive atom, [n_basis].
        symmetry: what force constants in it must obey.
    """

    ph: Phonopy
    supercell: Atoms
    rows: np.ndarray
    symmetry: SupercellSymmetry


def geometry(crystal: Crystal, matrix: np.ndarray) -> Geometry:
    """The crystal in the supercell with rows `matrix @ crystal.cell`; remembered, for ensembles ask again and again."""
    arrays = (
        crystal.cell,
        crystal.scaled_positions,
        np.asarray(crystal.numbers, dtype=np.int64),
        np.asarray(matrix, int),
    )
    return _geometry(*(np.ascontiguousarray(a).tobytes() for a in arrays))


@lru_cache(maxsize=16)
def _geometry(cell: bytes, positions: bytes, numbers: bytes, matrix: bytes) -> Geometry:
    lattice_rows, fractions = np.frombuffer(cell).reshape(3, 3), np.frombuffer(positions).reshape(-1, 3)
    species, repeats = np.frombuffer(numbers, np.int64), np.frombuffer(matrix, int).reshape(3, 3)
    unit = PhonopyAtoms(
        symbols=[chemical_symbols[z] for z in species],
        cell=lattice_rows,
        scaled_positions=fractions,
        masses=[natural_mass(int(z)) for z in species],
    )
    with warnings.catch_warnings():
        # A supercell such as 2x2x1 has fewer symmetries than the crystal: meant, and named in the protocol.
        warnings.filterwarnings("ignore", message=".*Point group symmetries of supercell.*")
        # phonopy's columns are our rows: its supercell matrix is the transpose.
        ph = Phonopy(unit, supercell_matrix=repeats.T, primitive_matrix=np.eye(3), log_level=0)
    rows = np.asarray(ph.primitive.p2s_map)
    supercell = to_ase(ph.supercell)
    basis = {int(s): i for i, s in enumerate(rows)}
    supercell.set_array("site_type", np.array([basis[int(s)] for s in ph.primitive.s2p_map]))
    crystal = Crystal(lattice_rows, fractions, species)
    return Geometry(ph, supercell, rows, SupercellSymmetry(crystal, supercell, rows))


def lattice(crystal: Crystal, matrix: np.ndarray, masses: Sequence[float] | np.ndarray) -> Phonopy:
    """A phonopy object of one's own, with masses [n_basis], amu."""
    ph = copy.deepcopy(geometry(crystal, matrix).ph)
    ph.masses = np.asarray(masses, dtype=float)
    return ph


def displaced_supercells(of: Geometry, distance: float) -> list[Atoms]:
    """Symmetry-inequivalent displacements of `distance` A, each with both signs."""
    ph = copy.deepcopy(of.ph)
    ph.generate_displacements(distance=distance, is_plusminus=True)
    return [to_ase(cell) for cell in ph.supercells_with_displacements or []]


def solve(of: Geometry, distance: float, forces: Sequence[np.ndarray]) -> np.ndarray:
    """Compact force constants from the forces of `displaced_supercells`, [n_basis, n_supercell, 3, 3], eV/A^2."""
    ph = copy.deepcopy(of.ph)
    ph.generate_displacements(distance=distance, is_plusminus=True)
    ph.forces = np.array(forces)
    ph.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    return np.array(ph.force_constants)


def expand(of: Geometry, values: np.ndarray) -> np.ndarray:
    """Compact [n_basis, n_supercell, 3, 3] to full [n_supercell, n_supercell, 3, 3]."""
    return np.array(compact_fc_to_full_fc(of.ph.primitive, np.array(values, order="C")))


def set_force_constants(ph: Phonopy, values: np.ndarray) -> None:
    ph.force_constants = np.array(values, dtype=np.float64, order="C")


def set_nac(ph: Phonopy, born: np.ndarray, dielectric: np.ndarray, method: str) -> None:
    """Non-analytical term; born [n_basis, 3, 3] e, dielectric [3, 3], method `gonze` or `wang`."""
    if method not in ("gonze", "wang"):
        raise UserError(f"unknown NAC method '{method}'", "valid: gonze, wang", "phonons.nac.method")
    ph.nac_params = NacParams(
        born=np.array(born, dtype=np.float64),
        dielectric=np.array(dielectric, dtype=np.float64),
        factor=COULOMB_EV_A,
        method=method,  # type: ignore[typeddict-item]
    )


def solve_qpoints(
    ph: Phonopy, qpoints: np.ndarray, direction: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [n_q, n_modes] THz and eigenvectors [n_q, n_modes, n_basis, 3] (complex, normalised).

    `direction` (fractions of the reciprocal cell) tells from where q = 0 is approached; it acts at q = 0 only.
    """
    result = ph.run_qpoints(qpoints, with_eigenvectors=True, nac_q_direction=direction)
    vectors = np.asarray(result.eigenvectors)  # [n_q, 3 n_basis, n_modes]: columns
    n_q, n_modes = result.frequencies.shape
    return np.array(result.frequencies), np.swapaxes(vectors, 1, 2).reshape(n_q, n_modes, -1, 3)


def solve_paths(ph: Phonopy, paths: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frequencies along each path, THz; at Gamma the non-analytical term takes the direction of the path."""
    return [np.array(f) for f in ph.run_band_structure(list(paths)).frequencies]


def run_mesh(ph: Phonopy, mesh: Sequence[int], symmetric: bool, eigenvectors: bool = False) -> Mesh:
    """Gamma-centred mesh; `symmetric` reduces it by the crystal's point group, which the force constants must have."""
    return ph.run_mesh(list(mesh), with_eigenvectors=eigenvectors, is_mesh_symmetry=symmetric, is_gamma_center=True)


def density_of_states(
    ph: Phonopy, mesh: Sequence[int], grid: np.ndarray, groups: Sequence[Sequence[int]], symmetric: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Tetrahedron densities of states on `grid` [n] THz: total [n], and of each group of primitive atoms [n_groups, n].

    Groups must be closed under the symmetries of the crystal (elements are): then |e|^2 summed over a group is the same
    over a star of q-points, and the irreducible ones are enough. phonopy's own projection asks for all of them.
    """
    result = run_mesh(ph, mesh, symmetric, eigenvectors=True)
    vectors = np.asarray(result.eigenvectors)  # [n_q, 3 n_basis, n_modes]
    per_atom = (np.abs(vectors) ** 2).reshape(len(vectors), -1, 3, vectors.shape[-1]).sum(axis=2)
    shares = [np.ones_like(per_atom[:, 0])] + [per_atom[:, list(group)].sum(axis=1) for group in groups]
    density = (
        TetrahedronDOSAccumulator(
            np.asarray(result.frequencies),
            result.bz_grid,
            mode_property=np.stack(shares, axis=-1)[None],
            ir_grid_points=result.ir_grid_points,
            ir_grid_weights=result.weights,
            ir_grid_map=result.grid_mapping_table,
            sampling_points=grid,
        )
        .result.density[0]
        .T
    )
    return np.array(density[0]), np.array(density[1:])


def mesh_frequencies(ph: Phonopy, mesh: Sequence[int], symmetric: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q-points [n, 3], weights [n] summing to one, frequencies [n, n_modes] THz of a Gamma-centred mesh."""
    result = run_mesh(ph, mesh, symmetric)
    weights = np.array(result.weights, dtype=float)
    return np.array(result.qpoints), weights / weights.sum(), np.array(result.frequencies)


def thermal(ph: Phonopy, mesh: Sequence[int], temperatures: Sequence[float], symmetric: bool) -> dict[str, np.ndarray]:
    """Harmonic free energy (kJ/mol), entropy and heat capacity (J/K/mol) per mole of primitive cells.

    The three acoustic modes at Gamma are left out (their frequencies are zero), and so are imaginary modes.
    """
    run_mesh(ph, mesh, symmetric)
    result = ph.run_thermal_properties(temperatures=np.asarray(temperatures, dtype=float), exclude_gamma_acoustic=True)
    return {
        "free_energy": np.array(result.free_energy),
        "entropy": np.array(result.entropy),
        "heat_capacity": np.array(result.heat_capacity),
        "zero_point_energy": np.array(result.zero_point_energy),
    }


def quasi_harmonic(
    phonopys: Sequence[Phonopy], energies: np.ndarray, temperatures: Sequence[float], mesh: Sequence[int]
) -> dict[str, np.ndarray]:
    """Quasi-harmonic volumes: temperature [n] K, volume [n] A^3 per primitive cell, expansion [n] 1/K, bulk_modulus [n]
    eV/A^3. `energies` [n_volumes] are static, eV per primitive cell."""
    wanted = np.asarray(temperatures, dtype=float)
    beyond = wanted[-1] + (wanted[-1] - wanted[-2] if len(wanted) > 1 else 10.0)  # differences use up one temperature
    result = run_qha(
        phonopys, np.append(wanted, beyond), internal_energies=energies, mesh=list(mesh), exclude_gamma_acoustic=True
    )
    n = len(wanted)
    return {
        "temperature": np.array(result.temperatures[:n]),
        "volume": np.array(result.equilibrium_volumes[:n]),
        "expansion": np.array(result.thermal_expansion[:n]),
        "bulk_modulus": np.array(result.bulk_moduli[:n]),
    }


def to_ase(cell: PhonopyAtoms) -> Atoms:
    """A cell of phonopy as ASE atoms, periodic."""
    return Atoms(numbers=cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
