"""Tables of the report beyond frequencies: what LO at Gamma rests on, and scalars of projected densities of states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlffx.evaluation.moments import Moments, moments
from mlffx.evaluation.report import PageTable
from mlffx.evaluation.spectra import Spectra
from mlffx.lattice.isotopes import masses_of
from mlffx.lattice.phonons import Phonons
from mlffx.lattice.sensitivity import LoSensitivity, lo_sensitivity


def sensitivities(phonons: Phonons, isotopes: Mapping[str, Mapping[str, Any]]) -> dict[str, LoSensitivity]:
    """Isotopic composition -> sensitivity of its LO; empty without a non-analytical term.

    Args:
        phonons: of the mean force constants.
        isotopes: other compositions: name -> element -> isotope.
    """
    numbers = phonons.crystal.numbers
    found = {phonons.isotope: lo_sensitivity(phonons)} if phonons.nac is not None else {}
    if found:
        others = {name: phonons.with_masses(masses_of(numbers, dict(which)), name) for name, which in isotopes.items()}
        found |= {name: lo_sensitivity(other) for name, other in others.items()}
    return {name: one for name, one in found.items() if one is not None}


def sensitivity_table(found: Mapping[str, LoSensitivity], a: float) -> list[PageTable]:
    """For the report; nothing without a splitting."""
    if not found:
        return []
    heads = ["cm⁻¹", "TO", "LO", "+1 % of Z*", "+1 % of ε∞", f"+1 % of a = {a:.3f} Å", "± from Z*, ε∞"]
    rows = [
        [
            isotope,
            f"{s.to:.1f}",
            f"{s.lo:.1f}",
            f"{s.per_percent_charge:+.1f}",
            f"{s.per_percent_dielectric:+.1f}",
            f"{s.per_percent_lattice:+.1f}",
            "" if s.sigma_inputs is None else f"{s.sigma_inputs:.1f}",
        ]
        for isotope, s in found.items()
    ]
    caption = (
        "LO² = TO² + 4πe²Z*²/(Vε∞μ). The lattice constant enters through V alone here; what it does to the force "
        "constants comes on top."
    )
    return [PageTable("What LO at Γ rests on", caption, heads, rows)]


def dos_moments(spectra: Mapping[str, Spectra], numbers: np.ndarray, isotopes: Mapping[str, Any]) -> dict[str, Any]:
    """Isotopic composition -> element -> moments of its density of states.

    Args:
        spectra: by composition, as evaluated.
        numbers: atomic numbers of the primitive cell.
        isotopes: element -> isotope of each composition.
    """
    symbols = [chemical_symbols[z] for z in numbers]
    masses = {name: masses_of(numbers, dict(isotopes.get(name, {}))) for name in spectra}
    found = {name: moments(s, dict(zip(symbols, masses[name], strict=True))) for name, s in spectra.items()}
    return {name: elements for name, elements in found.items() if elements}


def moments_table(found: Mapping[str, Mapping[str, Moments]]) -> list[PageTable]:
    """For the report; nothing without densities of states."""
    rows = [
        [
            f"{element} in {isotope}",
            _cell(m.mean_cm1, 1),
            _cell(m.rms_cm1, 1),
            _cell(m.kinetic_meV, 2),
            _cell(m.square_displacement_A2, 5),
        ]
        for isotope, elements in found.items()
        for element, m in elements.items()
    ]
    if not rows:
        return []
    heads = ["element", "⟨ω⟩, cm⁻¹", "⟨ω²⟩^½, cm⁻¹", "kinetic energy at 0 K, meV", "⟨u²⟩ along an axis at 0 K, Å²"]
    caption = "Harmonic, of the density of states projected on one element, as scattering from its nuclei measures it."
    return [PageTable("Scalars of the projected densities of states", caption, heads, rows)]


def as_json(found: Mapping[str, LoSensitivity]) -> dict[str, Any]:
    """For phonons.json."""
    return {name: asdict(one) for name, one in found.items()}


def _cell(value: tuple[float, float], digits: int) -> str:
    mean, sigma = value
    return f"{mean:.{digits}f}" + ("" if np.isnan(sigma) else f" ± {sigma:.{digits}f}")
