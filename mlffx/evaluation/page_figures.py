"""The figures of one evaluation: PDF and PNG of each, and what the report says below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mlffx.evaluation.comparison import shifts
from mlffx.evaluation.control_convergence import FIGURE as CONVERGENCE
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.anharmonic import anharmonic_dos, anharmonic_shifts
from mlffx.evaluation.figures.convergence import dynamics_convergence
from mlffx.evaluation.figures.dispersion import dispersion
from mlffx.evaluation.figures.energies import parity, residual_against_amplitude
from mlffx.evaluation.figures.shifts import mode_shifts
from mlffx.evaluation.report import PageFigure

if TYPE_CHECKING:
    from mlffx.evaluation.run import Evaluation


def write_figures(e: Evaluation) -> list[PageFigure]:
    """PDF and PNG of each figure beside the numbers; returns those for the report (its dispersion is interactive)."""
    out = e.directory / "figures"
    drawn = dispersion(e.model, e.low_level, e.experiment.drawn(e.model.isotope), e.title, e.truth)
    style.save(drawn, e.directory / "dispersion")
    pages: list[PageFigure] = []

    def add(name: str, title: str, caption: str, figure: Figure) -> None:
        paths = style.save(figure, out / name)
        pages.append(PageFigure(title, caption, paths[1], round(95 * figure.get_figwidth())))

    for isotope, (model, low) in e.isotopes.items():
        if model.grid.size:
            title = f"{e.material} ({isotope}): {model.name}"
            figure = dispersion(model, low, e.experiment.drawn(isotope), title)
            add(f"dispersion_{isotope}", f"Dispersion of {isotope}", "The same force constants, other masses.", figure)
    if e.low_level is not None:
        moved = shifts(e.model, e.low_level)
        caption = f"Model minus {e.low_level.name}, member by member, so that what both share cancels."
        add("shifts", "Shift per mode", caption, mode_shifts({e.model.name: moved}, e.low_level.name))
    quantity = "energy" if e.low_level is None else "energy difference"
    add("parity", "Parity", f"Predicted against labelled {quantity}.", parity(e.residuals, quantity))
    caption = "Flat at the noise of the labels: nothing left to learn. Growing with amplitude: a missing term."
    add("residuals", "Residual against amplitude", caption, residual_against_amplitude(e.residuals))
    if e.dynamics is not None:
        add(
            "anharmonic_dos",
            "Density of states from molecular dynamics",
            _dynamics_caption(e),
            anharmonic_dos(e.dynamics),
        )
        if e.anharmonic_shifts:
            figure = anharmonic_shifts(e.anharmonic_shifts)
            add("anharmonic_shifts", "Anharmonic shift per mode", _shift_caption(e), figure)
        if e.dynamics.time_steps and e.dynamics.lengths:
            used = e.dynamics.schedule.time_step
            caption = "Energy conservation of short runs, and the density of states of the first parts of the run."
            figure = dynamics_convergence(e.dynamics.time_steps, e.dynamics.lengths, used)
            add("dynamics_convergence", "Convergence of the dynamics", caption, figure)
    frozen = e.directory / "controls" / "frozen_phonons.png"
    if frozen.is_file() and any(v.name == "frozen" for v in e.verdicts):
        caption = "Energy along the optical eigenvectors at Γ; the line is what the force constants give."
        pages.append(PageFigure("Frozen phonons", caption, frozen, 437))
    converged = e.directory / "controls" / f"{CONVERGENCE}.png"
    if converged.is_file() and any(v.name == "convergence" for v in e.verdicts):
        caption = "Largest deviation from the limit: automatic differentiation, the largest supercell, the finest mesh."
        pages.append(PageFigure("Convergence of the phonons", caption, converged, 770))
    settled = e.directory / "controls" / "settle.png"
    if settled.is_file() and any(v.name == "settle" and v.numbers for v in e.verdicts):
        caption = "Predicted against true shifts of forces and of frozen phonons, both by the same finite differences."
        pages.append(PageFigure("Settling test", caption, settled, 684))
    return pages


def _dynamics_caption(e: Evaluation) -> str:
    assert e.dynamics is not None
    a = e.dynamics.sigma_a
    schedule = e.dynamics.schedule
    return (
        f"{e.dynamics.config.replicas} replicas, {e.dynamics.config.production_ps:g} ps each, time step "
        f"{schedule.time_step:.2f} fs, {e.dynamics.config.temperature:g} K, classical nuclei. Share of the "
        f"forces that is anharmonic: {a.total:.3f} ± {a.sigma:.3f}. All numbers are in dynamics/dynamics.json."
    )


def _shift_caption(e: Evaluation) -> str:
    assert e.dynamics is not None
    runs = len(e.dynamics_members)
    spread = "error of a finite run" if runs == 1 else f"error of finite runs and spread of {runs} members"
    return (
        f"Line in molecular dynamics at {e.dynamics.config.temperature:g} K minus the phonon of the same potential in "
        f"the same supercell; bars: {spread}. Classical nuclei: zero-point motion would shift stiff modes further."
    )
