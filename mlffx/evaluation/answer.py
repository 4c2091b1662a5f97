"""The referee's first question in one line: do the labels shift the phonons, or the smoothness of the model?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.figures.style import greek

QUESTION = "Do the labels shift the phonons, or does the smoothness of the model?"
NOT_TRIED = "Not tried here: controls=[shuffled,linear,forces] answers it."
Shifts = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # label -> branch -> mean, sigma


def answer(low: str | None, shifts: Shifts | None, verdicts: Sequence[Verdict]) -> str:
    """Shift with the labels in order and shuffled, and what a fit without a network and without forces finds.

    Args:
        low: level the shift is taken against; None of a direct potential, which has no shift: nothing is said.
        shifts: high minus low level, cm-1.
        verdicts: of the controls; without `settle` and `shuffled` it is said how to ask.
    """
    if low is None or not shifts:
        return ""
    found = {v.name: v for v in verdicts}
    settle, shuffled = found.get("settle"), found.get("shuffled")
    settle = None if settle is None or settle.word == "inconclusive" else settle
    settled = "" if settle is None else f"{settle.title}: {settle.word}. "
    if shuffled is None or not shuffled.numbers:
        return NOT_TRIED if settle is None else f"{settled}{settle.statement}."
    label, branch = _mode(shuffled.numbers, shifts)
    real, numbers = shifts[label][branch], shuffled.numbers
    said = [
        f"{greek(label)} {branch.replace('_', ' ')} moves by {signed(real['mean'], real['sigma'])} cm⁻¹ against {low} "
        f"with the labels in order, by {signed(numbers['shuffled_shift_cm1'], numbers['sigma_cm1'])} with the same "
        f"labels dealt to the wrong structures ({numbers['shuffles']} times)"
    ]
    if shuffled.word == "inconclusive" or abs(real["mean"] or 0.0) <= 2 * (real["sigma"] or 0.0):
        said[0] += ", which does not tell them apart"
    linear = found.get("linear")
    if linear is not None and linear.word != "inconclusive":
        said.append(f"a fit of the same labels without a network differs by {linear.statement}")
    forces = found.get("forces")
    if forces is not None and "relative_rms_error" in forces.numbers:
        share = 100 * forces.numbers["relative_rms_error"]
        said.append(f"forces never trained on come out of energies alone to {share:.0f} % of their rms")
    return settled + "; ".join(said) + "."


def _mode(numbers: Mapping[str, Any], shifts: Shifts) -> tuple[str, str]:
    """The mode the control watched: as it says, or the one at the first point with the shift it found."""
    label, _, branch = str(numbers.get("mode", "")).partition(" ")
    if branch in shifts.get(label, {}):
        return label, branch
    label = next(iter(shifts))
    here = shifts[label]
    return label, min(here, key=lambda b: abs((here[b]["mean"] or 0.0) - numbers["real_shift_cm1"]))


def signed(mean: float | None, sigma: float | None) -> str:
    """`+58.5 ± 4.7`."""
    value = round(mean or 0.0, 1) + 0.0  # no -0.0
    return f"{value:+.1f}" + ("" if sigma is None else f" ± {sigma:.1f}")
