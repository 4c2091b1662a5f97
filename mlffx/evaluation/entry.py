"""The command line of evaluate.py."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlffx.compose import composed, plain, show
from mlffx.config import read_settings
from mlffx.errors import UserError
from mlffx.evaluation.settings import EvaluateSettings

HELP = """mlffx: phonons of a trained potential against experiment

  python evaluate.py run=RUN_DIR
  python evaluate.py run=RUN_DIR phonons=paper phonons.displacement=0.02
  python evaluate.py run=RUN_DIR 'phonons.isotopes={Li: 7Li, H: D}' phonons.nac=reference
  python evaluate.py run=RUN_DIR dynamics=quick
  python evaluate.py 'runs=[RUN_A,RUN_B]'

Groups:
  phonons=default|quick|paper|converged|polar   supercell, displacement, mesh, non-analytical term
  dynamics=none|quick|standard                  vibrational density of states from molecular dynamics
Keys:
  reference=auto|diamond|lih|none   measured values to compare with
  samples=16                        draws from the posterior of least-squares fits
  controls=none|all|[shuffled,forces,linear,size,frozen]   questions a referee asks, each with a verdict
  force=true                        repeat what is there already; without it, only what has changed is evaluated again
  print=true                        show the composed configuration and stop

Writes RUN_DIR/evaluation/: phonons.json, comparison.csv, phonopy_params.yaml, figures, report.html.
"""


def entry_point(arguments: list[str]) -> None:
    """Run evaluate.py with these arguments.

    Raises:
        UserError: for anything a user can mend.
    """
    if not arguments or any(a in ("-h", "--help") for a in arguments):
        print(HELP, end="")
        return
    if flags := [a for a in arguments if a.startswith("-")]:
        raise UserError(f"unknown option '{flags[0]}'", "options are KEY=VALUE; see --help", "command line")
    config = composed("evaluate", arguments)
    if config.get("print"):
        return show(config)
    _evaluate(plain(config), "python evaluate.py " + " ".join(arguments))
    return None


def _evaluate(values: Mapping[str, Any], command: str) -> None:
    from mlffx.evaluation import overlay
    from mlffx.evaluation.stored import Run

    settings = read_settings(EvaluateSettings, values, "")
    if settings.samples < 1:
        raise UserError(f"{settings.samples} draws", "give at least 1", "samples")
    runs = [*([settings.run] if settings.run else []), *settings.runs]
    if not runs:
        raise UserError("nothing to evaluate", "give run=RUN_DIR", "run")
    for run in runs:
        evaluate_or_reuse(run, settings, command)
    if len(runs) > 1:
        output = Path(settings.output or f"runs/overlay-{time.strftime('%Y%m%d-%H%M%S')}")
        first = Run.read(runs[0])
        measured = first.experiment.labelled_for(first.spectra.isotope)
        overlay.show(overlay.overlay(runs, output, measured), output, measured)


def evaluate_or_reuse(run: str, settings: EvaluateSettings, command: str) -> None:
    """Evaluate a run and show the result, or show again what is there where nothing it depends on has changed."""
    from mlffx.evaluation import currency, stored
    from mlffx.evaluation.harmonic import PhononSettings
    from mlffx.evaluation.run import evaluate, show
    from mlffx.evaluation.wandb_log import publish

    phonons = read_settings(PhononSettings, settings.phonons, "phonons")
    controls, directory = settings.controls or (), Path(run) / "evaluation"
    now = currency.ingredients(run, phonons, settings.reference, settings.samples, settings.sigma_scale)
    reason = currency.outdated(directory, now, controls, settings.dynamics)
    if reason is None and not settings.force:
        stored.show(stored.Run.read(run))
        made = currency.read(directory)["time"]
        print(f"made {made}; nothing has changed since, so nothing was repeated (force=true repeats it)")
        return
    result = evaluate(
        run,
        phonons,
        reference=settings.reference,
        samples=settings.samples,
        sigma_scale=settings.sigma_scale,
        controls=controls,
        dynamics=settings.dynamics,
        progress=settings.progress,
        command=command,
    )
    publish(result)
    show(result)
