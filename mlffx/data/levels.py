"""Levels of theory: which labels each of them has, in which file, under which keys and in which units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ase import units

from mlffx.config import checked, read_settings
from mlffx.errors import UserError, nearest

LABELS = ("energy", "forces")
NAMES = {"dft": "DFT", "hf": "HF", "mp2": "MP2", "ccsd": "CCSD", "ccsdt": "CCSD(T)"}  # each builds on those before it
ENERGY_UNITS = {
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": units.Hartree,
    "Ry": units.Rydberg,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}
LENGTH_UNITS = {"A": 1.0, "bohr": units.Bohr}


@dataclass(frozen=True)
class Level:
    """A level of theory as declared in the data set's configuration.

    Attributes:
        name: `ccsdt`.
        labels: what it has, of `energy` and `forces`; a column that is not declared is never read.
        file: where its labels are, relative to the data set's root; None for a generated level.
        description: for people.
        energy_key, forces_key: names of the label in the file; None takes what the file format calls energy and forces.
        energy_unit, length_unit: units of the file; forces are energy_unit / length_unit.
        format: ASE's name of the file format, None to guess.
    """

    name: str
    labels: tuple[str, ...]
    file: Path | None = None
    description: str = ""
    energy_key: str | None = None
    forces_key: str | None = None
    energy_unit: str = "eV"
    length_unit: str = "A"
    format: str | None = None

    @property
    def energy_factor(self) -> float:
        """eV in the file's unit of energy."""
        return ENERGY_UNITS[self.energy_unit]

    @property
    def length_factor(self) -> float:
        """A in the file's unit of length."""
        return LENGTH_UNITS[self.length_unit]


@dataclass(frozen=True)
class Note:
    """Something dropped or noticed while reading, told to the user.

    Attributes:
        level: whose file, or "" for the whole set.
        reason: what and why.
        file, line: where; line counts from 1.
        frame: index in that file, from 0.
        dropped: whether a label or a frame is missing from the set because of it.
    """

    level: str
    reason: str
    file: str = ""
    line: int | None = None
    frame: int | None = None
    dropped: bool = False

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.line is not None else "")
        frame = f"frame {self.frame}: " if self.frame is not None else ""
        return f"{place + ': ' if place else ''}{self.level + ': ' if self.level else ''}{frame}{self.reason}"


def level_name(level: str) -> str:
    """A level's name for people: `CCSD(T)` for `ccsdt`; one of the user's own as it is given."""
    return NAMES.get(level.lower(), level)


def parse_levels(config: Mapping[str, Any], where: str = "data.levels") -> dict[str, Level]:
    """Levels from `{name: {file:, labels:, ...}}`, checked.

    Raises:
        UserError: for unknown keys, labels or units, and for a set without levels.
    """
    if not isinstance(config, Mapping) or not config:
        raise UserError("no level of theory is declared", "declare data.levels.NAME.file and .labels", where)
    return {str(name): _parse_level(str(name), spec or {}, f"{where}.{name}") for name, spec in config.items()}


def _parse_level(name: str, spec: Mapping[str, Any], where: str) -> Level:
    if not isinstance(spec, Mapping):
        raise UserError(f"'{spec}' is not understood", "write {file: NAME, labels: [energy]}", where)
    valid = [f.name for f in fields(Level) if f.name != "name"]
    for key in spec:
        if key not in valid:
            raise UserError(f"unknown key '{key}'", nearest(key, valid), f"{where}.{key}")
    labels = spec.get("labels", ["energy"])
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise UserError(
            f"'{labels}' is not a list", "write labels: [energy] or labels: [energy, forces]", f"{where}.labels"
        )
    for label in labels:
        if label not in LABELS:
            raise UserError(f"unknown label '{label}'", nearest(label, LABELS), f"{where}.labels")
    if "energy" not in labels:
        raise UserError("a level without energies is of no use", "add energy to its labels", f"{where}.labels")
    options = {k: v for k, v in spec.items() if v is not None} | {"labels": tuple(labels)}
    if "file" in options:
        options["file"] = Path(checked(options["file"], Path | str, f"{where}.file"))
    level = read_settings(Level, options | {"name": name}, where)
    for key, unit, table in (
        ("energy_unit", level.energy_unit, ENERGY_UNITS),
        ("length_unit", level.length_unit, LENGTH_UNITS),
    ):
        if unit not in table:
            raise UserError(f"unknown unit '{unit}'", nearest(unit, table), f"{where}.{key}")
    return level
