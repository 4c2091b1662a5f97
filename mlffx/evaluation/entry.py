"""The command line of evaluate.py."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlffx.compose import composed, plain, show
from mlffx.config import read_settings
from mlffx.errors import UserError
from mlffx.evaluation.settings import EvaluateSettings

FILES = (".yaml", ".yml")
HELP = """mlffx: phonons of a trained potential against experiment

  python evaluate.py run=RUN_DIR
  python evaluate.py run=RUN_DIR phonons=paper phonons.displacement=0.02
  python evaluate.py run=RUN_DIR 'phonons.isotopes={Li: 7Li, H: D}' phonons.nac=reference
  python evaluate.py run=RUN_DIR dynamics=quick
  python evaluate.py 'runs=[RUN_A,RUN_B]'
  python evaluate.py preset=paper                 everything of the paper, training included; resumable
  python evaluate.py preset=paper_small           the same in minutes
  python evaluate.py preset=mine.yaml             a plan of your own, like conf/preset/paper.yaml

Groups:
  phonons=default|quick|paper|converged|polar   supercell, displacement, mesh, non-analytical term
  dynamics=none|quick|standard                  vibrational density of states from molecular dynamics
Keys:
  reference=auto|none|diamond|lih|boron_nitride   measured values to compare with
  samples=16                        draws from the posterior of least-squares fits
  controls=none|all|[...]           questions a referee asks, each with a verdict: shuffled, forces, cheap_base, linear,
                                    size, cutoff, architecture, frozen, convergence (docs/evaluation.md)
  settle=FILE                       forces and frozen phonons of the high level itself, to be held against the run
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
    file = next((a.split("=", 1)[1] for a in arguments if a.startswith("preset=") and a.endswith(FILES)), None)
    config = composed("evaluate", [a for a in arguments if not (file and a.startswith("preset="))])
    if config.get("print"):
        return show(config)
    values, command = plain(config), "python evaluate.py " + " ".join(arguments)
    if file is not None:
        values["preset"] = read_preset(Path(file))
    if values.get("preset"):
        return _study(values, arguments, command)
    return _evaluate(values, command)


def read_preset(path: Path) -> dict[str, Any]:
    """A preset of the user's own, a file like those in conf/preset.

    Raises:
        UserError: when there is no such file, or it is not understood.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"no such file ({error.strerror})", "give a file like conf/preset/paper.yaml", path) from error
    except yaml.YAMLError as error:
        raise UserError(f"not understood: {error}", "write it like conf/preset/paper.yaml", path) from error
    if not isinstance(found, dict):
        raise UserError("holds no keys", "write it like conf/preset/paper.yaml", path)
    return found


def _study(values: Mapping[str, Any], arguments: Sequence[str], command: str) -> None:
    """A whole preset; exit status 1 where a part of it failed."""
    from mlffx.evaluation.study.run import study

    settings = read_settings(EvaluateSettings, values, "")
    if settings.run or settings.runs:
        raise UserError("a preset brings its own runs", "leave out run, or leave out preset", "run")
    preset = dict(settings.preset) | ({"output": settings.output} if settings.output else {})
    own = ("preset", "output", "force", "progress", "print")  # the rest is meant for every evaluation
    others = [a for a in arguments if a.lstrip("+~").split("=")[0].split(".")[0] not in own]
    try:
        record = study(preset, others, force=settings.force, progress=settings.progress, command=command)
    except KeyboardInterrupt as error:
        print(f"{error or 'interrupted'}; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(getattr(error, "exit_status", 130)) from None
    if record.count("failed", "impossible"):
        raise SystemExit(1)


def _evaluate(values: Mapping[str, Any], command: str) -> None:
    from mlffx.evaluation import overlay
    from mlffx.evaluation.stored import Run

    settings = read_settings(EvaluateSettings, values, "")
    runs = [*([settings.run] if settings.run else []), *settings.runs]
    if not runs:
        raise UserError("nothing to evaluate", "give run=RUN_DIR", "run")
    if settings.output and len(runs) == 1:
        remedy = "leave it out, or give several runs"
        raise UserError(f"one run is evaluated into {runs[0]}/evaluation", remedy, "output")
    for run in runs:
        evaluate_or_reuse(run, settings, command)
    if len(runs) > 1:
        output = Path(settings.output or f"runs/overlay-{time.strftime('%Y%m%d-%H%M%S')}")
        first = Run.read(runs[0])
        measured = first.experiment.labelled_for(first.spectra.isotope)
        overlay.show(overlay.overlay(runs, output, measured), output, measured)


def evaluate_or_reuse(run: str, settings: EvaluateSettings, command: str) -> None:
    """Evaluate a run and show the result, or show again what is there where nothing it depends on has changed."""
    from mlffx.evaluation import configured, currency, stored
    from mlffx.evaluation.run import show
    from mlffx.evaluation.wandb_log import publish

    if configured.outdated(run, settings) is None and not settings.force:
        stored.show(stored.Run.read(run))
        made = currency.read(Path(run) / "evaluation")["time"]
        print(f"made {made}; nothing has changed since, so nothing was repeated (force=true repeats it)")
        return
    result = configured.make(run, settings, command)
    publish(result)
    show(result)
