"""Learning curves: energy error and frequency against the number of labels, with the linear fit as the line to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from mlffx.evaluation.figures.style import BLACK, CYCLE, DASHES, GREY, legend_below, new_figure, quiet_grid, styled
from mlffx.evaluation.uncertainty import over_members


@dataclass(frozen=True)
class LearningPoint:
    """One trained run.

    Attributes:
        n_train: labels it saw.
        energy_mae: held out, meV/atom; None where nothing was held out.
        frequency: of the watched mode, cm-1, with its sigma (None where unknown).
        seed: runs that differ in it alone are averaged.
    """

    n_train: int
    energy_mae: float | None
    frequency: float | None
    sigma: float | None = None
    seed: int = 0


def learning_curves(
    curves: Mapping[str, Sequence[LearningPoint]],
    mode: str = "Γ LTO",
    noise: float | None = None,
    reference: tuple[str, float, float | None] | None = None,
) -> Figure:
    """Held-out energy error and the frequency of one mode against training size; several seeds show as mean and spread.

    Args:
        curves: legend name -> points.
        mode: name of the watched mode.
        noise: noise floor of the labels, meV/atom.
        reference: name, value and sigma (cm-1) of the line to compare with (the linear fit, experiment).
    """
    with styled():
        figure = new_figure(7.2, 3.2)
        error, frequency = figure.subplots(1, 2)
        for i, (name, points) in enumerate(curves.items()):
            style = {"color": CYCLE[i % len(CYCLE)], "linestyle": DASHES[i % len(DASHES)], "marker": "os^Dv"[i % 5]}
            _curve(error, [(p.n_train, p.energy_mae, None) for p in points], name, style)
            _curve(frequency, [(p.n_train, p.frequency, p.sigma) for p in points], name, style)
        if noise is not None:
            error.axhline(noise, color=GREY, linestyle=DASHES[2], label="label noise")
        if reference is not None:
            name, value, sigma = reference
            frequency.axhline(value, color=BLACK, linewidth=1.0, linestyle=DASHES[3], label=name)
            if sigma:
                frequency.axhspan(value - sigma, value + sigma, color=BLACK, alpha=0.10, linewidth=0)
        error.set_yscale("log")
        error.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        error.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        error.yaxis.set_minor_locator(NullLocator())
        error.set_ylabel("held-out energy error (meV/atom)")
        frequency.set_ylabel(f"{mode} (cm$^{{-1}}$)")
        sizes = sorted({p.n_train for points in curves.values() for p in points})
        for axes in (error, frequency):
            axes.set_xscale("log")
            axes.set_xticks(sizes, [str(n) for n in sizes])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("training labels")
            quiet_grid(axes)
        legend_below(figure, [error, frequency])
    return figure


def _curve(axes: Axes, values: Sequence[tuple[int, float | None, float | None]], name: str, style: dict) -> None:
    known = [(n, y, s) for n, y, s in values if y is not None]
    sizes = sorted({n for n, _, _ in known})
    if not sizes:
        return
    mean, spread = [], []
    for size in sizes:
        here = np.array([y for n, y, _ in known if n == size], dtype=float)
        own = np.array([s for n, _, s in known if n == size], dtype=float)
        estimate = over_members(here, own if np.isfinite(own).all() else None)
        mean.append(float(estimate.mean))
        spread.append(float(estimate.sigma))
    bars = np.nan_to_num(np.array(spread), nan=0.0)
    axes.errorbar(sizes, mean, yerr=bars, capsize=2.5, elinewidth=1.0, markersize=4.5, label=name, **style)
