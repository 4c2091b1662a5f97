"""Active learning drawn: error of the phonons against the number of labels, for each way to choose them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from mlffx.evaluation.figures.style import CYCLE, DASHES, new_figure, quiet_grid, styled

NAMES = {
    "random": "at random",
    "stratified": "evenly over amplitudes",
    "energy": "doubt about energies",
    "phonons": "doubt about force constants",
}


def active_curves(sizes: Sequence[int], errors: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Medians over repetitions with the middle 68 % shaded.

    Args:
        sizes: numbers of labels.
        errors: strategy -> [n_repetitions, n_sizes], cm-1.
    """
    with styled():
        figure = new_figure(4.8, 3.4)
        axes = figure.subplots()
        for k, (strategy, values) in enumerate(errors.items()):
            color = CYCLE[k % len(CYCLE)]
            low, middle, high = np.percentile(values, [16, 50, 84], axis=0)
            axes.fill_between(sizes, low, high, color=color, alpha=0.15, linewidth=0)
            name = NAMES.get(strategy, strategy)
            axes.plot(sizes, middle, color=color, linestyle=DASHES[k % len(DASHES)], marker="os^D"[k % 4], label=name)
            axes.lines[-1].set_markersize(4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(list(sizes), [str(n) for n in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("labels")
        axes.set_ylabel("rms error of frequencies (cm$^{-1}$)")
        axes.set_title(title)
        quiet_grid(axes)
        axes.legend()
    return figure
