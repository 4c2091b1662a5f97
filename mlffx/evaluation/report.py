"""report.html: one self-contained page with the whole story of an evaluation, from the labels to the commands."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mlffx.evaluation.answer import QUESTION
from mlffx.evaluation.comparison import Measured, Row, Score
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.figures.dispersion import aligned
from mlffx.evaluation.figures.style import BLACK, CYCLE, GREY, greek
from mlffx.evaluation.report_rows import frequency_rows, score_rows
from mlffx.evaluation.spectra import Spectra
from mlffx.units import THZ_TO_CM1, THZ_TO_MEV

SIGMA_MEANING = {
    "single": "One potential without an ensemble has no sigma: train with ensemble=4 to get one.",
    "ensemble": "± is one standard deviation over the members of the ensemble, with the factor of Student's t for few.",
    "posterior": "± is one standard deviation over draws from the posterior of the least-squares fit.",
    "ensemble and posterior": (
        "± is one standard deviation over draws from the posteriors of the least-squares fits of all members."
    ),
}
SHARED = "It does not contain what all share: supercell, lattice constant, form of the model, harmonic approximation."


@dataclass(frozen=True)
class Tile:
    """A number at the head of the page."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class PageFigure:
    """A figure file (PNG) with its caption; width in pixels of the page."""

    title: str
    caption: str
    path: Path
    width: int

    @property
    def data(self) -> str:
        return data_uri(self.path)


@dataclass(frozen=True)
class PageFile:
    """A file of numbers, embedded for download."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def data(self) -> str:
        return data_uri(self.path)


@dataclass(frozen=True)
class PageTable:
    """A table of its own, its first column left-aligned, with a caption; a study's page unfolds it where `open`."""

    title: str
    caption: str
    heads: list[str]
    rows: list[list[str]]
    open: bool = False


