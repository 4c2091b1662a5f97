"""Phonon dispersion with the measured points on it and the densities of states at its side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlffx.errors import UserError
from mlffx.evaluation.comparison import Measured
from mlffx.evaluation.figures.style import (
    BLACK,
    CYCLE,
    DASHES,
    GREY,
    greek,
    legend_below,
    new_figure,
    quiet_grid,
    styled,
)
from mlffx.evaluation.spectra import BandPath, Spectra
from mlffx.units import THZ_TO_CM1, THZ_TO_MEV


@dataclass(frozen=True)
class Line:
    """How one set of spectra is drawn.

    Attributes:
        spectra: what is drawn.
        color, dashes: of its lines.
        band: shade mean +- sigma.
    """

    spectra: Spectra
    color: str
    dashes: str | tuple[int, tuple[float, ...]] = "-"
    band: bool = True


def dispersion(
    model: Spectra | Sequence[Spectra],
    low_level: Spectra | None = None,
    measured: Sequence[Measured] = (),
    title: str = "",
    exact: Spectra | None = None,
    colors: Sequence[str] = (),
) -> Figure:
    """Bands and densities of states, sharing the frequency axis (cm-1 at the left, THz and meV at the right).

    Args:
        model: one, or several to be laid over each other.
        low_level: drawn grey and dashed below the others.
        measured: shown with error bars at every place of their labelled point; circles neutron, squares others,
            diamonds a model fitted to measured points.
        title: over the bands.
        exact: true phonons of an analytic twin, black and dotted.
        colors: of the models, where they are to be those of another figure; by default in order.
    """
    models = [model] if isinstance(model, Spectra) else list(model)
    lines = [Line(low_level, GREY, DASHES[1], band=False)] if low_level is not None else []
    colors = colors or [CYCLE[i % len(CYCLE)] for i in range(len(models))]
    lines += [Line(s, colors[i], DASHES[(i // len(CYCLE)) % len(DASHES)]) for i, s in enumerate(models)]
    lines += [Line(exact, BLACK, DASHES[2], band=False)] if exact is not None else []
    reference = models[0].path
    with styled():
        figure = new_figure(7.6, 4.4)
        bands, dos = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [3.3, 1], "wspace": 0.03})
        for line in lines:
            _draw_bands(bands, line, reference)
            _draw_dos(dos, line)
        _draw_measured(bands, measured, reference)
        _dress(bands, dos, lines, reference)
        if title:
            bands.set_title(title, loc="left", fontweight="bold")
        legend_below(figure, [bands])
    return figure


def aligned(path: BandPath, reference: BandPath) -> np.ndarray:
    """Distances of `path` stretched, piece by piece, onto the ticks of another path (runs at other lattice constants).

    Raises:
        UserError: when the two paths visit other points.
    """
    if path is reference:
        return path.distance
    if [label for _, label in path.ticks] != [label for _, label in reference.ticks]:
        raise UserError(
            "the runs have different paths through the Brillouin zone", "evaluate them with the same path", "runs"
        )
    return np.interp(path.distance, [x for x, _ in path.ticks], [x for x, _ in reference.ticks])


def _draw_bands(axes: Axes, line: Line, reference: BandPath) -> None:
    x, estimate, label = aligned(line.spectra.path, reference), line.spectra.band_estimate(), line.spectra.name
    for start, stop in line.spectra.path.segments:
        piece = slice(start, stop)
        mean, sigma = estimate.mean[piece], estimate.sigma[piece]
        if line.band and np.isfinite(sigma).any():
            for low, high in zip((mean - sigma).T, (mean + sigma).T, strict=True):
                axes.fill_between(x[piece], low, high, color=line.color, alpha=0.22, linewidth=0)
        drawn = axes.plot(
            x[piece], mean, color=line.color, linestyle=line.dashes, zorder=3 if line.color != GREY else 2
        )
        drawn[0].set_label(label)
        label = "_nolegend_"


def _draw_dos(axes: Axes, line: Line) -> None:
    s, estimate = line.spectra, line.spectra.dos_estimate()
    if line.band and np.isfinite(estimate.sigma).any():
        low, high = np.maximum(estimate.mean - estimate.sigma, 0), estimate.mean + estimate.sigma
        axes.fill_betweenx(s.grid, low, high, color=line.color, alpha=0.22, linewidth=0)
    axes.plot(estimate.mean, s.grid, color=line.color, linestyle=line.dashes, linewidth=1.1)


def _draw_measured(axes: Axes, measured: Sequence[Measured], path: BandPath) -> None:
    """Neutron data as circles, fitted models as diamonds, the rest (Raman, infrared) as squares; named once each."""
    seen: set[str] = set()
    for record in measured:
        label = "neutrons, through a fitted model" if record.fitted else "experiment, light"
        label = "experiment, neutrons" if record.neutron and not record.fitted else label
        for x in record.places or path.places(record.label):
            axes.errorbar(
                x,
                record.cm1,
                yerr=np.nan_to_num(record.sigma_cm1),
                fmt="D" if record.fitted else "o" if record.neutron else "s",
                color=BLACK,
                markerfacecolor="white",
                markersize=4.5,
                markeredgewidth=1.1,
                elinewidth=1.1,
                capsize=2.2,
                zorder=5,
                clip_on=False,
                label="_nolegend_" if label in seen else label,
            )
            seen.add(label)


def _dress(bands: Axes, dos: Axes, lines: Sequence[Line], path: BandPath) -> None:
    lowest = min(float(line.spectra.bands.mean(axis=0).min()) for line in lines)
    highest = max(float(line.spectra.bands.max()) for line in lines)
    bands.set_ylim(1.08 * lowest if lowest < -5 else 0.0, 1.06 * highest)
    if lowest < -5:  # imaginary modes: the zero line makes them impossible to overlook
        for axes in (bands, dos):
            axes.axhline(0, color=BLACK, linewidth=0.8)
        bands.text(0.01, 0.01, "imaginary modes below zero", transform=bands.transAxes, fontsize=8)
    bands.set_xlim(path.distance[0], path.distance[-1])
    bands.set_xticks([x for x, _ in path.ticks], [greek(label) for _, label in path.ticks])
    for x, _ in path.ticks:
        bands.axvline(x, color="0.75", linewidth=0.7, zorder=0)
    bands.tick_params(axis="x", length=0)
    bands.set_ylabel("frequency (cm$^{-1}$)")
    quiet_grid(bands)
    quiet_grid(dos)
    dos.set_xlim(0, None)
    dos.set_xticks([])
    dos.set_xlabel("density of states")
    dos.tick_params(axis="y", labelleft=False)
    for axes in (bands, dos):
        axes.spines["top"].set_visible(True)
        axes.spines["right"].set_visible(True)
    thz = dos.secondary_yaxis("right", functions=_scaled(1 / THZ_TO_CM1))
    mev = dos.secondary_yaxis(1.34, functions=_scaled(THZ_TO_MEV / THZ_TO_CM1))
    for axis, unit, x in ((thz, "THz", 1.02), (mev, "meV", 1.36)):
        axis.tick_params(labelsize=8)
        dos.text(x, 1.02, unit, transform=dos.transAxes, fontsize=8.5)


def _scaled(factor: float) -> Any:
    """The two directions of a second unit, as matplotlib wants them."""
    return (lambda v: v * factor, lambda v: v / factor)
