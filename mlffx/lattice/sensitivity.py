"""How much LO at Gamma depends on the numbers that enter it besides the force constants: Z*, eps_inf, lattice constant.

LO^2 = TO^2 + omega_p^2, omega_p^2 = 4 pi e^2 Z*^2 / (V eps mu): a per cent of Z* moves LO by 0.01 omega_p^2 / LO, one
of eps by minus half of that, one of the lattice constant (with the force constants held) by minus three halves. Here
they are found by differences, so that they hold for any number of atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.nac import Nac
from mlffx.lattice.phonons import Phonons

STEP = 0.01


@dataclass(frozen=True)
class LoSensitivity:
    """LO at Gamma along [100] and what moves it, cm-1.

    Attributes:
        to, lo: highest transverse and longitudinal optical frequency.
        per_percent_charge, per_percent_dielectric: change of LO for one per cent more of every Z*, of eps_inf.
        per_percent_lattice: for one per cent more of the lattice constant, force constants, Z* and eps_inf held.
        sigma_inputs: of LO, from the uncertainties of Z* and eps_inf; None where the source states none.
    """

    to: float
    lo: float
    per_percent_charge: float
    per_percent_dielectric: float
    per_percent_lattice: float
    sigma_inputs: float | None


def lo_sensitivity(phonons: Phonons) -> LoSensitivity | None:
    """Sensitivity of the highest longitudinal mode at Gamma; None without a non-analytical term or a splitting."""
    nac, crystal = phonons.nac, phonons.crystal
    if nac is None:
        return None
    here = _optical(phonons)
    if here is None:
        return None
    charge = _slope(phonons, lambda f: (replace(nac, born=f * nac.born), crystal))
    dielectric = _slope(phonons, lambda f: (replace(nac, dielectric=f * nac.dielectric), crystal))
    lattice = _slope(phonons, lambda f: (nac, Crystal(f * crystal.cell, crystal.scaled_positions, crystal.numbers)))
    sigma = None
    if nac.uncertainty is not None:
        sigma = float(np.hypot(charge * 100 * nac.uncertainty[0], dielectric * 100 * nac.uncertainty[1]))
    return LoSensitivity(*here, charge, dielectric, lattice, sigma)


def _slope(phonons: Phonons, changed: Callable[[float], tuple[Nac, Crystal]]) -> float:
    """Change of LO for one per cent, by central differences; `changed` gives term and crystal for a factor."""
    values = []
    for factor in (1 + STEP, 1 - STEP):
        nac, crystal = changed(factor)
        other = Phonons(replace(phonons.force_constants, crystal=crystal), phonons.masses, nac, phonons.isotope)
        found = _optical(other)
        values.append(float("nan") if found is None else found[1])
    return (values[0] - values[1]) / (2 * STEP) * 0.01


def _optical(phonons: Phonons) -> tuple[float, float] | None:
    """Highest TO and LO at Gamma."""
    named = labelled_frequencies(phonons).get("GAMMA", {})
    kinds = [[f for name, f in named.items() if name.split("_")[0] == kind] for kind in ("TO", "LO")]
    return (max(kinds[0]), max(kinds[1])) if all(kinds) else None
