"""Elastic constants of cubic crystals from the slopes of the acoustic branches.

Along [100], rho v_LA^2 = c11 and rho v_TA^2 = c44; along [111], rho v_LA^2 = (c11 + 2 c12 + 4 c44) / 3. Sound waves let
the atoms of the cell relax, so these are the relaxed constants that Brillouin scattering and ultrasound measure.
"""

from __future__ import annotations

import numpy as np

from mlffx.errors import UserError
from mlffx.lattice import paths
from mlffx.lattice.branches import branch_frequencies
from mlffx.lattice.phonons import Phonons
from mlffx.lattice.symmetry import space_group
from mlffx.units import AMU_A2_FS2_TO_EV, EV_A3_TO_GPA, THZ_TO_CM1

SMALL = 0.004  # 2 pi / a; the curvature of the branches enters with its square


def elastic_constants(phonons: Phonons) -> dict[str, float]:
    """c11, c12, c44, GPa, of the harmonic crystal at its lattice constant and 0 K without zero-point motion.

    Raises:
        UserError: for a crystal that is not cubic, or whose acoustic branches are imaginary.
    """
    if space_group(phonons.crystal).number < 195:
        raise UserError("elastic constants are computed for cubic crystals only", where="phonons")
    c11 = stiffness(phonons, (1, 0, 0), "LA")
    c44 = stiffness(phonons, (1, 0, 0), "TA")
    along_diagonal = stiffness(phonons, (1, 1, 1), "LA")
    return {"c11": c11, "c12": (3 * along_diagonal - c11 - 4 * c44) / 2, "c44": c44}


def stiffness(phonons: Phonons, direction: tuple[float, float, float], branch: str) -> float:
    """rho v^2 of an acoustic branch along a direction (conventional axes), GPa."""
    unit = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    q = paths.to_primitive(phonons.crystal, SMALL * unit)
    frequency = branch_frequencies(phonons, q).get(branch)
    if frequency is None or frequency <= 0:
        raise UserError(f"no stable {branch} branch along {direction}", "look at the imaginary modes", "phonons")
    length = float(np.linalg.norm(paths.cartesian(phonons.crystal, q)))  # 1/A, without 2 pi
    velocity = frequency / THZ_TO_CM1 * 1e-3 / length  # A/fs
    density = phonons.masses.sum() / abs(np.linalg.det(phonons.crystal.cell))  # amu/A^3
    return float(density * velocity**2 * AMU_A2_FS2_TO_EV * EV_A3_TO_GPA)
