"""Learning curves: errors of energies, forces and phonons against the number of labels, with the linear fit to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a quantity against the number of labels, several seeds at each.

    Attributes:
        values: number of labels -> one value a seed.
        linear: the baseline, drawn black and dotted.
    """

    name: str
    values: Mapping[int, Sequence[float]]
    linear: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        quantity: with its unit.
        curves: lines.
        logarithmic: errors are, frequencies are not.
        level: value of a horizontal line (name, value, sigma): what errors cannot be told from, or a reference.
    """

    quantity: str
    curves: Sequence[Curve]
    logarithmic: bool = True
    level: tuple[str, float, float | None] | None = None


@dataclass(frozen=True)
class Task:
    """One row of panels: what was learned."""

    title: str
    panels: Sequence[Panel] = field(default_factory=list)


def error_curves(tasks: Sequence[Task]) -> Figure:
    """A row a task, a column a quantity; lines are means over seeds, bands the standard deviation of a further seed."""
    columns = max(len(task.panels) for task in tasks)
    names = list(dict.fromkeys(c.name for t in tasks for p in t.panels for c in p.curves))
    with styled():
        figure = new_figure(2.75 * columns + 0.4, 2.5 * len(tasks) + 0.4)
        grid = figure.subplots(len(tasks), columns, squeeze=False)
        for row, task in zip(grid, tasks, strict=True):
            for axes in row[len(task.panels) :]:
                axes.set_axis_off()
            for axes, panel in zip(row, task.panels, strict=False):
                _draw(axes, panel, names)
            row[0].set_title(task.title, loc="left")
        legend_below(figure, [axes for row in grid for axes in row])
    return figure


def _draw(axes: Axes, panel: Panel, names: Sequence[str]) -> None:
    networks = [n for n in names if not any(c.linear and c.name == n for c in panel.curves)]
    for curve in panel.curves:
        sizes = sorted(curve.values)
        estimates = [over_members(np.array(curve.values[n], dtype=float)) for n in sizes]
        mean = np.array([float(e.mean) for e in estimates])
        sigma = np.nan_to_num(np.array([float(e.sigma) for e in estimates]))
        i = networks.index(curve.name) if curve.name in networks else 0
        colour = BLACK if curve.linear else CYCLE[i % len(CYCLE)]
        dash = DASHES[2] if curve.linear else DASHES[0]
        marker = "x" if curve.linear else "os^Dv"[i % 5]
        axes.plot(sizes, mean, color=colour, linestyle=dash, marker=marker, markersize=4.5, label=curve.name)
        low = np.maximum(mean - sigma, mean / 3) if panel.logarithmic else mean - sigma
        axes.fill_between(sizes, low, mean + sigma, color=colour, alpha=0.16, linewidth=0)
    if panel.level is not None:
        name, value, sigma_of = panel.level
        axes.axhline(value, color=GREY, linewidth=1.0, linestyle=DASHES[1], label=name)
        if sigma_of:
            axes.axhspan(value - sigma_of, value + sigma_of, color=GREY, alpha=0.15, linewidth=0)
    if panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(panel.quantity)
    ticks = sorted({n for c in panel.curves for n in c.values})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("training labels")
    quiet_grid(axes)
