"""Densities of states as arrays with errors, and what is read off them: moments, distances, quantum averages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_numbers

from mlffx.errors import UserError
from mlffx.lattice.isotopes import natural_mass
from mlffx.units import KB_EV, THZ_TO_CM1, THZ_TO_MEV

CM1_TO_EV = 1e-3 * THZ_TO_MEV / THZ_TO_CM1  # h c
HBAR2_EV_AMU_A2 = 0.00418015929  # hbar^2 in eV amu A^2


@dataclass(frozen=True)
class Spectrum:
    """Density of vibrational states, states per cm-1.

    Attributes:
        grid: uniform, cm-1, [n_grid].
        density: element -> [n_grid]; integrates to 3 for each atom counted.
        counts: element -> number of atoms the density stands for.
        samples: element -> bootstrap repetitions, [n_bootstrap, n_grid]; None where there is no noise (harmonic
            theory).
        resolution: full width at half maximum of a sharp line, cm-1.
    """

    grid: np.ndarray
    density: dict[str, np.ndarray]
    counts: dict[str, float]
    samples: dict[str, np.ndarray] | None = None
    resolution: float = 0.0

    @classmethod
    def of_lattice(cls, grid: np.ndarray, projected: dict[str, np.ndarray]) -> Spectrum:
        """A harmonic density of states of `Phonons.dos` (uniform grid, cm-1; element -> states per cm-1), for the
        measures below; imaginary frequencies are left out."""
        real = grid >= 0
        density = {e: np.asarray(d)[real] for e, d in projected.items()}
        return cls(grid[real], density, {e: float(np.trapezoid(d, grid[real])) / 3 for e, d in density.items()})

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(self.density)

    @property
    def total(self) -> np.ndarray:
        """Sum over elements, [n_grid]; integrates to 3 N."""
        return np.sum(list(self.density.values()), axis=0)

    @property
    def total_samples(self) -> np.ndarray | None:
        """[n_bootstrap, n_grid]."""
        return None if self.samples is None else np.sum(list(self.samples.values()), axis=0)

    def sigma(self, element: str | None = None) -> np.ndarray:
        """Standard error of the density of one element, or of the total, [n_grid]."""
        samples = self.total_samples if element is None or self.samples is None else self.samples[element]
        return np.zeros_like(self.grid) if samples is None else samples.std(axis=0)

    def estimate(
        self, measure: Callable[[np.ndarray, np.ndarray], float], element: str | None = None
    ) -> tuple[float, float]:
        """Value and bootstrap error of `measure(grid, density)`."""
        density = self.total if element is None else self.density[element]
        samples = self.total_samples if element is None or self.samples is None else self.samples[element]
        value = measure(self.grid, density)
        if samples is None:
            return value, 0.0
        return value, float(np.std([measure(self.grid, s) for s in samples]))

    def counted_as(self, counts: dict[str, float]) -> Spectrum:
        """The same spectrum for other numbers of atoms (a supercell's for a primitive cell)."""

        def scaled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {e: a * (counts[e] / self.counts[e]) for e, a in arrays.items()}

        samples = None if self.samples is None else scaled(self.samples)
        return replace(self, density=scaled(self.density), samples=samples, counts=dict(counts))

    def apply(self, change: Callable[[np.ndarray], np.ndarray]) -> Spectrum:
        """Every density through `change`, which keeps the grid (along the last axis)."""
        samples = None if self.samples is None else {e: change(s) for e, s in self.samples.items()}
        return replace(self, density={e: change(d) for e, d in self.density.items()}, samples=samples)


def area(grid: np.ndarray, density: np.ndarray) -> float:
    """Number of states."""
    return float(np.trapezoid(density, grid))


def moment(order: float, lowest: float = 1.0) -> Callable[[np.ndarray, np.ndarray], float]:
    """<w^order>^(1/order) in cm-1 as a measure of (grid, density); frequencies below `lowest` cm-1 are left out."""

    def measure(grid: np.ndarray, density: np.ndarray) -> float:
        keep = grid >= lowest
        weight = np.trapezoid(density[keep], grid[keep])
        return float((np.trapezoid(density[keep] * grid[keep] ** order, grid[keep]) / weight) ** (1 / order))

    return measure


def wasserstein(grid: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """W1 distance of two densities on one grid, both normalised to one: integral of |CDF1 - CDF2|, cm-1."""
    step = np.diff(grid)
    cdf = [np.concatenate([[0.0], np.cumsum(0.5 * (d[1:] + d[:-1]) * step)]) for d in (first, second)]
    return float(np.trapezoid(np.abs(cdf[0] / cdf[0][-1] - cdf[1] / cdf[1][-1]), grid))


def compare(first: Spectrum, second: Spectrum) -> dict[str, float]:
    """W1 distance (cm-1) of the totals and of each element, with bootstrap errors, and shifts of the mean frequency.

    Repetitions of two spectra with the same number of replicas and seed are paired (`vdos.bootstrap_weights`), so noise
    the two runs share cancels in the shift.
    """
    _same_grid(first, second)
    out: dict[str, float] = {}
    for element in (None, *first.elements):
        key = element or "total"
        a, b = (s.total if element is None else s.density[element] for s in (first, second))
        out[f"w1_{key}_cm1"] = wasserstein(first.grid, a, b)
        mean = moment(1.0)
        out[f"mean_shift_{key}_cm1"] = mean(first.grid, a) - mean(first.grid, b)
        pairs = _paired(first, second, element)
        if pairs:
            out[f"w1_{key}_sigma_cm1"] = float(np.std([wasserstein(first.grid, x, y) for x, y in pairs]))
            out[f"mean_shift_{key}_sigma_cm1"] = float(
                np.std([mean(first.grid, x) - mean(first.grid, y) for x, y in pairs])
            )
    return out


def difference(first: Spectrum, second: Spectrum) -> Spectrum:
    """first - second, with the bootstrap errors of the paired difference; it integrates to zero."""
    _same_grid(first, second)
    density = {e: first.density[e] - second.density[e] for e in first.elements}
    samples = None
    if first.samples is not None and second.samples is not None:
        samples = {e: first.samples[e] - second.samples[e] for e in first.elements}
    elif first.samples is not None:
        samples = {e: first.samples[e] - second.density[e] for e in first.elements}
    return replace(first, density=density, samples=samples)


def broaden(spectrum: Spectrum, fwhm: float, relative: float = 0.0) -> Spectrum:
    """Gaussian resolution of an instrument: full width fwhm + relative * frequency, cm-1; the area is kept.

    Args:
        fwhm: constant part, cm-1.
        relative: e.g. 0.015-0.02 for an inverted-geometry spectrometer.
    """
    width = (fwhm + relative * spectrum.grid) / np.sqrt(8 * np.log(2))
    if np.any(width < 0) or width.max() <= 0:
        raise UserError(
            f"a resolution of {fwhm:g} cm-1 + {relative:g} w", "give a positive width", "dynamics.resolution"
        )
    step = spectrum.grid[1] - spectrum.grid[0]
    offset = spectrum.grid[:, None] - spectrum.grid[None, :]
    kernel = np.exp(-0.5 * (offset / np.maximum(width, 0.3 * step)[None, :]) ** 2)
    kernel /= kernel.sum(axis=0)  # column: where the states of one frequency go; what would leave the grid stays on it
    resolution = float(np.hypot(spectrum.resolution, fwhm + relative * moment(1.0)(spectrum.grid, spectrum.total)))
    return replace(spectrum.apply(lambda d: d @ kernel.T), resolution=resolution)


def quantum_averages(
    spectrum: Spectrum, element: str, temperature: float, mass: float | None = None, lowest: float = 10.0
) -> dict[str, tuple[float, float]]:
    """What a quantum harmonic crystal with this projected density of states does at a temperature, each with its error.

    With g normalised to one: E_k = (3/4) int hw coth(hw/2kT) g, <u^2> = 3 int hbar/(2 m w) coth(hw/2kT) g and
    W_E^2 = int w^2 g (S. W. Lovesey, Theory of Neutron Scattering, vol. 1, ch. 4). Frequencies below
    `lowest` cm-1, where a finite supercell has none and an estimated spectrum only leakage, are left out.

    Args:
        temperature: K; 0 gives the ground state.
        mass: amu; None takes the natural one.

    Returns:
        `kinetic_energy_meV` of one atom, `mean_square_displacement_A2` over three directions, `einstein_cm1`.
    """
    if element not in spectrum.density:
        raise UserError(f"no density of '{element}'", f"elements: {', '.join(spectrum.elements)}", "element")
    amu = natural_mass(atomic_numbers[element]) if mass is None else float(mass)

    def coth(energy: np.ndarray) -> np.ndarray:
        return np.ones_like(energy) if temperature <= 0 else 1 / np.tanh(energy / (2 * KB_EV * temperature))

    def average(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], float]:
        def measure(grid: np.ndarray, density: np.ndarray) -> float:
            w, g = grid[grid >= lowest], density[grid >= lowest]
            return float(np.trapezoid(function(w * CM1_TO_EV) * g, w) / np.trapezoid(g, w))

        return measure

    return {
        "kinetic_energy_meV": spectrum.estimate(average(lambda e: 750 * e * coth(e)), element),
        "mean_square_displacement_A2": spectrum.estimate(
            average(lambda e: 1.5 * HBAR2_EV_AMU_A2 / amu * coth(e) / e), element
        ),
        "einstein_cm1": spectrum.estimate(moment(2.0, lowest), element),
    }


def _same_grid(first: Spectrum, second: Spectrum) -> None:
    if first.grid.shape != second.grid.shape or not np.allclose(first.grid, second.grid):
        raise UserError("two spectra on different grids", "use the same resolution and sampling for both", "spectra")


def _paired(first: Spectrum, second: Spectrum, element: str | None) -> list[tuple[np.ndarray, np.ndarray]]:
    def samples(s: Spectrum) -> np.ndarray | None:
        return s.total_samples if element is None or s.samples is None else s.samples[element]

    a, b = samples(first), samples(second)
    if a is None and b is None:
        return []
    n = len(a if a is not None else b)  # type: ignore[arg-type]
    fixed = [s.total if element is None else s.density[element] for s in (first, second)]
    rows_a = a if a is not None else np.broadcast_to(fixed[0], (n, len(first.grid)))
    rows_b = b if b is not None else np.broadcast_to(fixed[1], (n, len(first.grid)))
    return list(zip(rows_a, rows_b, strict=True))