@dataclass
class Page:
    """Everything on the page; lists may be empty.

    Attributes:
        title, subtitle: what this is about.
        tiles: numbers at the head, the most important first.
        answer: to the question whether the labels shift the phonons or the smoothness of the model; may be empty.
        lacking: labelled points the cells of the labels do not hold, marked in the table; cell_notes: what that means.
        warnings: what a reader must not overlook (imaginary modes, missing sigma, unmatched measurements).
        summary_heads, summary: table of several runs, in place of `rows`.
        exact: true phonons of an analytic twin, a column of the table.
        form: spread over forms of the model, label -> branch -> cm-1, a column of the table where there is any.
        spread_from: where sigma comes from, a key of SIGMA_MEANING.
        training, protocol: (name, value) in the order shown.
        verdicts: of the controls.
        rows: of comparison.csv.
        scores: group -> column -> score.
        low_name, model_name: column heads; low_name None for a direct potential.
        harmonic: measured values with the anharmonic shift removed, shown below the raw ones.
        hashes: (file, git blob id) of the labels.
        tables: further tables, below that of the frequencies.
        shift_notes: captions of the columns +anharmonic and +volume, which are there where any row has a shift.
        notes: isotope, temperature, lattice constant, what is included, above the table.
        series: spectra to draw, with their colours; the first is the reference for the axis.
        measured: for the interactive dispersion.
        figures, files, texts: further figures, downloads, (title, text) to unfold.
        commands: that reproduce the page.
    """

    title: str
    subtitle: str
    tiles: list[Tile]
    rows: Sequence[Row]
    model_name: str
    low_name: str | None
    series: list[tuple[Spectra, str, str]]
    measured: Sequence[Measured]
    answer: str = ""
    lacking: Sequence[str] = ()
    cell_notes: Sequence[str] = ()
    summary_heads: list[str] = field(default_factory=list)
    summary: list[list[str]] = field(default_factory=list)
    exact: Spectra | None = None
    form: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    spread_from: str = "single"
    training: list[tuple[str, str]] = field(default_factory=list)
    protocol: list[tuple[str, str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    scores: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    harmonic: Sequence[Measured] = ()
    hashes: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shift_notes: Sequence[str] = ()
    figures: list[PageFigure] = field(default_factory=list)
    files: list[PageFile] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def write_report(page: Page, path: Path) -> None:
    """Render the page; it needs neither network nor other files."""
    templates = files("mlffx.evaluation") / "templates"
    text = {
        name: (templates / name).read_text(encoding="utf-8") for name in ("report.html.j2", "report.css", "report.js")
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(text["report.html.j2"]).render(
        page=_view(page),
        css=Markup(text["report.css"]),
        js=text["report.js"],
        payload=payload(page.series, page.measured),
    )
    path.write_text(html, encoding="utf-8")


def colours(
    model: Sequence[Spectra], low_level: Spectra | None, exact: Spectra | None = None
) -> list[tuple[Spectra, str, str]]:
    """(spectra, colour, SVG dash pattern), the same colours as in the static figures."""
    lines = [(s, CYCLE[i % len(CYCLE)], "" if i < len(CYCLE) else "7 3") for i, s in enumerate(model)]
    lines += [(low_level, GREY, "6 4")] if low_level is not None else []
    return lines + ([(exact, BLACK, "2 3")] if exact is not None else [])


def _view(page: Page) -> dict[str, Any]:
    """What the template reads."""
    sources = list(dict.fromkeys(x for x in [*(r.source for r in page.rows), *(m.source for m in page.harmonic)] if x))
    return vars(page) | {
        "rows": frequency_rows(page, sources),
        "sources": sources,
        "scores": score_rows(page),
        "question": QUESTION,
        "has_low": page.low_name is not None,
        "has_exact": page.exact is not None,
        "has_form": bool(page.form),
        "has_anharmonic": any(r.anharmonic_cm1 is not None for r in page.rows),
        "has_volume": any(r.volume_cm1 is not None for r in page.rows),
        "n_members": page.series[0][0].n_members,
        "sigma_meaning": SIGMA_MEANING[page.spread_from] + ("" if page.spread_from == "single" else f" {SHARED}"),
    }


def payload(series: Sequence[tuple[Spectra, str, str]], measured: Sequence[Measured]) -> str:
    """Numbers of an interactive figure as JSON that cannot end the script element early.

    Args:
        series: spectra with their colours and dashes; the first is the reference for the axis.
    """
    reference = series[0][0].path
    data = {
        "thz": THZ_TO_CM1,
        "mev": THZ_TO_MEV,
        "ticks": [[round(x, 5), greek(label)] for x, label in reference.ticks],
        "series": [_series(s, colour, dash, reference, band=colour not in (GREY, BLACK)) for s, colour, dash in series],
        "measured": [
            {
                "cm1": m.cm1,
                "sigma": float(np.nan_to_num(m.sigma_cm1)),
                "neutron": m.neutron,
                "places": [round(x, 5) for x in m.places or reference.places(m.label)],
            }
            for m in measured
        ],
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def _series(s: Spectra, colour: str, dash: str, reference: Any, band: bool) -> dict[str, Any]:
    bands, dos = s.band_estimate(), s.dos_estimate()
    at = ["" for _ in s.path.distance]
    branch: list[list[str] | None] = [None for _ in s.path.distance]
    for i, q in enumerate(s.path.q):
        for label, point in s.points.items():
            if np.abs(q - point.q).max() < 1e-6:
                at[i], branch[i] = greek(label), _mode_names(point.branches, point.estimate().mean, bands.mean[i])
    known = bool(np.isfinite(bands.sigma).all())
    return {
        "name": s.name,
        "color": colour,
        "dash": dash,
        "band": band,
        "segments": s.path.segments,
        "x": _round(aligned(s.path, reference), 5),
        "q": _round(s.path.q, 4),
        "mean": _round(bands.mean, 2),
        "sigma": _round(bands.sigma, 2) if known else None,
        "at": at,
        "branch": branch,
        "grid": _round(s.grid, 2),
        "dos": _round(dos.mean, 6),
    }


def _mode_names(branches: Sequence[str], named: np.ndarray, frequencies: np.ndarray) -> list[str]:
    """Name of each mode at a labelled point: that of the nearest named frequency, if it is near."""
    nearest = [int(np.abs(named - f).argmin()) for f in frequencies]
    return [branches[k] if abs(named[k] - f) < 1.0 else "" for k, f in zip(nearest, frequencies, strict=True)]


def _round(array: np.ndarray, digits: int) -> Any:
    return np.round(np.asarray(array, dtype=float), digits).tolist()


def data_uri(path: Path) -> str:
    """The file inside a link."""
    kinds = {".svg": "image/svg+xml", ".png": "image/png", ".csv": "text/csv", ".json": "application/json"}
    kind = kinds.get(path.suffix, "text/plain")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested mappings as (dotted name, text)."""
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}: ")
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(f"({_text(v)})" if isinstance(v, list | tuple) else _text(v) for v in value)
    return str(value)
