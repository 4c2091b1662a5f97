"""What the settling test found, in one word, one sentence, and numbers for programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlffx.data.levels import level_name
from mlffx.evaluation.controls import Verdict, Word
from mlffx.evaluation.settle import SEEN, Comparison, Settlement

TITLE = "Finite differences of the high level settle it"
PASS_EXPLAINED, FAIL_EXPLAINED = 0.8, 0.5  # of the mean square of the shift, label noise taken off
PASS_Z, FAIL_Z = 2.0, 4.0  # root mean square of (predicted - true) / sigma
ROW = ("high", "high_noise", "predicted", "sigma", "low", "base", "shift", "shift_noise")
MISSED = ("predicted_shift", "shift_sigma", "missed")


def verdict(found: Settlement) -> Verdict:
    """Pass where the prediction explains the shift within its error bars, for forces and for frequencies."""
    high = level_name(found.high.upper())
    shift = f"{high} - {level_name(found.low.upper())}" if found.low else high
    words: list[Word] = []
    parts: list[str] = []
    for kind, comparison, factor, unit in (
        ("forces", found.forces, 1e3, "meV/Å"),
        ("frequencies", found.modes, 1.0, "cm⁻¹"),
    ):
        if comparison is None:
            continue
        words.append(_word(comparison))
        size, missed = (factor * float(np.sqrt(np.mean(x**2))) for x in (comparison.shift, comparison.missed))
        text = f"{len(comparison.names)} {kind}: {shift} is {size:.1f} {unit} rms, missed by {missed:.1f}"
        text += f" ({100 * comparison.explained:.0f} % explained, slope {comparison.recovered:.2f}"
        parts.append(text + (f", rms z {comparison.rms_z:.1f})" if np.isfinite(comparison.rms_z) else ", no sigma)"))
    if found.nearest is not None and found.nearest < SEEN:
        words.append("inconclusive")
        parts.append("the run was trained on a structure of this test")
    word: Word = "fail" if "fail" in words else "inconclusive" if "inconclusive" in words else "pass"
    return Verdict("settle", TITLE, word, "; ".join(parts), summary(found))


def _word(c: Comparison) -> Word:
    if not c.visible:
        return "inconclusive"
    if c.explained < FAIL_EXPLAINED or c.rms_z > FAIL_Z:
        return "fail"
    return "pass" if c.explained >= PASS_EXPLAINED and c.rms_z <= PASS_Z else "inconclusive"


def summary(found: Settlement) -> dict[str, Any]:
    """Numbers for programs; units in the names."""
    numbers: dict[str, Any] = {
        "high": found.high,
        "low": found.low,
        "label_noise_meV": 1e3 * found.noise,
        "label_noise_from": found.noise_from,
        "difference_noise_meV": 1e3 * found.difference_noise,
        "truncation_meV_per_A": 1e3 * found.truncation,
        "nearest_training_structure_A": found.nearest,
        "sigma_scale": found.scale,
        "labels": found.labels.source,
    }
    for kind, c in (("forces", found.forces), ("frequencies", found.modes)):
        if c is not None:
            numbers[kind] = {
                "n": len(c.names),
                "explained": c.explained,
                "recovered_slope": c.recovered,
                "rms_z": c.rms_z,
                "chi2": float((c.z**2).sum()),
                "rows": _mode_rows(c) if kind == "frequencies" else _force_rows(c),
            }
    return numbers


def _mode_rows(c: Comparison) -> list[dict[str, Any]]:
    """Every frequency, cm-1; None where there is nothing."""
    return [{"name": name} | {k: _number(getattr(c, k), i) for k in (*ROW, *MISSED)} for i, name in enumerate(c.names)]


def _force_rows(c: Comparison) -> list[dict[str, Any]]:
    """Root mean squares over the directions of each configuration, meV/A; and of what the prediction misses."""
    numbers = [name.split(":")[0] for name in c.names]
    rows = []
    for number in sorted(set(numbers), key=int):
        own = np.array([n == number for n in numbers])
        row: dict[str, Any] = {"name": f"configuration {number}, {own.sum()} forces"}
        for key in ("high", "predicted", "low", "base", "shift", "shift_noise", "predicted_shift", "missed"):
            values = getattr(c, key)
            row[key] = None if values is None else _number(1e3 * np.sqrt(np.mean(values[own] ** 2)))
        rows.append(row)
    return rows


def _number(values: np.ndarray | float | None, i: int | None = None) -> float | None:
    value = values if i is None or values is None else np.asarray(values)[i]
    return None if value is None or not np.isfinite(value) else float(value)
