"""The rungs of a ladder in the report: errors of each beside the noise of its labels, and whether noise was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from mlffx.evaluation.controls import Verdict
from mlffx.training.label_noise import FITS_NOISE, Rung


def above_the_noise(rungs: Sequence[Rung]) -> Verdict | None:
    """A training error below the noise of the labels is noise that was learned; None where no noise is known."""
    known = [rung for rung in rungs if rung.label_noise_meV_per_atom is not None]
    if not known:
        return None
    noisy = [rung for rung in known if rung.fits_noise]
    statement = "; ".join(rung.statement for rung in noisy or known)
    if noisy:
        statement += f". Take {FITS_NOISE}"
    title, numbers = "No noise of the labels was learned", {"rungs": [asdict(rung) for rung in known]}
    return Verdict("noise", title, "fail" if noisy else "pass", statement, numbers)


def lines(rungs: Sequence[Rung]) -> list[tuple[str, str]]:
    """(name, errors and noise) of every rung, for the table of what was trained on what."""
    return [(f"rung {rung.name}", rung.statement.removeprefix(f"{rung.name}: ")) for rung in rungs]
