"""Measured and published values with source, isotope, temperature, uncertainty and grade, from the files beside this.

Every number that is compared with a result comes from here; a file is checked as a whole when it is read.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mlffx.errors import UserError, nearest
from mlffx.units import THZ_TO_CM1

HERE = Path(__file__).parent

KINDS = ("experiment", "model_of_experiment", "derived", "calculation", "baseline", "labels")
QUANTITIES = (
    "frequency",
    "harmonic_frequency",
    "anharmonic_shift",
    "linewidth",
    "overbending",
    "elastic_constant",
    "lattice_constant",
    "lattice_constant_static",
    "epsilon_0",
    "epsilon_inf",
    "born_charge",
)
UNITS = ("cm-1", "meV", "GPa", "A", "e", "1")
BRANCHES = ("TA", "LA", "TO", "LO", "LTO", *(f"mode_{k}" for k in range(1, 7)))
GRADES = ("A", "B", "C")


@dataclass(frozen=True)
class Measurement:
    """One number.

    Attributes:
        material: `diamond`, `lih`.
        kind: `experiment`; `model_of_experiment` (fitted to measured points); `derived` from experiments; `calculation`
            (published); `baseline` (harmonic values the released labels imply); `labels` (facts about the labels).
        quantity: `frequency`, `lattice_constant`, `born_charge`...
        value: in `unit`.
        unit: `cm-1` for frequencies.
        sigma: one standard deviation, same unit; None where none is known.
        source: the paper.
        method: how it was obtained.
        grade: A read in the source, B computed from published numbers, C from memory of the papers' tables.
        isotope: `natural`, `LiD`, `7LiD`...
        temperature: K.
        label: GAMMA, X, L..., or what the number is of (c11, Li).
        q: [3], units of 2 pi / a (conventional axes); None for what is no frequency.
        branch: TA, LA, TO, LO, LTO (Gamma of diamond), or mode_k (k-th lowest).
        level: of theory, for calculations and baselines.
        note: what a reader has to know.
    """

    material: str
    kind: str
    quantity: str
    value: float
    unit: str
    sigma: float | None
    source: str
    method: str
    grade: str
    isotope: str = "natural"
    temperature: float | None = None
    label: str = ""
    q: tuple[float, float, float] | None = None
    branch: str = ""
    level: str = ""
    note: str = ""


@dataclass(frozen=True)
class Reference:
    """All values of one material.

    Attributes:
        material: its name.
        prototype: structure, as ASE names it.
        species: element symbols.
        measurements: every record.
    """

    material: str
    prototype: str
    species: tuple[str, ...]
    measurements: tuple[Measurement, ...]

    def select(self, **wanted: Any) -> list[Measurement]:
        """Records whose attributes equal `wanted`; a tuple or list means any of its entries.

        Raises:
            UserError: for an attribute that records do not have.
        """
        known = [f.name for f in fields(Measurement)]
        for key in wanted:
            if key not in known:
                raise UserError(f"measurements have no attribute '{key}'", nearest(key, known), "reference")
        return [m for m in self.measurements if all(_is(getattr(m, k), v) for k, v in wanted.items())]

    def one(self, **wanted: Any) -> Measurement:
        """The only record that fits.

        Raises:
            UserError: when there is none or there are several.
        """
        found = self.select(**wanted)
        if len(found) != 1:
            raise UserError(f"{len(found)} records of {self.material} fit {wanted}", "name one of them", "reference")
        return found[0]

    def frequencies(self, isotope: str | None = None, kinds: tuple[str, ...] = ("experiment",)) -> list[Measurement]:
        """Frequencies with a q-point, cm-1, of one isotope (all when None)."""
        found = [m for m in self.select(quantity="frequency", kind=kinds) if m.q is not None]
        return [m for m in found if isotope is None or m.isotope == isotope]

    def isotopes(self, kinds: tuple[str, ...] = ("experiment", "model_of_experiment")) -> list[str]:
        """Isotopic compositions with frequencies of these kinds."""
        return list(dict.fromkeys(m.isotope for m in self.frequencies(kinds=kinds)))

    def baseline(self, level: str) -> list[Measurement]:
        """Harmonic frequencies the released labels of a level imply."""
        return self.select(kind="baseline", quantity="frequency", level=level)


# Isotopic compositions of the tables as masses: element -> isotope (see mlffx.lattice.isotopes).
COMPOSITIONS: dict[str, dict[str, str]] = {
    "natural": {},
    "12C": {"C": "12C"},
    "13C": {"C": "13C"},
    "LiD": {"H": "D"},
    "7LiD": {"Li": "7Li", "H": "D"},
    "7LiH": {"Li": "7Li", "H": "1H"},
    "6LiH": {"Li": "6Li", "H": "1H"},
}


def materials() -> list[str]:
    """Names `reference` knows."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


