"""Densities of states from molecular dynamics against the harmonic ones, and what anharmonicity changes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from mlffx.dynamics.labelled import LabelledShift
from mlffx.dynamics.result import DynamicsResult
from mlffx.evaluation.figures.style import (
    BLACK,
    BLUE,
    CYCLE,
    DASHES,
    GREY,
    VERMILION,
    greek,
    legend_below,
    new_figure,
    quiet_grid,
    styled,
)


def anharmonic_shifts(shifts: Sequence[LabelledShift]) -> Figure:
    """Shift of every named mode with its error, modes of one point beside each other."""
    with styled():
        figure = new_figure(max(3.4, 0.42 * len(shifts) + 1.0), 3.0)
        axes = figure.subplots()
        axes.axhline(0, color=BLACK, linewidth=0.8)
        labels = list(dict.fromkeys(s.label for s in shifts))
        for i, label in enumerate(labels):
            mine = [(k, s) for k, s in enumerate(shifts) if s.label == label]
            axes.errorbar(
                [k for k, _ in mine],
                [s.shift for _, s in mine],
                [s.sigma for _, s in mine],
                fmt="osD^v"[i % 5],
                color=CYCLE[i % len(CYCLE)],
                capsize=2.5,
                markersize=4.5,
            )
        names = [f"{greek(s.label)} {s.branch.replace('_', ' ')}\n{s.harmonic:.0f}" for s in shifts]
        axes.set_xticks(range(len(shifts)), names, fontsize=7)
        axes.set_xlim(-0.6, len(shifts) - 0.4)
        axes.set_xlabel("mode, harmonic frequency (cm$^{-1}$)")
        axes.set_ylabel("anharmonic shift (cm$^{-1}$)")
        quiet_grid(axes)
    return figure


def anharmonic_dos(result: DynamicsResult) -> Figure:
    """Full and harmonic dynamics with their errors above, their difference below (bands: one standard error)."""
    with styled():
        figure = new_figure(6.4, 4.2)
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.2, 1]})
        grid, temperature = result.full.grid, result.config.temperature
        upper.plot(
            result.harmonic.grid,
            result.harmonic.total,
            color=GREY,
            linestyle=DASHES[1],
            zorder=4,
            label="harmonic, lattice",
        )
        lines = [
            (result.harmonic_md, BLACK, f"harmonic, MD {temperature:g} K"),
            (result.full, BLUE, f"full, MD {temperature:g} K"),
        ]
        for spectrum, color, name in lines:
            if spectrum is None:
                continue
            sigma = spectrum.sigma()
            upper.plot(spectrum.grid, spectrum.total, color=color, linewidth=1.2, label=name)
            upper.fill_between(
                spectrum.grid, spectrum.total - sigma, spectrum.total + sigma, color=color, alpha=0.2, linewidth=0
            )
        change, spread = result.difference.total, result.difference.sigma()
        lower.axhline(0, color=BLACK, linewidth=0.8)
        lower.plot(grid, change, color=VERMILION, linewidth=1.2)
        lower.fill_between(grid, change - spread, change + spread, color=VERMILION, alpha=0.25, linewidth=0)
        upper.set_xlim(0, 1.12 * result.highest_cm1)
        upper.set_ylim(0, None)
        upper.set_ylabel("states per cm$^{-1}$")
        lower.set_ylabel("full − harmonic")
        lower.set_xlabel("frequency (cm$^{-1}$)")
        for axes in (upper, lower):
            quiet_grid(axes)
        legend_below(figure, [upper])
    return figure
