"""Force constants against distance: a cutoff shows as an end, charges as a tail that falls with the third power."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mlffx.evaluation.figures.style import CYCLE, DASHES, GREY, legend_below, new_figure, quiet_grid, styled

SMALLEST = 1e-4  # eV/A^2; below it nothing is drawn


def force_constant_decay(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], cutoff: float | None = None) -> Figure:
    """Norm of the force-constant matrices of each shell, on a logarithmic axis.

    Args:
        curves: legend name -> distances [n], A, and norms [n], eV/A^2 (`mlffx.lattice.decay.shell_norms`).
        cutoff: marked, A.
    """
    with styled():
        figure = new_figure(5.0, 3.3)
        axes = figure.subplots()
        for i, (name, (distance, norm)) in enumerate(curves.items()):
            shown = norm > SMALLEST
            style = {"color": CYCLE[i % len(CYCLE)], "linestyle": DASHES[i % len(DASHES)], "marker": "os^Dv"[i % 5]}
            axes.plot(distance[shown], norm[shown], markersize=4.5, label=name, **style)  # type: ignore[arg-type]
        if cutoff is not None:
            axes.axvline(cutoff, color=GREY, linewidth=1.0, linestyle=DASHES[2], label=f"range {cutoff:g} Å")
        axes.set_yscale("log")
        axes.set_xlabel("distance (Å)")
        axes.set_ylabel("|Φ| (eV/Å$^2$)")
        quiet_grid(axes)
        legend_below(figure, [axes])
    return figure
