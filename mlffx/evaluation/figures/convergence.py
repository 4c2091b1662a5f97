"""Convergence: of phonons with displacement, supercell and mesh; of dynamics with time step and length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mlffx.dynamics.convergence import LengthError, TimeStepError
from mlffx.evaluation.figures.style import (
    BLACK,
    BLUE,
    CYCLE,
    DASHES,
    GREY,
    greek,
    legend_below,
    new_figure,
    quiet_grid,
    styled,
)
from mlffx.lattice.convergence import Convergence

AXES = {
    "displacement": "displacement (Å)",
    "supercell": "conventional cells along each axis",
    "mesh": "q-points along each axis",
}
FLOOR = 1e-4  # cm-1 or meV/atom; smaller deviations are rounding


def phonon_convergence(studies: Sequence[Convergence], used: dict[str, float]) -> Figure:
    """Deviation from the limit against each setting; the setting the evaluation used is marked.

    Args:
        studies: of displacement, supercell and mesh; a panel each.
        used: setting -> value of the evaluation, where it can be shown on the axis.
    """
    with styled():
        figure = new_figure(2.6 * len(studies) + 0.3, 3.3)
        panels = np.atleast_1d(figure.subplots(1, len(studies)))
        for axes, study in zip(panels, studies, strict=True):
            _deviations(axes, study)
            if study.setting in used:
                axes.axvline(used[study.setting], color=GREY, linestyle=DASHES[2], linewidth=1.0, label="used here")
            axes.set_yscale("log")
            axes.set_xlabel(AXES[study.setting])
            quiet_grid(axes)
        panels[0].set_ylabel("largest deviation (cm$^{-1}$)")
        for axes, study in zip(panels, studies, strict=True):
            if study.setting == "mesh":
                axes.set_ylabel("zero-point energy (meV/atom)")
        legend_below(figure, list(panels))
    return figure


def _deviations(axes: Axes, study: Convergence) -> None:
    """Largest deviation at each labelled point; the limit itself, which deviates by nothing, is left out."""
    x = np.array(study.values)
    labels = list(dict.fromkeys(name.split(" ")[0] for name in study.frequencies))
    for i, label in enumerate(labels):
        mine = [n for n in study.frequencies if n.split(" ")[0] == label]
        off = np.max([np.abs(study.frequencies[n] - study.best[n]) for n in mine], axis=0)
        shown = (off > 0) | (x < x.max())
        whole = study.setting == "mesh"
        axes.plot(
            x[shown],
            np.maximum(off[shown], FLOOR),
            marker="os^Dv"[i % 5],
            markersize=4.5,
            color=BLACK if whole else CYCLE[i % len(CYCLE)],
            linestyle=DASHES[i % len(DASHES)],
            label="zero-point energy" if whole else greek(label),
        )
    if study.setting == "displacement":
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(x, [f"{value:g}" for value in x])


def dynamics_convergence(steps: Sequence[TimeStepError], lengths: Sequence[LengthError], used: float) -> Figure:
    """Energy conservation against the time step, and the density of states against the length of the run.

    Args:
        steps: NVE runs; lengths: first parts of the production.
        used: time step of the run, fs.
    """
    with styled():
        figure = new_figure(6.4, 3.1)
        left, right = figure.subplots(1, 2)
        dt = np.array([s.time_step for s in steps])
        order = np.argsort(dt)
        fluctuation = np.array([s.fluctuation for s in steps])
        drift = np.array([s.drift for s in steps])
        left.plot(dt[order], fluctuation[order], "o-", color=BLUE, label="fluctuation of the energy")
        left.plot(dt[order], drift[order], "s", color=CYCLE[1], linestyle=DASHES[1], label="its drift")
        guide = fluctuation[order][-1] * (dt[order] / dt.max()) ** 2
        left.plot(dt[order], guide, color=BLACK, linewidth=0.8, label="square of the time step")
        left.axvline(used, color=GREY, linestyle=DASHES[2], linewidth=1.0, label="used here")
        left.set_xscale("log")
        left.set_yscale("log")
        left.set_xticks(dt[order], [f"{x:g}" for x in dt[order]])
        left.minorticks_off()
        left.set_xlabel("time step (fs)")
        left.set_ylabel("energy (meV/atom)")
        ps = [e.production for e in lengths]
        right.errorbar(
            ps,
            [e.mean - lengths[-1].mean for e in lengths],
            [e.sigma for e in lengths],
            fmt="o-",
            capsize=2.5,
            color=CYCLE[2],
            label="mean frequency",
        )
        right.axhline(0, color=BLACK, linewidth=0.8)
        right.set_xlabel("production of each replica (ps)")
        right.set_ylabel("against the whole run (cm$^{-1}$)")
        for axes in (left, right):
            quiet_grid(axes)
        legend_below(figure, [left, right])
    return figure
