"""Reliability of error bars: how many truths lie within intervals of every nominal level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from mlffx.evaluation.figures.style import BLACK, CYCLE, DASHES, GREY, legend_below, new_figure, quiet_grid, styled

MARKED = (0.68, 0.90)


def coverage(z: Mapping[str, np.ndarray]) -> Figure:
    """Observed share against nominal level; on the diagonal bars are honest, below it too short.

    Args:
        z: legend name -> (value - truth) / sigma, [n].
    """
    levels = np.linspace(0.02, 0.98, 49)
    with styled():
        figure = new_figure(3.9, 4.1)
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=BLACK, linewidth=0.8, label="honest")
        for level in MARKED:
            axes.axvline(100 * level, color=GREY, linewidth=0.7, linestyle=DASHES[2])
        for i, (name, scores) in enumerate(z.items()):
            inside = np.abs(scores)[None] <= stats.norm.ppf(0.5 + levels / 2)[:, None]
            axes.plot(
                100 * levels,
                100 * inside.mean(axis=1),
                color=CYCLE[i % len(CYCLE)],
                linestyle=DASHES[i % len(DASHES)],
                label=name,
            )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_aspect("equal")
        axes.set_xlabel("nominal level (%)")
        axes.set_ylabel("truths within the interval (%)")
        quiet_grid(axes, "both")
        legend_below(figure, [axes])
    return figure
