"""One look for every figure: Okabe-Ito colours, direct axes, PDF for papers and PNG for screens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito, Color Universal Design (2008): told apart with every common colour-vision deficiency.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#7A7A7A"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))

_RC: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text in the PDF
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """The project's look, without touching the caller's matplotlib settings."""
    with matplotlib.rc_context(_RC):
        yield


def legend_below(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend under the figure for several axes, each name once, in as many columns as fit its width."""
    handles: dict[str, Any] = {}
    for a in axes:
        for handle, label in zip(*a.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        names = list(handles)
        letters = 12.5 * figure.get_figwidth()  # how many go on a line at the legend's size
        columns = int(letters // (max(map(len, names)) + 9))
        figure.legend(
            list(handles.values()),
            names,
            loc="outside lower center",
            ncols=max(1, min(columns, len(names))),
            handlelength=2.2,
        )


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches without pyplot's global state: usable from threads and never shown by accident."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem.pdf` and `stem.png`; returns the two paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + ".pdf"), stem.with_name(stem.name + ".png")]
    with styled():
        for path in paths:
            # no creation date in the PDF: the same numbers give the same bytes
            figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    return paths


def greek(label: str) -> str:
    """Tick label of a seekpath name: GAMMA -> Γ, `U|K` as it is, SIGMA_0 -> Σ0."""
    names = {"GAMMA": "Γ", "SIGMA": "Σ", "DELTA": "Δ", "LAMBDA": "Λ"}
    parts = []
    for part in label.split("|"):
        base, _, index = part.partition("_")
        parts.append(names.get(base, base) + (f"$_{{{index}}}$" if index else ""))
    return "|".join(parts)


def quiet_grid(axes: Axes, axis: str = "y") -> None:
    """A grid that helps reading values and is not seen otherwise."""
    axes.grid(axis=axis, color="0.9", linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
