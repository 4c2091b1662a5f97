"""Masses by isotope. Frequencies go with the inverse square root of the mass, so the masses are always stated.

Natural: IUPAC standard atomic weights (conventional values where IUPAC gives an interval); isotopes: AME2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from mlffx.errors import UserError, nearest

ISOTOPES: dict[str, tuple[str, float]] = {  # name -> (element, mass in amu)
    "1H": ("H", 1.00782503190),
    "2H": ("H", 2.01410177784),
    "6Li": ("Li", 6.0151228874),
    "7Li": ("Li", 7.0160034342),
    "12C": ("C", 12.0),
    "13C": ("C", 13.00335483534),
}
ISOTOPES |= {"D": ISOTOPES["2H"]}
NATURAL: dict[str, float] = {"H": 1.008, "Li": 6.94, "C": 12.011}


def natural_mass(number: int) -> float:
    """Standard atomic weight, amu."""
    symbol = chemical_symbols[number]
    return NATURAL.get(symbol, float(atomic_masses[number]))


def masses_of(numbers: Sequence[int] | np.ndarray, isotopes: Mapping[str, str | float] | None = None) -> np.ndarray:
    """Mass of each atom, amu.

    Args:
        numbers: atomic numbers, [n].
        isotopes: element -> isotope name (`{"H": "D", "Li": "7Li"}`), `natural`, or a mass in amu.

    Raises:
        UserError: for an unknown isotope, one of another element, or an element that is not there.
    """
    chosen = dict(isotopes or {})
    symbols = [chemical_symbols[int(z)] for z in numbers]
    for element in chosen:
        if element not in symbols:
            raise UserError(f"no {element} in the crystal", nearest(element, set(symbols)), "phonons.isotopes")
    return np.array([_mass(s, int(z), chosen.get(s, "natural")) for s, z in zip(symbols, numbers, strict=True)])


def isotope_label(numbers: Sequence[int] | np.ndarray, isotopes: Mapping[str, str | float] | None = None) -> str:
    """Short name of what was computed: `natural`, `7LiD`, `13C`; H stands for 1H, natural elements for themselves."""
    chosen = {k: v for k, v in (isotopes or {}).items() if v != "natural"}
    if not chosen:
        return "natural"
    names: list[str] = []
    for z in numbers:
        symbol = chemical_symbols[int(z)]
        value = chosen.get(symbol, symbol)
        name = {"1H": "H", "2H": "D"}.get(str(value), str(value))
        if not names or name not in names:
            names.append(name if isinstance(value, str) else f"{symbol}({value:g})")
    return "".join(names)


def _mass(symbol: str, number: int, isotope: str | float) -> float:
    if isinstance(isotope, int | float):
        return float(isotope)
    if isotope == "natural":
        return natural_mass(number)
    if isotope not in ISOTOPES:
        raise UserError(f"unknown isotope '{isotope}'", nearest(isotope, [*ISOTOPES, "natural"]), "phonons.isotopes")
    element, mass = ISOTOPES[isotope]
    if element != symbol:
        raise UserError(f"{isotope} is no isotope of {symbol}", where=f"phonons.isotopes.{symbol}")
    return mass
