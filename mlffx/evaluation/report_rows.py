"""Rows of the tables on the page of an evaluation: frequencies beside measurements, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from mlffx.evaluation.comparison import Row, exact_frequency, finite
from mlffx.evaluation.figures.style import greek
from mlffx.evaluation.labelled_cell import MARK
from mlffx.evaluation.spectra import Spectra

if TYPE_CHECKING:
    from mlffx.evaluation.report import Page


def frequency_rows(page: Page, sources: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each named mode, and one below it for a measurement with the anharmonic shift removed."""
    out: list[dict[str, Any]] = []
    previous = ("", "")
    rows = _worth_a_row(page.rows)
    low = next((s for s, _, _ in page.series if s.name == page.low_name), None)
    for row, following in zip_longest(rows, rows[1:]):
        here = (row.isotope, row.q_label)
        label = greek(row.q_label) if row.isotope == "natural" else f"{greek(row.q_label)} {row.isotope}"
        label += f" {MARK}" if row.q_label in page.lacking else ""
        model = {"branch": row.branch.replace("_", " "), "model": with_sigma(row.model_cm1, row.model_sigma_cm1)}
        model |= {k: _plain_number(getattr(row, f"{k}_cm1")) for k in ("anharmonic", "volume")}
        model["low"] = "" if row.low_level_cm1 is None else with_sigma(row.low_level_cm1, _low_sigma(low, row))
        model["exact"] = "" if (true := exact_frequency(page.exact, row)) is None else f"{true:.1f}"
        spread = page.form.get(row.q_label, {}).get(row.branch) if row.isotope == "natural" else None
        model["form"] = "" if spread is None else f"{spread:.1f}"
        measured = _held_against(row, row.experiment_cm1, row.experiment_sigma_cm1, row.source, sources)
        out.append(model | measured | {"label": label, "first": here != previous, "harmonic": False})
        previous = here
        if following is None or (following.q_label, following.branch) != (row.q_label, row.branch):
            for m in page.harmonic:
                if (m.isotope, m.label, m.branch) == (*here, row.branch):
                    measured = _held_against(row, m.cm1, m.sigma_cm1, m.source, sources)
                    branch = f"{model['branch']}, harmonic"
                    out.append(model | measured | {"label": "", "first": False, "harmonic": True, "branch": branch})
    return out


def score_rows(page: Page) -> list[dict[str, Any]]:
    """A row for each group of measurements and column of the table."""
    names = {"model": page.model_name, "low_level": page.low_name}
    return [
        {"first": i == 0, "group": group, "method": names[column]}
        | vars(score)
        | {"chi2_text": _short(score.chi2), "chi2_total_text": _short(score.chi2_total) if column == "model" else ""}
        for group, columns in page.scores.items()
        for i, (column, score) in enumerate(columns.items())
    ]


def with_sigma(value: float, sigma: float | None) -> str:
    """`1367.5 ± 3.1`; one decimal everywhere, so that columns line up."""
    return f"{value:.1f}" + ("" if sigma is None or np.isnan(sigma) else f" ± {sigma:.1f}")


def _worth_a_row(rows: Sequence[Row]) -> list[Row]:
    """Without unmeasured points of other isotopes, which comparison.csv has."""
    measured = {(r.isotope, r.q_label) for r in rows if r.experiment_cm1 is not None}
    return [r for r in rows if r.isotope == rows[0].isotope or (r.isotope, r.q_label) in measured]


def _low_sigma(low: Spectra | None, row: Row) -> float | None:
    """Sigma of the low level, with the masses its spectra were made with."""
    point = None if low is None or low.isotope != row.isotope else low.points.get(row.q_label)
    if point is None or row.branch not in point.branches:
        return None
    return finite(point.estimate().sigma[point.branches.index(row.branch)])


def _held_against(
    row: Row, value: float | None, sigma: float | None, source: str | None, sources: Sequence[str]
) -> dict[str, str]:
    """Cells of one measurement; empty where there is none."""
    if value is None:
        return {"experiment": "", "error": "", "source": ""}
    number = f"[{sources.index(source) + 1}]" if source else ""
    return {"experiment": with_sigma(value, sigma), "error": f"{row.model_cm1 - value:+.1f}", "source": number}


def _plain_number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
