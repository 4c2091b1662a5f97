"""Calculated against measured frequencies, at measured q-points only: the rows of comparison.csv and their scores."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.evaluation.spectra import LabelledPoint, Spectra
from mlffx.evaluation.uncertainty import combine, over_members

ACOUSTIC = ("TA", "LA")
LABELS = ("GAMMA", "X", "L", "W", "K")


@dataclass(frozen=True)
class Measured:
    """One measured frequency at a labelled point.

    Attributes:
        label, branch: as in `LabelledPoint`; a branch may name several degenerate ones (`LA/LO`).
        cm1, sigma_cm1: value and standard uncertainty.
        source: author, year, method.
        isotope: `natural`, `7LiD`...
        temperature_K: of the measurement.
        grade: A read in a source, B computed, C from memory of tables.
        neutron: measured with neutrons, else with light.
        fitted: value of a model that was fitted to the measured points, where these themselves are not tabulated.
        q: fractional, of the primitive reciprocal lattice.
        places: where on the axis of a band path it lies (`measured.place`).
    """

    label: str
    branch: str
    cm1: float
    sigma_cm1: float
    source: str
    isotope: str = "natural"
    temperature_K: float | None = None
    grade: str = ""
    neutron: bool = False
    fitted: bool = False
    q: tuple[float, float, float] | None = None
    places: tuple[float, ...] = ()


@dataclass(frozen=True)
class Row:
    """A line of comparison.csv; None is an empty cell. The field order is the column order other programs rely on."""

    material: str
    isotope: str
    q_label: str
    qx: float
    qy: float
    qz: float
    branch: str
    experiment_cm1: float | None
    experiment_sigma_cm1: float | None
    source: str | None
    low_level_cm1: float | None
    model_cm1: float
    model_sigma_cm1: float | None
    volume_shift_cm1: float | None = None
    anharmonic_shift_cm1: float | None = None

    @property
    def anharmonic_cm1(self) -> float | None:
        """Harmonic frequency with the anharmonic shift."""
        return None if self.anharmonic_shift_cm1 is None else self.model_cm1 + self.anharmonic_shift_cm1

    @property
    def volume_cm1(self) -> float | None:
        """Frequency at the measured lattice constant, with the anharmonic shift where there is one."""
        before = self.model_cm1 + (self.anharmonic_shift_cm1 or 0.0)
        return None if self.volume_shift_cm1 is None else before + self.volume_shift_cm1

    @property
    def optical(self) -> bool:
        return self.branch.split("_")[0] not in ACOUSTIC


COLUMNS = tuple(f.name for f in fields(Row))


def branch_index(point: LabelledPoint, branch: str) -> int | None:
    """Position of a measured branch among the calculated ones; `LA/LO` finds any of `LA`, `LO`, `LA/LO`."""
    wanted = branch.split("/")
    for i, name in enumerate(point.branches):
        have = name.split("/")
        if name == branch or set(wanted) & set(have):
            return i
    base = [name.split("_")[0] for name in point.branches]
    return next((base.index(w) for w in wanted if base.count(w) == 1), None)


def compare(material: str, model: Spectra, low_level: Spectra | None, measured: Sequence[Measured]) -> list[Row]:
    """One row for every branch of every labelled point, and one for each further measurement of the same branch.

    Args:
        model: the evaluated potential.
        low_level: its base, for a delta potential; the masses must be the same.
        measured: every record; those of another isotope than `model.isotope` are left out.
    """
    rows: list[Row] = []
    ordered = [label for label in LABELS if label in model.points] + [p for p in model.points if p not in LABELS]
    for label in ordered:
        point = model.points[label]
        estimate = point.estimate()
        records = [m for m in measured if m.label == label and m.isotope == model.isotope]
        low = low_level.points.get(label) if low_level is not None else None
        for i, branch in enumerate(point.branches):
            here: list[Measured | None] = [m for m in records if branch_index(point, m.branch) == i]
            for record in here or [None]:
                rows.append(
                    Row(
                        material=material,
                        isotope=model.isotope,
                        q_label=label,
                        qx=float(point.q[0]),
                        qy=float(point.q[1]),
                        qz=float(point.q[2]),
                        branch=branch,
                        experiment_cm1=record.cm1 if record else None,
                        experiment_sigma_cm1=record.sigma_cm1 if record else None,
                        source=record.source if record else None,
                        low_level_cm1=low_frequency(low, point, i),
                        model_cm1=float(estimate.mean[i]),
                        model_sigma_cm1=finite(estimate.sigma[i]),
                    )
                )
    return rows


def unmatched(model: Spectra, measured: Sequence[Measured]) -> list[Measured]:
    """Measurements of this isotope that no calculated branch answers to; to be reported, not dropped in silence."""
    return [
        m
        for m in measured
        if m.isotope == model.isotope
        and (m.label not in model.points or branch_index(model.points[m.label], m.branch) is None)
    ]


def low_frequency(low: LabelledPoint | None, point: LabelledPoint, branch: int) -> float | None:
    """Mean frequency of the same branch at the low level; None where the two levels merge branches differently."""
    if low is None or point.branches[branch] not in low.branches:
        return None
    return float(low.frequencies.mean(axis=0)[low.branches.index(point.branches[branch])])


def exact_frequency(exact: Spectra | None, row: Row) -> float | None:
    """True frequency of the branch of a row, where the level is an analytic twin."""
    point = None if exact is None else exact.points.get(row.q_label)
    if point is None or row.branch not in point.branches:
        return None
    return float(point.frequencies.mean(axis=0)[point.branches.index(row.branch)])


def finite(value: Any) -> float | None:
    """None for what is not known."""
    return float(value) if value is not None and np.isfinite(value) else None


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Frequencies with two decimals, q with six; empty cells for what is not known."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_cell(name, getattr(row, name)) for name in COLUMNS])


def read_csv(path: Path) -> list[Row]:
    """The rows `write_csv` wrote."""
    text = {"material", "isotope", "q_label", "branch", "source"}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{k: (v or None) if k in text else float(v) if v else None for k, v in line.items()})  # type: ignore[arg-type]
            for line in csv.DictReader(file)
        ]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}" if name in ("qx", "qy", "qz") else f"{value:.2f}"
    return str(value)


@dataclass(frozen=True)
class Score:
    """Model against experiment over a group of rows, cm-1.

    Attributes:
        n: measured values.
        mae, bias, rmse: of model - experiment; bias keeps the sign.
        chi2: reduced chi-square with the measured sigma only (model taken as exact, nothing fitted: divided by n).
        chi2_total: the same with the sigma of the model added in quadrature.
    """

    n: int
    mae: float
    bias: float
    rmse: float
    chi2: float
    chi2_total: float


def score(rows: Sequence[Row], column: str = "model_cm1") -> Score | None:
    """Score of the measured rows; None when none is measured.

    Args:
        column: `model_cm1` or `low_level_cm1`.
    """
    use = [r for r in rows if r.experiment_cm1 is not None and getattr(r, column) is not None]
    if not use:
        return None
    error = np.array([getattr(r, column) - r.experiment_cm1 for r in use])
    sigma = np.array([r.experiment_sigma_cm1 for r in use], dtype=float)
    model_sigma = np.array([r.model_sigma_cm1 if column == "model_cm1" else None for r in use], dtype=float)
    return Score(
        n=len(use),
        mae=float(np.abs(error).mean()),
        bias=float(error.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        chi2=float(np.mean((error / sigma) ** 2)),
        chi2_total=float(np.mean((error / combine(sigma, model_sigma)) ** 2)),
    )


def score_groups(rows: Sequence[Row]) -> dict[str, dict[str, Score]]:
    """Scores of model and low level: all, acoustic, optical and every branch on its own."""
    groups: dict[str, list[Row]] = {"all": list(rows)}
    groups["acoustic"] = [r for r in rows if not r.optical]
    groups["optical"] = [r for r in rows if r.optical]
    for name in dict.fromkeys(r.branch.split("_")[0] for r in rows):
        groups[name] = [r for r in rows if r.branch.split("_")[0] == name]
    out: dict[str, dict[str, Score]] = {}
    for name, members in groups.items():
        scores = {column.removesuffix("_cm1"): score(members, column) for column in ("model_cm1", "low_level_cm1")}
        if any(scores.values()):
            out[name] = {k: v for k, v in scores.items() if v is not None}
    return out


def frequencies_json(spectra: Spectra) -> dict[str, dict[str, dict[str, float | None]]]:
    """`{label: {branch: {mean, sigma}}}`, cm-1; sigma is null where nothing is known about it."""
    out: dict[str, dict[str, dict[str, float | None]]] = {}
    for label, point in spectra.points.items():
        e = point.estimate()
        out[label] = {
            b: {"mean": round(float(m), 3), "sigma": None if finite(s) is None else round(float(s), 3)}
            for b, m, s in zip(point.branches, e.mean, e.sigma, strict=True)
        }
    return out


def shifts(model: Spectra, low_level: Spectra) -> dict[str, dict[str, dict[str, float | None]]]:
    """Model minus low level, member by member where both have the same members, so that what they share cancels."""
    out: dict[str, dict[str, dict[str, float | None]]] = {}
    for label, point in model.points.items():
        low = low_level.points.get(label)
        if low is None:
            continue
        out[label] = {}
        for i, branch in enumerate(point.branches):
            if branch not in low.branches:
                continue
            below = low.frequencies[:, low.branches.index(branch)]
            paired = point.frequencies[:, i] - (below if len(below) == len(point.frequencies) else below.mean())
            e = over_members(paired)
            out[label][branch] = {"mean": round(float(e.mean), 3), "sigma": finite(np.round(e.sigma, 3))}
    return out
