"""Normal modes of a supercell from its force constants, and what molecular dynamics makes of each of them.

The modes of a supercell are the phonons at the commensurate wave vectors. A trajectory projected on one of them gives a
line whose place and width are the anharmonic frequency and linewidth (T. Sun, X. Shen, P. B. Allen, Phys. Rev. B 82,
224304 (2010)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.optimize import minimize

from mlffx.data.crystal import Crystal
from mlffx.dynamics.spectrum import Spectrum
from mlffx.dynamics.trajectory import Trajectory
from mlffx.dynamics.vdos import (
    CM1_PER_INVERSE_FS,
    HANN_FWHM_BINS,
    frequency_grid,
    hann,
    segment_length,
    segments,
    spectrum_of_acf,
)
from mlffx.units import AMU_A2_FS2_TO_EV

SAME_FREQUENCY = 0.5  # cm-1; closer modes of one star are one group
JACKKNIFE_BLOCKS = 8  # of replicas
RIGID = 1.0  # cm-1; below this a mode at q = 0 is a translation


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
        density[symbol] = 3 * counts[symbol] * seen / np.trapezoid(seen, grid)
    return Spectrum(grid, density, counts, None, resolution=2 * HANN_FWHM_BINS * (grid[1] - grid[0]))


@dataclass(frozen=True)
class ModeGroup:
    """Symmetry-equivalent modes: one frequency, all wave vectors of a star.

    Attributes:
        q: a representative wave vector, fractions of the primitive reciprocal lattice, [3].
        frequency: harmonic, cm-1.
        vectors: projections of mass-weighted velocities, columns, complex, [3n, n_modes].
    """

    q: np.ndarray
    frequency: float
    vectors: np.ndarray


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
            if np.abs(q).max() < 1e-9 and np.abs(frequencies[block]).max() < RIGID:
                continue
            columns = np.concatenate([vectors[:, block] for _, _, vectors in members], axis=1)
            mean = float(np.mean([f[block].mean() for _, f, _ in members]))
            groups.append(ModeGroup(q, mean, columns))
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


@dataclass(frozen=True)
class ModeLine:
    """A mode in molecular dynamics.

    Attributes:
        q: representative wave vector, fractions of the primitive reciprocal lattice, [3].
        degeneracy: modes of the supercell averaged over.
        harmonic: cm-1.
        frequency, frequency_sigma: of the damped oscillator, cm-1, with its jackknife error over replicas.
        linewidth, linewidth_sigma: full width at half maximum, resolution taken out, cm-1.
    """

    q: np.ndarray
    degeneracy: int
    harmonic: float
    frequency: float
    frequency_sigma: float
    linewidth: float
    linewidth_sigma: float


def mode_lines(trajectory: Trajectory, groups: list[ModeGroup], resolution: float = 10.0) -> list[ModeLine]:
    """Frequency and linewidth of every group of modes by a fit of a damped oscillator to its power spectrum.

    The fitted line is the expectation of Welch's spectrum for the oscillator, so the resolution of the segments and
    their taper do not count as width. Widths far below the resolution are upper bounds.
    """
    if not groups:
        return []
    length = segment_length(resolution, trajectory.sample_step, len(trajectory.velocities))
    vectors = np.concatenate([g.vectors for g in groups], axis=1)
    owner = np.repeat(np.arange(len(groups)), [g.vectors.shape[1] for g in groups])
    power = np.stack(
        [_projected(trajectory, r, length, vectors, owner, len(groups)) for r in range(trajectory.n_replicas)]
    )
    half = np.pi * trajectory.time_step / CM1_PER_INVERSE_FS
    lines = []
    for i, group in enumerate(groups):
        total = power[:, i].mean(axis=0)
        best = _fit_oscillator(total, length, trajectory.sample_step, abs(group.frequency), resolution)
        blocks = np.array_split(np.arange(len(power)), min(len(power), JACKKNIFE_BLOCKS))
        left_out = [
            _fit_oscillator(
                np.delete(power[:, i], block, axis=0).mean(axis=0), length, trajectory.sample_step, *best, True
            )
            for block in (blocks if len(blocks) > 1 else [])
        ]
        sigma = np.sqrt((len(blocks) - 1) * np.var(left_out, axis=0)) if left_out else np.full(2, np.nan)
        true = float(np.sin(half * best[0]) / half)  # what velocity Verlet shows, back to what it is
        lines.append(
            ModeLine(group.q, group.vectors.shape[1], group.frequency, true, float(sigma[0]), best[1], float(sigma[1]))
        )
    return lines


def oscillator_spectrum(frequency: float, width: float, length: int, sample_step: float) -> np.ndarray:
    """Welch's expectation for the velocity of a damped oscillator (cm-1, full width cm-1), [length + 1].

    C(t) = exp(-g t/2) (cos(w1 t) - g/(2 w1) sin(w1 t)), w1^2 = w0^2 - g^2/4; complex w1 covers overdamping.
    """
    unit = 2 * np.pi / CM1_PER_INVERSE_FS
    t, w0, g = sample_step * np.arange(length), unit * frequency, unit * abs(width)
    w1 = np.sqrt(complex(w0**2 - 0.25 * g**2) + 1e-18)
    acf = (np.exp(-0.5 * g * t) * (np.cos(w1 * t) - 0.5 * g / w1 * np.sin(w1 * t))).real
    return spectrum_of_acf(acf)


def _fit_oscillator(
    power: np.ndarray, length: int, sample_step: float, frequency: float, width: float, polish: bool = False
) -> tuple[float, float]:
    """Least squares in frequency and width; the height is linear and eliminated."""
    grid = frequency_grid(length, sample_step)
    if not polish:  # an anharmonic shift may be larger than the resolution: begin at the highest point nearby
        near = np.abs(grid - frequency) < max(0.15 * frequency, 60.0)
        frequency = float(grid[near][power[near].argmax()])

    def misfit(x: np.ndarray) -> float:
        model = oscillator_spectrum(x[0], x[1], length, sample_step)
        return float(power @ power - (power @ model) ** 2 / (model @ model)) / float(power @ power)

    spread = 0.3 * width if polish else width
    simplex = [[frequency, width], [frequency + max(spread, 0.2), width], [frequency, width + max(spread, 0.2)]]
    options = {"initial_simplex": np.array(simplex), "xatol": 0.01, "fatol": 1e-9, "maxfev": 160}
    found = minimize(misfit, [frequency, width], method="Nelder-Mead", options=options)
    return float(found.x[0]), float(abs(found.x[1]))


def _projected(
    trajectory: Trajectory, replica: int, length: int, vectors: np.ndarray, owner: np.ndarray, n_groups: int
) -> np.ndarray:
    """Power of each group in one replica, mean over segments, modes and both directions of time: [n_groups, grid]."""
    taper = hann(length)[:, None]
    total, count = np.zeros((length + 1, n_groups)), 0
    for segment in segments(trajectory, replica, length):
        modes = segment.reshape(length, -1) @ vectors.conj()
        transform = np.abs(np.fft.fft(taper * modes, 2 * length, axis=0)) ** 2
        folded = 0.5 * (transform[: length + 1] + transform[-np.arange(length + 1)])
        np.add.at(total.T, owner, folded.T)
        count += 1
    return (total / (count * np.bincount(owner, minlength=n_groups))).T
