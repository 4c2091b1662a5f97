"""The settling test drawn: shifts of forces and of frequencies, predicted against true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlffx.data.levels import level_name
from mlffx.evaluation.figures.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    greek,
    legend_below,
    new_figure,
    quiet_grid,
    styled,
)

if TYPE_CHECKING:
    from mlffx.evaluation.settle import Comparison, Settlement


def settle_figure(found: Settlement) -> Figure:
    """Left: force shifts along every direction; right: frequencies of every frozen mode."""
    panels = [p for p in (found.forces, found.modes) if p is not None]
    with styled():
        figure = new_figure(3.6 * len(panels), 3.3)
        axes = np.atleast_1d(figure.subplots(1, len(panels)))
        for axis, comparison in zip(axes, panels, strict=True):
            if comparison is found.forces:
                _forces(axis, comparison, found)
            else:
                _modes(axis, comparison, found)
        legend_below(figure, list(axes))
    return figure


def _forces(axes: Axes, c: Comparison, found: Settlement) -> None:
    true, predicted = 1e3 * c.shift, 1e3 * c.predicted_shift
    axes.errorbar(
        true,
        predicted,
        xerr=1e3 * c.shift_noise,
        yerr=1e3 * np.nan_to_num(c.shift_sigma),
        fmt="o",
        markersize=3.2,
        elinewidth=0.8,
        color=BLUE,
        label="predicted",
    )
    edge = 1.08 * max(float(np.abs(true).max()), float(np.abs(predicted).max()))
    axes.plot([-edge, edge], [-edge, edge], color=BLACK, linewidth=0.8)
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
    what = _shift(found)
    axes.set_xlabel(f"force, {what}, true (meV/Å)")
    axes.set_ylabel("predicted (meV/Å)")


def _modes(axes: Axes, c: Comparison, found: Settlement) -> None:
    x = np.arange(len(c.names))
    base = np.zeros(len(x)) if c.low is None else c.low
    axes.errorbar(x - 0.1, c.high - base, yerr=c.high_noise, fmt="s", markersize=5, color=VERMILION, label="true")
    axes.errorbar(
        x + 0.1,
        c.predicted_shift,
        yerr=np.nan_to_num(c.shift_sigma),
        fmt="o",
        markersize=4.5,
        capsize=2.5,
        color=BLUE,
        label="predicted",
    )
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_xticks(x, [" ".join([greek(n.split()[0]), n.split()[1]]) for n in c.names])
    axes.set_ylabel(f"frequency, {_shift(found)} (cm$^{{-1}}$)")
    axes.margins(x=0.12)
    quiet_grid(axes)


def _shift(found: Settlement) -> str:
    high = level_name(found.high.upper())
    return high if found.low is None else f"{high} − {level_name(found.low.upper())}"
