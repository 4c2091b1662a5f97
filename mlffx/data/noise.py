"""How good the labels are: rounding, and what no smooth energy surface explains in a difference of two levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAD_TO_SIGMA = 1.4826  # of a normal distribution
_SHELLS = (
    (4, 4),
    (2, 2),
    (2, 1),
    (2, 1),
    (2, 1),
)  # powers of the change of distance, and of the change of its square root


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise of the labels of one difference, per cell.

    Attributes:
        sigma: robust standard deviation of the noise, eV per cell.
        cold: the same from the colder half of the frames, eV per cell; equal to `sigma` where the noise does not grow
            with amplitude, smaller where the fit is at fault.
        residuals: leave-one-out residuals, [n_frames], eV per cell, NaN where there is no label.
        n_parameters: of the fit.
    """

    sigma: float
    cold: float
    residuals: np.ndarray
    n_parameters: int

    def outliers(self, factor: float = 5.0) -> np.ndarray:
        """Frames whose leave-one-out residual exceeds `factor` sigma."""
        return np.flatnonzero(np.abs(np.nan_to_num(self.residuals)) > factor * self.sigma)


def rounding_step(energies: np.ndarray) -> float | None:
    """Coarsest power of ten (1e-8 ... 0.1 eV) of which all energies are multiples; None when there is none."""
    values = energies[np.isfinite(energies)]
    for decimals in range(1, 9):
        scaled = values * 10.0**decimals
        if len(values) > 2 and np.abs(scaled - np.rint(scaled)).max() < 1e-4:
            return 10.0**-decimals
    return None
