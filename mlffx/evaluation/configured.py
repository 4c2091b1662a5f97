"""The evaluation that settings ask for: whether it has to be made, and making it."""

from __future__ import annotations

from pathlib import Path

from mlffx.config import read_settings
from mlffx.evaluation import currency
from mlffx.evaluation.harmonic import PhononSettings
from mlffx.evaluation.run import Evaluation, evaluate
from mlffx.evaluation.settings import EvaluateSettings


def outdated(run: Path | str, settings: EvaluateSettings) -> str | None:
    """Why the evaluation of a run has to be made (again); None where what is there is current."""
    phonons = read_settings(PhononSettings, settings.phonons, "phonons")
    now = currency.ingredients(
        run, phonons, settings.reference, settings.samples, settings.sigma_scale, settings.settle
    )
    return currency.outdated(Path(run) / "evaluation", now, settings.controls or (), settings.dynamics)


def make(run: Path | str, settings: EvaluateSettings, command: str) -> Evaluation:
    """Make it and write it into the directory of the run; `command` is the line that repeats it, for the report."""
    return evaluate(
        run,
        read_settings(PhononSettings, settings.phonons, "phonons"),
        reference=settings.reference,
        samples=settings.samples,
        sigma_scale=settings.sigma_scale,
        controls=settings.controls or (),
        settle=settings.settle,
        dynamics=settings.dynamics,
        progress=settings.progress,
        command=command,
    )
