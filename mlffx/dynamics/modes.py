"""Normal modes of a supercell from its force constants: the phonons at the wave vectors that fit it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mlffx.data.crystal import Crystal
from mlffx.dynamics.spectrum import Spectrum
from mlffx.dynamics.vdos import CM1_PER_INVERSE_FS, HANN_FWHM_BINS, frequency_grid, spectrum_of_acf, to_three
from mlffx.units import AMU_A2_FS2_TO_EV

SAME_FREQUENCY = 0.5  # cm-1; closer modes of one star are one group


def normal_modes(force_constants: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, cm-1 (imaginary ones negative), [3n], and real eigenvectors as columns, [3n, 3n], of a whole
    supercell.

    Args:
        force_constants: [n, n, 3, 3], eV/A^2.
        masses: [n], amu.
    """
    n = len(masses)
    flat = np.asarray(force_constants).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    root = np.repeat(np.sqrt(masses), 3)
    squares, vectors = np.linalg.eigh(0.5 * (flat + flat.T) / np.outer(root, root))
    return to_cm1(squares), vectors


def to_cm1(squares: np.ndarray) -> np.ndarray:
    """Eigenvalues of the dynamical matrix, eV/(A^2 amu), to frequencies in cm-1, negative where imaginary."""
    return np.sign(squares) * np.sqrt(np.abs(squares) / AMU_A2_FS2_TO_EV) / (2 * np.pi) * CM1_PER_INVERSE_FS


def commensurate_spectrum(
    force_constants: np.ndarray, masses: np.ndarray, numbers: np.ndarray, length: int, sample_step: float
) -> Spectrum:
    """Harmonic density of states of the supercell as Welch's method would see it in an endless run, per element.

    The three rigid translations are left out and each element is scaled to 3 per atom, as in `vdos.velocity_spectrum`.

    Args:
        length, sample_step: samples of a segment and fs between them (`vdos.segment_length`): they set grid and
            resolution.
    """
    frequencies, vectors = normal_modes(force_constants, masses)
    keep = np.argsort(np.abs(frequencies))[3:]
    times = sample_step * np.arange(length)
    lines = np.cos(2 * np.pi / CM1_PER_INVERSE_FS * np.outer(frequencies[keep], times))
    share = (vectors[:, keep] ** 2).reshape(len(masses), 3, -1).sum(axis=1)
    grid = frequency_grid(length, sample_step)
    density, counts = {}, {}
    for z in np.unique(numbers):
        symbol, mine = chemical_symbols[z], numbers == z
        seen = spectrum_of_acf(share[mine].sum(axis=0) @ lines)
        counts[symbol] = float(mine.sum())
        density[symbol] = to_three(grid, seen, counts[symbol])
    return Spectrum(grid, density, counts, None, resolution=2 * HANN_FWHM_BINS * (grid[1] - grid[0]))


@dataclass(frozen=True)
class ModeGroup:
    """Symmetry-equivalent modes: one frequency, all wave vectors of a star.

    Attributes:
        q: a representative wave vector, fractions of the primitive reciprocal lattice, [3].
        frequency: harmonic, cm-1.
        vectors: mass-weighted eigenvectors as columns, complex, one of each pair q, -q, [3n, n_columns].
        n_modes: modes of the supercell, -q counted too.
    """

    q: np.ndarray
    frequency: float
    vectors: np.ndarray
    n_modes: int

    def shares(self) -> np.ndarray:
        """What each atom has of these modes, [n]; sums to `n_modes`."""
        per_atom = (np.abs(self.vectors) ** 2).reshape(-1, 3, self.vectors.shape[1]).sum(axis=(1, 2))
        return per_atom * (self.n_modes / self.vectors.shape[1])


def mode_groups(force_constants: np.ndarray, supercell: Atoms, crystal: Crystal, masses: np.ndarray) -> list[ModeGroup]:
    """Phonons at the commensurate wave vectors, equivalent ones together, without the rigid translations.

    Wave vectors whose frequencies all agree within 0.5 cm-1 are taken for one star.

    Args:
        force_constants: [n, n, 3, 3], eV/A^2, in the order of `supercell` (`Crystal.supercell`).
    """
    n, types = len(supercell), supercell.arrays["site_type"]
    origins = supercell.positions - (crystal.scaled_positions @ crystal.cell)[types]
    lattice = np.rint(origins @ np.linalg.inv(crystal.cell))
    root = np.repeat(np.sqrt(masses), 3)
    flat = np.asarray(force_constants).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n) / np.outer(root, root)
    translations = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    stars: dict[tuple[int, ...], list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for q in commensurate_q(supercell, crystal):
        waves = np.zeros((n, crystal.n_basis), dtype=complex)
        waves[np.arange(n), types] = np.exp(2j * np.pi * (lattice @ q)) / np.sqrt(n / crystal.n_basis)
        full = np.kron(waves, np.eye(3))
        dynamical = full.conj().T @ flat @ full
        squares, vectors = np.linalg.eigh(0.5 * (dynamical + dynamical.conj().T))
        key = tuple(np.rint(to_cm1(squares) / SAME_FREQUENCY).astype(int))
        same = next((k for k in stars if np.abs(np.subtract(k, key)).max() <= 1), key)
        stars.setdefault(same, []).append((q, to_cm1(squares), full @ vectors))
    groups = []
    for members in stars.values():
        q, frequencies, _ = members[0]
        bounds = np.flatnonzero(np.diff(frequencies) > SAME_FREQUENCY) + 1
        for block in np.split(np.arange(len(frequencies)), bounds):
            columns = np.concatenate([vectors[:, block] for _, _, vectors in members], axis=1)
            if np.linalg.norm(translations.T @ columns) ** 2 > 0.5 * columns.shape[1]:
                continue
            mean = float(np.mean([f[block].mean() for _, f, _ in members]))
            twice = sum(1 if np.abs(2 * q - np.rint(2 * q)).max() < 1e-9 else 2 for q, _, _ in members)
            groups.append(ModeGroup(q, mean, columns, twice * len(block)))
    return sorted(groups, key=lambda g: (*np.round(g.q, 6), g.frequency))


def commensurate_q(supercell: Atoms, crystal: Crystal) -> list[np.ndarray]:
    """Wave vectors that fit the supercell, one of each pair q, -q, fractions in (-1/2, 1/2]."""
    matrix = crystal.repetitions(supercell.cell.array)
    n = round(abs(np.linalg.det(matrix)))
    inverse = np.rint(np.linalg.inv(matrix) * n).astype(int)  # M q is a vector of integers: n q = inverse @ integers
    orders = [n // np.gcd.reduce([n, *inverse[:, axis]]) for axis in range(3)]  # after so many steps q repeats
    found: dict[tuple[int, ...], np.ndarray] = {}
    for integers in np.ndindex(*orders):
        scaled = (inverse @ np.array(integers)) % n
        opposite = tuple((-scaled) % n)
        if tuple(scaled) not in found and opposite not in found:
            found[tuple(scaled)] = scaled / n
    return [np.where(q > 0.5, q - 1, q) for _, q in sorted(found.items())]
