"""Vibrational density of states from molecular dynamics: mass-weighted, per element, with bootstrap errors.

    g_s(w) ~ sum_(i in s) m_i |FT[v_i]|^2

estimated by Welch's averaged periodograms, or by the velocity autocorrelation times a half window; the lag window used
here is the autocorrelation of Welch's taper, so both have the same expectation and the same resolution.
References: P. D. Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967); R. Kubo, Rep. Prog. Phys. 29, 255 (1966).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from ase.data import chemical_symbols

from mlffx.dynamics.spectrum import Spectrum
from mlffx.dynamics.trajectory import Trajectory
from mlffx.errors import UserError, nearest
from mlffx.units import THZ_TO_CM1

CM1_PER_INVERSE_FS = 1000 * THZ_TO_CM1
HANN_FWHM_BINS = 1.4406  # of the power response of a Hann taper
METHODS = ("welch", "vacf")
INDEPENDENT_REPLICAS = 3  # from here on replicas are drawn whole: segments of one NVE run share its mode energies


def velocity_spectrum(
    trajectory: Trajectory,
    resolution: float = 10.0,
    method: str = "welch",
    n_bootstrap: int = 200,
    seed: int = 0,
    verlet_correction: bool = True,
) -> Spectrum:
    """Density of states of the simulated supercell; each element integrates to 3 for each of its atoms.

    Scaling every element to 3 per atom imposes equipartition and returns the share of the rigid translation, which MD
    at zero momentum lacks; `commensurate_spectrum` does the same. `Trajectory.element_temperatures` tells what was
    scaled.

    Args:
        resolution: full width at half maximum of a sharp line, cm-1.
        method: `welch` or `vacf`.
        n_bootstrap: repetitions of the block bootstrap; blocks are replicas, or their segments when there are fewer
            than 5.
        seed: of the bootstrap; equal seeds and shapes pair the repetitions of two runs.
        verlet_correction: undo the frequency shift of velocity Verlet, w -> (2/dt) sin(w dt/2).
    """
    if method not in METHODS:
        raise UserError(f"unknown method '{method}'", nearest(method, METHODS), "dynamics.method")
    length = segment_length(resolution, trajectory.sample_step, len(trajectory.velocities))
    power = np.stack(
        [
            _periodograms(trajectory, replica, length) if method == "welch" else _from_acf(trajectory, replica, length)
            for replica in range(trajectory.n_replicas)
        ]
    )  # [R, segments, elements, n_grid]
    grid = frequency_grid(length, trajectory.sample_step)
    symbols, counts = elements_of(trajectory.numbers)
    weights = bootstrap_weights(power.shape[0], power.shape[1], n_bootstrap, seed)
    repeated = np.einsum("brs,rsef->bef", weights, power)
    mean = power.mean(axis=(0, 1))
    spectrum = Spectrum(
        grid,
        {s: to_three(grid, mean[e], counts[s]) for e, s in enumerate(symbols)},
        counts,
        {s: to_three(grid, repeated[:, e], counts[s]) for e, s in enumerate(symbols)},
        resolution=2 * HANN_FWHM_BINS * (grid[1] - grid[0]),
    )
    return undo_verlet(spectrum, trajectory.time_step) if verlet_correction else spectrum


def segment_length(resolution: float, sample_step: float, n_samples: int) -> int:
    """Samples of a segment whose Hann taper resolves `resolution` cm-1.

    Raises:
        UserError: when the run is too short for it.
    """
    length = int(np.ceil(HANN_FWHM_BINS * CM1_PER_INVERSE_FS / (resolution * sample_step)))
    if length > n_samples:
        best = HANN_FWHM_BINS * CM1_PER_INVERSE_FS / (max(n_samples, 1) * sample_step)
        raise UserError(
            f"{n_samples * sample_step / 1000:.3g} ps of production resolve {best:.3g} cm-1, not {resolution:g}",
            f"run at least {length * sample_step / 1000:.3g} ps or ask for a coarser dynamics.resolution_cm1",
            "dynamics.resolution_cm1",
        )
    return length


def frequency_grid(length: int, sample_step: float) -> np.ndarray:
    """Frequencies of a segment padded to twice its length, cm-1, [length + 1]."""
    return np.fft.rfftfreq(2 * length, sample_step) * CM1_PER_INVERSE_FS


def bootstrap_weights(n_replicas: int, n_segments: int, n_bootstrap: int, seed: int) -> np.ndarray:
    """[n_bootstrap, R, segments], summing to one: how often each block was drawn.

    One block fewer is drawn than there are, which makes the variance of the repetitions that of the mean (J. N. K. Rao,
    C. F. J. Wu, J. Am. Stat. Assoc. 83, 231 (1988)).
    """
    whole = n_replicas >= INDEPENDENT_REPLICAS
    blocks = n_replicas if whole else n_replicas * n_segments
    draws = max(blocks - 1, 1)
    drawn = np.random.default_rng(seed).multinomial(draws, np.full(blocks, 1 / blocks), size=n_bootstrap) / draws
    if whole:
        return np.repeat(drawn[:, :, None] / n_segments, n_segments, axis=2)
    return drawn.reshape(n_bootstrap, n_replicas, n_segments)


def hann(length: int) -> np.ndarray:
    """Periodic Hann taper, [length]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


