"""A trajectory projected on normal modes: lines with frequency and width, and a density of states with little noise.

T. Sun, X. Shen, P. B. Allen, Phys. Rev. B 82, 224304 (2010): the power spectrum of a mode's velocity is the line of a
damped oscillator at the anharmonic frequency, as wide as the inverse lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from mlffx.dynamics.modes import ModeGroup
from mlffx.dynamics.spectrum import Spectrum
from mlffx.dynamics.trajectory import Trajectory
from mlffx.dynamics.vdos import (
    CM1_PER_INVERSE_FS,
    HANN_FWHM_BINS,
    bootstrap_weights,
    elements_of,
    frequency_grid,
    hann,
    segment_length,
    segments,
    spectrum_of_acf,
    to_three,
    undo_verlet,
)
from mlffx.errors import UserError

JACKKNIFE_BLOCKS = 8  # of replicas


@dataclass(frozen=True)
class ModeLine:
    """A mode in molecular dynamics.

    Attributes:
        q: representative wave vector, fractions of the primitive reciprocal lattice, [3].
        n_modes: modes of the supercell averaged over.
        harmonic: cm-1.
        frequency, frequency_sigma: of the damped oscillator, cm-1, with its jackknife error over replicas.
        linewidth, linewidth_sigma: full width at half maximum, resolution taken out, cm-1.
    """

    q: np.ndarray
    n_modes: int
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
    length, step = (
        segment_length(resolution, trajectory.sample_step, len(trajectory.velocities)),
        trajectory.sample_step,
    )
    power = mode_power(trajectory, groups, length).mean(axis=1)
    half = np.pi * trajectory.time_step / CM1_PER_INVERSE_FS
    blocks = np.array_split(np.arange(len(power)), min(len(power), JACKKNIFE_BLOCKS))
    lines = []
    for i, group in enumerate(groups):
        frequency, width = _fit_oscillator(power[:, i].mean(axis=0), length, step, abs(group.frequency), resolution)
        left_out = [np.delete(power[:, i], block, axis=0).mean(axis=0) for block in blocks] if len(blocks) > 1 else []
        repeated = [_fit_oscillator(p, length, step, frequency, width, polish=True) for p in left_out]
        sigma = np.sqrt((len(blocks) - 1) * np.var(repeated, axis=0)) if repeated else np.full(2, np.nan)
        true = float(np.sin(half * frequency) / half)  # what velocity Verlet shows, back to what it is
        lines.append(ModeLine(group.q, group.n_modes, group.frequency, true, float(sigma[0]), width, float(sigma[1])))
    return lines


def mode_spectrum(
    trajectory: Trajectory,
    groups: list[ModeGroup],
    resolution: float = 10.0,
    n_bootstrap: int = 200,
    seed: int = 0,
    verlet_correction: bool = True,
) -> Spectrum:
    """Density of states as the sum over groups of modes of their normalised power spectra: Welch's, with less noise.

    In the canonical ensemble every mode has the kinetic energy kT/2, whatever the potential; a finite run, and NVE
    above all, scatters around it, and that scatter is most of the noise of the density of states. Here each group is
    scaled to the number of its modes. The total is exact; elements get the share of the harmonic eigenvectors, which
    leaves out correlations between modes of one symmetry at one wave vector. Arguments and normalisation as in
    `velocity_spectrum`.
    """
    if not groups:
        raise UserError("no modes to project on", "use method=welch for an unstable crystal", "dynamics.method")
    length = segment_length(resolution, trajectory.sample_step, len(trajectory.velocities))
    grid = frequency_grid(length, trajectory.sample_step)
    power = mode_power(trajectory, groups, length)
    symbols, counts = elements_of(trajectory.numbers)
    shares = np.array(
        [[g.shares()[trajectory.numbers == z].sum() for g in groups] for z in np.unique(trajectory.numbers)]
    )
    weights = bootstrap_weights(power.shape[0], power.shape[1], n_bootstrap, seed)
    density: dict[str, np.ndarray] = {}
    samples: dict[str, np.ndarray] = {}
    mean = power.mean(axis=(0, 1))
    repeated = np.einsum("brs,rsgf->bgf", weights, power)
    for symbol, share in zip(symbols, shares, strict=True):
        density[symbol] = to_three(grid, share @ to_three(grid, mean, 1 / 3), counts[symbol])
        samples[symbol] = to_three(grid, share @ to_three(grid, repeated, 1 / 3), counts[symbol])
    spectrum = Spectrum(grid, density, counts, samples, resolution=2 * HANN_FWHM_BINS * (grid[1] - grid[0]))
    return undo_verlet(spectrum, trajectory.time_step) if verlet_correction else spectrum


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


def mode_power(trajectory: Trajectory, groups: list[ModeGroup], length: int) -> np.ndarray:
    """Periodograms of the modes, mean over the columns of each group and both directions of time.

    [R, segments, n_groups, length + 1], arbitrary unit.
    """
    vectors = np.concatenate([g.vectors for g in groups], axis=1).conj()
    bounds = np.cumsum([0, *(g.vectors.shape[1] for g in groups)])[:-1]
    taper, back = hann(length)[:, None], -np.arange(length + 1)

    def periodogram(segment: np.ndarray) -> np.ndarray:
        modes = taper * (segment.reshape(length, -1) @ vectors)
        transform = np.abs(np.fft.fft(modes, 2 * length, axis=0)) ** 2
        folded = 0.5 * (transform[: length + 1] + transform[back])
        return np.add.reduceat(folded, bounds, axis=1).T / np.diff([*bounds, vectors.shape[1]])[:, None]

    return np.stack(
        [[periodogram(s) for s in segments(trajectory, replica, length)] for replica in range(trajectory.n_replicas)]
    )
