"""Harmonic densities of states of several potentials over each other, whole and per element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mlffx.evaluation.figures.style import CYCLE, DASHES, legend_below, new_figure, quiet_grid, styled
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import over_members


def densities_of_states(spectra: Sequence[Spectra], title: str = "") -> Figure:
    """One panel for the whole and, where there are several elements, one for each; bands: one sigma.

    Args:
        spectra: of the same crystal, with the same masses.
    """
    elements = list(spectra[0].element_dos)
    panels = ["total", *elements] if len(elements) > 1 else ["total"]
    with styled():
        figure = new_figure(6.8, 1.3 + 1.45 * len(panels))
        axes = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
        for panel, axis in zip(panels, axes, strict=True):
            for i, s in enumerate(spectra):
                values = s.dos if panel == "total" else s.element_dos[panel]
                e, color = over_members(values), CYCLE[i % len(CYCLE)]
                dash = DASHES[(i // len(CYCLE)) % len(DASHES)]
                axis.plot(s.grid, e.mean, color=color, linestyle=dash, linewidth=1.2, label=s.name)
                if np.isfinite(e.sigma).any():
                    low, high = np.maximum(e.mean - e.sigma, 0), e.mean + e.sigma
                    axis.fill_between(s.grid, low, high, color=color, alpha=0.18, linewidth=0)
            axis.set_ylim(0, None)
            axis.set_ylabel("states per cm$^{-1}$")
            axis.text(0.01, 0.93, "all atoms" if panel == "total" else panel, transform=axis.transAxes, va="top")
            quiet_grid(axis)
        axes[-1].set_xlim(0, max(float(s.grid[-1]) for s in spectra))
        axes[-1].set_xlabel("frequency (cm$^{-1}$)")
        if title:
            axes[0].set_title(title, loc="left", fontweight="bold")
        legend_below(figure, list(axes))
    return figure
