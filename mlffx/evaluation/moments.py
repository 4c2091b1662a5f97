"""Scalars of projected densities of states, as scattering from one element measures them: <omega>, <u^2> and more.

With g the density of an element, normalised to one, m its mass and harmonic motion at T = 0: kinetic energy of an atom
3/4 hbar <omega>, mean square displacement along one axis hbar / (2 m) <1/omega>.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import over_members
from mlffx.units import AMU_A2_FS2_TO_EV, THZ_TO_CM1, THZ_TO_MEV

LOWEST = 5.0  # cm-1; <1/omega> of the Debye g ~ omega^2 converges, noise of the grid at zero does not
HBAR_EV_FS = 0.6582119569


@dataclass(frozen=True)
class Moments:
    """Of one element: mean and sigma over members.

    Attributes:
        mean_cm1, rms_cm1: <omega> and sqrt(<omega^2>).
        kinetic_meV: of an atom at 0 K.
        square_displacement_A2: along one axis at 0 K.
    """

    mean_cm1: tuple[float, float]
    rms_cm1: tuple[float, float]
    kinetic_meV: tuple[float, float]
    square_displacement_A2: tuple[float, float]


def moments(spectra: Spectra, masses: Mapping[str, float]) -> dict[str, Moments]:
    """Element -> moments of its projected density of states; empty without densities.

    Args:
        masses: of each element, amu.
    """
    found: dict[str, Moments] = {}
    use = spectra.grid > LOWEST
    omega = spectra.grid[use]
    for element, density in spectra.element_dos.items() if len(omega) else ():
        g = density[:, use] / density[:, use].sum(axis=1, keepdims=True)
        mean, square, inverse = g @ omega, g @ omega**2, g @ (1 / omega)
        angular = 2 * np.pi * 1e-3 / THZ_TO_CM1  # 1/fs per cm-1
        u2 = HBAR_EV_FS * inverse / angular / (2 * masses[element] * AMU_A2_FS2_TO_EV)
        columns = (mean, np.sqrt(square), 0.75 * mean / THZ_TO_CM1 * THZ_TO_MEV, u2)
        found[element] = Moments(*[_estimate(values) for values in columns])
    return found


def _estimate(values: np.ndarray) -> tuple[float, float]:
    e = over_members(values)
    return float(e.mean), float(e.sigma)