@cache
def reference(material: str) -> Reference:
    """The table of a material.

    Raises:
        UserError: for an unknown material.
    """
    path = HERE / f"{material}.yaml"
    if material not in materials():
        raise UserError(f"no reference values for '{material}'", nearest(material, materials()), "reference.material")
    return read_reference(path)


def read_reference(path: Path) -> Reference:
    """Read and check a table (the layout of `diamond.yaml`).

    Raises:
        UserError: for a missing file or a wrong entry, with the entry.
    """
    if not path.is_file():
        raise UserError("no such file", "give the path of a reference table", path)
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"not YAML: {error}", where=path) from error
    missing = {"material", "structure", "sources", "sets"} - set(content or {})
    if missing:
        raise UserError(f"no {', '.join(sorted(missing))}", "see the layout of diamond.yaml", path)
    records = [_record(content, group, entry, path) for group in content["sets"] for entry in group["values"]]
    for table in content.get("tables", []):
        records += _table(content, table, path)
    structure = content["structure"]
    return Reference(content["material"], structure["prototype"], tuple(structure["species"]), tuple(records))


def _record(content: Mapping[str, Any], group: Mapping[str, Any], entry: Mapping[str, Any], path: Path) -> Measurement:
    """One entry with what its set says; the entry wins."""
    merged = {k: v for k, v in group.items() if k != "values"} | dict(entry)
    percent = merged.pop("sigma_percent", None)
    where = f"{path}: {merged.get('quantity')} {merged.get('label', '')} {merged.get('branch', '')}".strip()
    known = {f.name for f in fields(Measurement)}
    for key in merged:
        if key not in known:
            raise UserError(f"unknown key '{key}'", nearest(key, known), where)
    if merged.get("source") not in content["sources"]:
        raise UserError(
            f"source '{merged.get('source')}' is not declared", nearest(merged.get("source"), content["sources"]), where
        )
    merged["source"] = content["sources"][merged["source"]]
    if isinstance(merged.get("value"), int | float) and merged.get("sigma") is None:
        merged["sigma"] = None if percent is None else abs(merged["value"]) * percent / 100
    if "q" not in merged and merged.get("label") in content.get("points", {}):
        merged["q"] = content["points"][merged["label"]]
    if merged.get("q") is not None:
        merged["q"] = tuple(float(x) for x in merged["q"])
    try:
        record = Measurement(material=content["material"], **merged)
    except TypeError as error:
        raise UserError(
            str(error).replace("Measurement.__init__() ", ""), "add it to the entry or its set", where
        ) from error
    _check(record, where)
    return record


def _check(m: Measurement, where: str) -> None:
    for name, value, valid in (
        ("kind", m.kind, KINDS),
        ("quantity", m.quantity, QUANTITIES),
        ("unit", m.unit, UNITS),
        ("grade", m.grade, GRADES),
        ("isotope", m.isotope, tuple(COMPOSITIONS)),
    ):
        if value not in valid:
            raise UserError(f"unknown {name} '{value}'", nearest(value, valid), where)
    if not isinstance(m.value, int | float) or (m.sigma is not None and not m.sigma > 0):
        raise UserError(f"value {m.value!r} with sigma {m.sigma!r}", "give numbers, sigma positive", where)
    if m.quantity == "frequency" and (m.q is None or m.branch not in BRANCHES or m.unit != "cm-1" or m.value <= 0):
        raise UserError(
            "a frequency needs a q-point, a branch and a positive value in cm-1", f"branches: {BRANCHES}", where
        )
    if m.kind in ("experiment", "model_of_experiment") and m.quantity == "frequency" and m.sigma is None:
        raise UserError("a measured frequency without an uncertainty", "give sigma or sigma_percent", where)
    if m.kind in ("experiment", "model_of_experiment") and m.temperature is None:
        raise UserError("a measured value without a temperature", "give temperature, K", where)
    if m.kind == "baseline" and not m.level:
        raise UserError("a baseline without a level of theory", "give level", where)


def _table(content: Mapping[str, Any], table: Mapping[str, Any], path: Path) -> list[Measurement]:
    """Frequencies from a CSV file with columns isotope, qx, qy, qz, branch, thz; `#` begins a comment."""
    source = path.parent / table["file"]
    if not source.is_file():
        raise UserError(f"no such table '{table['file']}'", where=path)
    shared = {k: v for k, v in table.items() if k not in ("file", "isotopes")} | {"unit": "cm-1"}
    names = {tuple(float(x) for x in q): label for label, q in content.get("points", {}).items()}
    records = []
    with source.open() as lines:
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            if row["isotope"] not in table["isotopes"]:
                continue
            q = (float(row["qx"]), float(row["qy"]), float(row["qz"]))
            entry = {
                "isotope": row["isotope"],
                "q": q,
                "label": names.get(q, ""),
                "branch": row["branch"],
                "value": float(row["thz"]) * THZ_TO_CM1,
            }
            records.append(_record(content, shared, entry, source))
    return records


def _is(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple | list) else value == wanted
