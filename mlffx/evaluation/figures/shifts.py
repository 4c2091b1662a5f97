"""Bar chart of what the higher level changes, mode by mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlffx.evaluation.comparison import LABELS
from mlffx.evaluation.figures.style import BLACK, CYCLE, greek, legend_below, new_figure, quiet_grid, styled

Shifts = Mapping[str, Mapping[str, Mapping[str, float | None]]]


def mode_shifts(
    runs: Mapping[str, Shifts],
    low_level: str = "low level",
    labels: Sequence[str] = LABELS,
    colours: Sequence[str] = CYCLE,
) -> Figure:
    """Shift against the low level at the labelled points, one bar a run and mode, with its sigma.

    Args:
        runs: legend name -> {label: {branch: {mean, sigma}}}, cm-1 (`comparison.shifts`).
        low_level: name of what is subtracted.
        colours: one a run, in turn.
        labels: points shown, in this order. Modes that vanish by symmetry (acoustic at GAMMA) are left out.
    """
    first = next(iter(runs.values()))
    modes = [(p, b) for p in labels if p in first for b in first[p] if not (p == "GAMMA" and b[:2] in ("TA", "LA"))]
    with styled():
        figure = new_figure(max(4.5, 0.34 * len(modes) * max(1.0, 0.45 * len(runs)) + 1.6), 3.1)
        axes = figure.subplots()
        width = 0.8 / len(runs)
        for i, (name, run) in enumerate(runs.items()):
            found = [run.get(p, {}).get(b) or {} for p, b in modes]
            mean = np.array([f.get("mean", np.nan) for f in found], dtype=float)
            sigma = np.array([f.get("sigma") for f in found], dtype=float)
            x = np.arange(len(modes)) + (i - (len(runs) - 1) / 2) * width
            axes.bar(x, mean, width * 0.92, color=colours[i % len(colours)], label=name)
            known = np.isfinite(sigma)
            if known.any():
                axes.errorbar(
                    x[known], mean[known], yerr=sigma[known], fmt="none", ecolor=BLACK, elinewidth=1.0, capsize=2.0
                )
        axes.axhline(0, color=BLACK, linewidth=0.8)
        axes.set_xticks(
            range(len(modes)), [b.replace("_", " ") for _, b in modes], rotation=90 if len(modes) > 10 else 0
        )
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(modes) - 0.4)
        axes.set_ylabel(f"shift against {low_level} (cm$^{{-1}}$)")
        quiet_grid(axes)
        _name_points(axes, modes)
        if len(runs) > 1:
            legend_below(figure, [axes])
        else:
            axes.set_title(next(iter(runs)), loc="left", fontweight="bold", pad=18)
    return figure


def _name_points(axes: Axes, modes: Sequence[tuple[str, str]]) -> None:
    """Name of the q-point over its group of bars, a line between the groups."""
    start = 0
    for i in range(1, len(modes) + 1):
        if i == len(modes) or modes[i][0] != modes[start][0]:
            axes.text(
                (start + i - 1) / 2, 1.02, greek(modes[start][0]), transform=axes.get_xaxis_transform(), ha="center"
            )
            if i < len(modes):
                axes.axvline(i - 0.5, color="0.75", linewidth=0.7)
            start = i
