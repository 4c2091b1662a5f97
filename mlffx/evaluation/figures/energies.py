"""Energies: predicted against labelled differences, and what is left over against the displacement amplitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from mlffx.evaluation.figures.style import BLACK, BLUE, GREY, VERMILION, legend_below, new_figure, quiet_grid, styled


@dataclass(frozen=True)
class EnergyResiduals:
    """Labels and predictions of one set of structures.

    Attributes:
        label, prediction: energies (or differences between two levels), meV/atom, [n_structures].
        amplitude: rms displacement of the atoms from their sites, A, [n_structures].
        held_out: True where the structure took no part in the fit, [n_structures].
        noise: noise of the labels as estimated from the data alone, meV/atom; None where unknown.
    """

    label: np.ndarray
    prediction: np.ndarray
    amplitude: np.ndarray
    held_out: np.ndarray
    noise: float | None = None

    @property
    def residual(self) -> np.ndarray:
        return self.prediction - self.label

    def mae(self, held_out: bool) -> float:
        """Mean absolute error of one part, meV/atom; NaN where that part is empty."""
        chosen = self.residual[self.held_out == held_out]
        return float(np.abs(chosen).mean()) if len(chosen) else float("nan")


def parity(data: EnergyResiduals, quantity: str = "energy difference") -> Figure:
    """Prediction against label, the mean of the labels taken off both (only differences of energies have a meaning)."""
    with styled():
        figure = new_figure(3.9, 3.7)
        axes = figure.subplots()
        centre = data.label.mean()
        x, y = data.label - centre, data.prediction - centre
        reach = 1.06 * max(np.abs(x).max(), np.abs(y).max())
        axes.plot([-reach, reach], [-reach, reach], color=BLACK, linewidth=0.8, zorder=1)
        for held_out, color, marker, name in ((False, GREY, "o", "fitted"), (True, VERMILION, "D", "held out")):
            chosen = data.held_out == held_out
            if chosen.any():
                text = f"{name}: {data.mae(held_out):.3f} meV/atom"
                axes.plot(
                    x[chosen], y[chosen], marker, color=color, markersize=3.6, alpha=0.8, linestyle="", label=text
                )
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.set_xlabel(f"label, {quantity} (meV/atom)")
        axes.set_ylabel("prediction (meV/atom)")
        axes.legend(loc="upper left", title="mean absolute error", title_fontsize=8.5, handletextpad=0.2)
        quiet_grid(axes, "both")
    return figure


def residual_against_amplitude(data: EnergyResiduals, n_bins: int = 6) -> Figure:
    """Residuals against rms displacement with their running rms and the noise floor of the labels.

    A residual that grows with amplitude is a missing anharmonic term; one that stays at the floor is label noise.
    """
    with styled():
        figure = new_figure(5.0, 3.3)
        axes = figure.subplots()
        if data.noise is not None:
            axes.axhspan(
                -data.noise, data.noise, color=BLUE, alpha=0.13, linewidth=0, label=f"label noise ±{data.noise:.3f}"
            )
        axes.axhline(0, color=BLACK, linewidth=0.8)
        for held_out, color, marker, name in ((False, GREY, "o", "fitted"), (True, VERMILION, "D", "held out")):
            chosen = data.held_out == held_out
            if chosen.any():
                axes.plot(
                    data.amplitude[chosen],
                    data.residual[chosen],
                    marker,
                    color=color,
                    markersize=3.4,
                    alpha=0.75,
                    linestyle="",
                    label=name,
                )
        part = data.held_out if data.held_out.sum() >= 3 * n_bins else np.ones_like(data.held_out)
        centres, rms = running_rms(data.amplitude[part], data.residual[part], n_bins)
        for sign in (1, -1):
            axes.plot(
                centres, sign * rms, color=BLACK, linewidth=1.4, label="running rms" if sign > 0 else "_nolegend_"
            )
        axes.set_xlabel("rms displacement (Å)")
        axes.set_ylabel("residual (meV/atom)")
        quiet_grid(axes)
        legend_below(figure, [axes])
    return figure


def running_rms(x: np.ndarray, residual: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Median x and rms residual of bins that hold equally many points."""
    order = np.argsort(x)
    bins: Sequence[np.ndarray] = [b for b in np.array_split(order, max(1, min(n_bins, len(x)))) if len(b)]
    return np.array([np.median(x[b]) for b in bins]), np.array([np.sqrt(np.mean(residual[b] ** 2)) for b in bins])