@lru_cache(maxsize=8)
def lag_window(length: int) -> np.ndarray:
    """Half window on lags 0 ... length-1: autocorrelation of the Hann taper, 1 at lag 0, [length]."""
    transform = np.fft.rfft(hann(length), 2 * length)
    correlation = np.fft.irfft(np.abs(transform) ** 2)[:length]
    return correlation / correlation[0]


def spectrum_of_acf(acf: np.ndarray) -> np.ndarray:
    """Expectation of Welch's spectrum for an autocorrelation on lags 0 ... length-1 (last axis): [..., length + 1]."""
    length = acf.shape[-1]
    windowed = acf * lag_window(length)
    return 2 * np.fft.rfft(windowed, 2 * length).real - windowed[..., :1]


def undo_verlet(spectrum: Spectrum, time_step: float) -> Spectrum:
    """Move states from the frequencies w' that velocity Verlet shows to w = (2/dt) sin(w' dt/2); areas are kept."""
    half = np.pi * time_step / CM1_PER_INVERSE_FS  # dt/2 for an angular frequency
    shown = spectrum.grid[half * spectrum.grid < 0.49 * np.pi]  # Verlet can show nothing beyond pi/2
    true = np.sin(half * shown) / half

    def move(density: np.ndarray) -> np.ndarray:
        seen = density[..., : len(shown)] / np.cos(half * shown)
        out = [np.interp(spectrum.grid, true, row, right=0.0) for row in np.atleast_2d(seen)]
        moved = np.reshape(out, density.shape)
        before, after = (np.trapezoid(d, spectrum.grid, axis=-1)[..., None] for d in (density, moved))
        return moved * (before / after)

    return spectrum.apply(move)


def segments(trajectory: Trajectory, replica: int, length: int) -> Iterator[np.ndarray]:
    """Half-overlapping segments of mass-weighted velocities without drift, [length, n, 3], sqrt(amu) A/fs."""
    n = len(trajectory.velocities)
    root = np.sqrt(trajectory.masses)[:, None]
    for first in range(0, n - length + 1, max(1, length // 2)):
        yield weighted(trajectory.velocities[first : first + length, replica], trajectory.masses, root)


def weighted(velocities: np.ndarray, masses: np.ndarray, root: np.ndarray) -> np.ndarray:
    """sqrt(m) v with the total momentum of every frame taken out."""
    v = np.asarray(velocities, dtype=np.float64)
    drift = np.einsum("i,tia->ta", masses, v) / masses.sum()
    return root * (v - drift[:, None])


def _periodograms(trajectory: Trajectory, replica: int, length: int) -> np.ndarray:
    """[segments, elements, n_grid], one-sided, arbitrary unit."""
    taper = hann(length)[:, None, None]
    out = []
    for segment in segments(trajectory, replica, length):
        power = np.abs(np.fft.rfft(taper * segment, 2 * length, axis=0)) ** 2
        out.append(_sum_elements(power.sum(axis=2), trajectory.numbers) / (hann(length) ** 2).sum())
    return np.stack(out)


def _from_acf(trajectory: Trajectory, replica: int, length: int) -> np.ndarray:
    """[1, elements, n_grid]: unbiased autocorrelation of the whole run, half window, cosine transform."""
    v = weighted(trajectory.velocities[:, replica], trajectory.masses, np.sqrt(trajectory.masses)[:, None])
    n = len(v)
    acf = np.zeros((len(np.unique(trajectory.numbers)), length))
    for e, z in enumerate(np.unique(trajectory.numbers)):
        for atom in np.flatnonzero(trajectory.numbers == z):
            transform = np.fft.rfft(v[:, atom], 2 * n, axis=0)
            acf[e] += np.fft.irfft((np.abs(transform) ** 2).sum(axis=1))[:length]
    acf /= n - np.arange(length)  # the number of pairs at each lag
    return spectrum_of_acf(acf)[None]


def _sum_elements(per_atom: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return np.stack([per_atom[:, numbers == z].sum(axis=1) for z in np.unique(numbers)])


def elements_of(numbers: np.ndarray) -> tuple[list[str], dict[str, float]]:
    """Symbols in the order of their atomic numbers, and how many atoms of each."""
    symbols = [chemical_symbols[z] for z in np.unique(numbers)]
    return symbols, {s: float((numbers == z).sum()) for s, z in zip(symbols, np.unique(numbers), strict=True)}


def to_three(grid: np.ndarray, density: np.ndarray, count: float) -> np.ndarray:
    """Density [..., n_grid] scaled to three states for each of `count` atoms."""
    return 3 * count * density / np.trapezoid(density, grid, axis=-1)[..., None]
