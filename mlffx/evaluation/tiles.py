"""Numbers at the head of the page of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlffx.evaluation.answer import signed
from mlffx.evaluation.comparison import shifts
from mlffx.evaluation.figures.style import greek
from mlffx.evaluation.report import Tile
from mlffx.evaluation.report_rows import with_sigma
from mlffx.evaluation.spectra import LabelledPoint

if TYPE_CHECKING:
    from mlffx.evaluation.run import Evaluation


def tiles(e: Evaluation) -> list[Tile]:
    """The highest optical mode at GAMMA first, then what it is to be held against."""
    label = "GAMMA" if "GAMMA" in e.model.points else next(iter(e.model.points))
    point = e.model.points[label]
    i = int(point.estimate().mean.argmax())
    found = [_tile(e.model.name, point, i, f"cm⁻¹, {greek(label)} {point.branches[i]}")]
    for spectrum in (e.low_level, e.truth):
        if spectrum is not None:
            other = spectrum.points[label]
            highest = int(other.estimate().mean.argmax())  # LO of one, TO of the other without a non-analytical term
            j = other.branches.index(point.branches[i]) if point.branches[i] in other.branches else highest
            found.append(_tile(spectrum.name, other, j, "low level" if spectrum is e.low_level else "analytic twin"))
    if e.low_level is not None:
        shift = shifts(e.model, e.low_level).get(label, {}).get(point.branches[i])
        if shift is not None and shift["mean"] is not None:
            against = f"against {e.low_level.name}{_shuffled(e)}"
            found.append(Tile("shift", signed(shift["mean"], shift["sigma"]), against))
    rows = [r for r in e.rows if r.q_label == label and r.branch == point.branches[i] and r.experiment_cm1 is not None]
    if rows and rows[0].experiment_cm1 is not None:
        found.append(
            Tile("experiment", with_sigma(rows[0].experiment_cm1, rows[0].experiment_sigma_cm1), "as measured")
        )
    for m in e.experiment.harmonic:
        if m.label == label:
            found.append(Tile("experiment, harmonic", with_sigma(m.cm1, m.sigma_cm1), "anharmonic shift removed"))
    shifted = [s for s in e.anharmonic_shifts if (s.label, s.branch) == (label, point.branches[i])]
    if shifted and e.dynamics is not None:
        value = signed(shifted[0].shift, shifted[0].sigma)
        found.append(Tile("anharmonic shift", value, f"{e.dynamics.config.temperature:g} K, classical dynamics"))
    if e.residuals.held_out.any():
        what = "difference" if e.low_level is not None else "energy"
        found.append(Tile("held-out error", f"{e.residuals.mae(True):.3f}", f"meV/atom, {what}"))
    return found


def _shuffled(e: Evaluation) -> str:
    """What the watched mode shifts by with shuffled labels, where the control was run."""
    numbers = next((v.numbers for v in e.verdicts if v.name == "shuffled" and v.numbers), None)
    if numbers is None:
        return ""
    return f"; labels shuffled: {signed(numbers['shuffled_shift_cm1'], numbers['sigma_cm1'])}"


def _tile(name: str, point: LabelledPoint, i: int, note: str) -> Tile:
    estimate = point.estimate()
    return Tile(name, with_sigma(float(estimate.mean[i]), float(estimate.sigma[i])), note)
