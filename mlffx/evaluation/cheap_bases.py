"""Potentials that cost nothing and have forces, as bases of a control: published parameters, or tight binding."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from mlffx.data.crystal import Crystal
from mlffx.potentials.base import Potential
from mlffx.potentials.build import build_potential
from mlffx.potentials.calculator import CalculatorPotential

PUBLISHED: dict[frozenset[int], tuple[str, dict[str, Any]]] = {
    frozenset({6}): ("Tersoff", {"kind": "calculator", "name": "tersoff", "options": {}}),
    frozenset({1, 3}): ("rigid ions", {"kind": "ionic_twin"}),
}


def cheap_base(crystal: Crystal) -> tuple[str, Potential] | None:
    """Name and potential for a crystal's elements; GFN1-xTB where nothing is published here, None without tblite."""
    known = PUBLISHED.get(frozenset(int(z) for z in crystal.numbers))
    if known is not None:
        return known[0], build_potential(known[1]).eval()
    if find_spec("tblite") is None:
        return None
    return "GFN1-xTB", CalculatorPotential("tblite", method="GFN1-xTB").eval()
