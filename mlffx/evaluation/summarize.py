"""The jobs of a sweep in one table, one figure and one page: `python -m mlffx.evaluation.summarize SWEEP_DIR`.

    python -m mlffx.evaluation.summarize multirun/learning_curves
    python -m mlffx.evaluation.summarize multirun/my_sweep --reference ccsdt=runs/ccsdt

Writes SWEEP_DIR/summary/: summary.csv (a row a job, finished or not), summary.html (one page, needs no network), and
learning_curves.png and .pdf where training sizes differ. Phonon errors are mean absolute differences over the optical
modes at GAMMA and all modes at X to those of a reference: the exact ones of an analytic twin, the reference that the
file of the sweep declares, or the run given with --reference LEVEL=RUN_DIR. A directory of runs that no sweep recorded
will do, too: its axes are what the configurations differ in.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.console import Console

from mlffx.command_line import AGAIN, run_checked
from mlffx.data.levels import level_name
from mlffx.errors import UserError
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.learning import Curve, Panel, Task, error_curves
from mlffx.evaluation.modes import KeyModes
from mlffx.evaluation.progress import Tracker
from mlffx.evaluation.report import data_uri
from mlffx.evaluation.sweep_runs import (
    DIFFERENCE,
    ENERGY,
    FORCES,
    OPTICAL,
    PHONONS,
    SEEDS,
    SIZES,
    Run,
    SweepRuns,
    add_phonons,
    read_runs,
    write_csv,
)
from mlffx.evaluation.uncertainty import over_members
from mlffx.training.closed_form import LINEAR_MODELS
from mlffx.training.losses import force_weight
from mlffx.training.settings import TrainSettings

COLUMNS = {
    DIFFERENCE: "error of the difference (meV/atom)",
    ENERGY: "energy error (meV/atom)",
    FORCES: "force error (meV/Å)",
    OPTICAL: "Γ optical (cm$^{-1}$)",
    PHONONS: "phonon error (cm$^{-1}$)",
}
TABLE = COLUMNS | {OPTICAL: "Γ optical (cm⁻¹)", PHONONS: "phonon error (cm⁻¹)", "train_seconds": "training (s)"}
LINEAR = "force constants (linear)"


@dataclass(frozen=True)
class Series:
    """Runs that differ in size and seed alone."""

    task: str
    level: str
    name: str
    linear: bool
    runs: list[Run]

    def values(self, key: str) -> dict[int, list[float]]:
        """Number of training labels -> value of every seed."""
        found: dict[int, list[float]] = {}
        for run in self.runs:
            if key in run.numbers:
                found.setdefault(int(run.numbers["train_frames"]), []).append(run.numbers[key])
        return dict(sorted(found.items()))


def summarize(
    sweep_dir: Path, references: Mapping[str, Path] | None = None, phonons: bool = True, command: str = ""
) -> Path:
    """Write SWEEP_DIR/summary/ and return it.

    Args:
        references: level -> run whose phonons errors are taken against.
        phonons: False leaves them out.

    Raises:
        UserError: where there are no runs.
    """
    sweep = read_runs(sweep_dir)
    exact = add_phonons(sweep, references or {}, Tracker()) if phonons else {}
    out = sweep_dir / "summary"
    out.mkdir(exist_ok=True)
    write_csv(sweep, out / "summary.csv")
    groups = series(sweep)
    picture = None
    if len({n for s in groups for n in s.values(ENERGY)}) > 1:
        picture = style.save(error_curves(tasks(groups, exact)), out / "learning_curves")[1]
    (out / "summary.html").write_text(_page(sweep, groups, exact, picture, out / "summary.csv", command))
    return out


def series(sweep: SweepRuns) -> list[Series]:
    """Finished runs by what they learned and every axis except size and seed; the linear baseline last."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in sweep.runs:
        if run.finished and run.settings is not None and "train_frames" in run.numbers:
            values = {k: v for k, v in run.values.items() if k not in (*SIZES, *SEEDS)}
            found.setdefault((what(run.settings), ",".join(f"{k}={v}" for k, v in values.items())), []).append(run)
    out = []
    for task in dict.fromkeys(task for task, _ in found):
        groups = {key: runs for (t, key), runs in found.items() if t == task}
        for runs, name in zip(groups.values(), _names(list(groups)), strict=True):
            settings = runs[0].settings
            assert settings is not None
            linear = settings.model["name"] in LINEAR_MODELS
            only = sum(g[0].settings.model["name"] in LINEAR_MODELS for g in groups.values()) == 1  # type: ignore[union-attr]
            out.append(Series(task, settings.level.name, LINEAR if linear and only else name, linear, runs))
    return sorted(out, key=lambda s: s.linear)


def what(settings: TrainSettings) -> str:
    """What a run learned: `CCSD(T) - DFT`, `DFT, energies`."""
    level = level_name(settings.level.name)
    if settings.potential.kind == "delta":
        low = settings.potential.low or settings.data.get("low") or "low"
        return f"{level} − {level_name(str(low))}, energies"
    labels = (settings.data.get("levels") or {}).get(settings.level.name) or {}
    forces = "forces" in (labels.get("labels") or []) and force_weight(settings.loss, True) > 0
    kind = "" if settings.potential.kind == "direct" else f", {settings.potential.kind.replace('_', '-')}"
    return f"{level}{kind}, energies" + (" and forces" if forces else "")


def _names(keys: Sequence[str]) -> list[str]:
    """Legend names: the values of those axes that differ within a task."""
    split = [dict(pair.split("=", 1) for pair in key.split(",") if "=" in pair) for key in keys]
    differing = [k for k in split[0] if len({s.get(k) for s in split}) > 1] if split else []
    return [" ".join(s.get(k, "") for k in differing) or " ".join(s.values()) or "runs" for s in split]


def tasks(groups: Sequence[Series], exact: Mapping[str, KeyModes]) -> list[Task]:
    """Rows of the figure: energies, then forces (or, for levels without them, the optical mode), then phonons."""
    rows = []
    for title in dict.fromkeys(s.task for s in groups):
        own = [s for s in groups if s.task == title]
        has_forces = any(s.values(FORCES) for s in own)
        energy = DIFFERENCE if any(s.values(DIFFERENCE) for s in own) else ENERGY
        keys = [energy, FORCES if has_forces else OPTICAL, PHONONS]
        panels = []
        for key in keys:
            curves = [Curve(s.name, values, s.linear) for s in own if (values := s.values(key))]
            if curves:
                panels.append(Panel(COLUMNS[key], curves, key != OPTICAL, _level(key, exact.get(own[0].level))))
        rows.append(Task(title, panels))
    return rows


def _level(key: str, reference: KeyModes | None) -> tuple[str, float, float | None] | None:
    """Lines of the reference: its optical mode, and the phonon error below which nothing can be told."""
    if reference is None:
        return None
    known = np.isfinite(reference.sigma)
    if key == OPTICAL:
        own = reference.sigma[: reference.n_optical]
        return "reference", reference.optical, float(own.mean()) if np.isfinite(own).all() else None
    if key == PHONONS and known.all():
        return "σ of the reference", float(reference.sigma.mean()), None
    return None


def _tables(groups: Sequence[Series]) -> list[dict[str, Any]]:
    found = []
    for title in dict.fromkeys(s.task for s in groups):
        own = [s for s in groups if s.task == title]
        keys = [k for k in TABLE if any(s.values(k) for s in own)]
        lines = []
        for s in own:
            for i, size in enumerate(s.values(ENERGY) or s.values("train_seconds")):
                values = [s.values(k).get(size, []) for k in keys]
                cells = [s.name if i == 0 else "", str(size), str(max(map(len, values))), *[_mean(v) for v in values]]
                lines.append({"first": i == 0, "cells": cells})
        found.append({"title": title, "heads": ["", "labels", "seeds", *[TABLE[k] for k in keys]], "lines": lines})
    return found


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    estimate = over_members(np.array(values, dtype=float))
    mean, sigma = float(estimate.mean), float(estimate.sigma)
    digits = 1 if abs(mean) >= 10 else 2
    return f"{mean:.{digits}f}" + (f" ± {sigma:.{digits}f}" if np.isfinite(sigma) else "")


def _page(
    sweep: SweepRuns,
    groups: Sequence[Series],
    exact: Mapping[str, KeyModes],
    picture: Path | None,
    table: Path,
    command: str,
) -> str:
    failed = [r for r in sweep.runs if r.state == "failed"]
    unfinished = [r for r in sweep.runs if r.state not in ("failed", "finished", "pruned")]
    states = Counter(r.state for r in sweep.runs)
    imaginary = [r.name for r in sweep.runs if r.numbers.get("imaginary_modes", 0) > 0]
    warnings = [f"imaginary modes: {', '.join(imaginary)}"] if imaginary else []
    without = sorted({level_name(s.level) for s in groups if s.level not in exact})
    provenance = [f"{level_name(level)}: phonon errors against {_reference(sweep, level)}" for level in exact]
    if without:
        provenance.append(f"No reference for the phonons of {', '.join(without)}: give --reference LEVEL=RUN_DIR.")
    seconds = sum(r.numbers.get("train_seconds", 0.0) for r in sweep.runs)
    templates = files("mlffx.evaluation") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((templates / "summary.html.j2").read_text(encoding="utf-8")).render(
        css=Markup((templates / "report.css").read_text(encoding="utf-8")),
        title=f"Sweep {sweep.name}",
        subtitle="axes: " + (", ".join(sweep.axes) or "none"),
        tiles=[("jobs", len(sweep.runs)), *states.items(), ("training", f"{seconds / 60:.0f} min")],
        warnings=warnings,
        figure=None if picture is None else data_uri(picture),
        figure_width=960,
        caption="Lines: means over seeds. Bands: one standard deviation, with the factor of Student's t for few seeds.",
        failed=failed,
        unfinished=unfinished,
        tables=_tables(groups),
        provenance=provenance,
        commands=[c for c in (sweep.command, command) if c],
        csv=data_uri(table),
    )


def _reference(sweep: SweepRuns, level: str) -> str:
    twin = any(r.settings is not None and r.settings.data.get("kind") == "twin" for r in sweep.runs)
    if twin:
        return "the exact ones of the analytic twin."
    run = sweep.references.get(level)
    return f"{run.path.name if run else 'the run given'}; their σ is that of the reference."


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mlffx.evaluation.summarize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep_dir", type=Path)
    parser.add_argument("--reference", action="append", default=[], metavar="LEVEL=RUN_DIR", help="for phonon errors")
    parser.add_argument("--no-phonons", action="store_true", help="errors of energies and forces only")
    given = parser.parse_args(arguments)
    references = {}
    for text in given.reference:
        level, _, path = text.partition("=")
        if not Path(path).is_dir() or not path:
            raise UserError(f"'{text}' is no LEVEL=RUN_DIR", "give --reference ccsdt=RUN_DIR", "--reference")
        references[level] = Path(path)
    command = "python -m mlffx.evaluation.summarize " + " ".join(sys.argv[1:] if arguments is None else arguments)
    out = summarize(given.sweep_dir, references, not given.no_phonons, command)
    states = Counter(r.state for r in read_runs(given.sweep_dir).runs)
    Console(stderr=True).print(", ".join(f"{n} {s}" for s, n in states.items()) + f"; {out / 'summary.html'}")


if __name__ == "__main__":
    run_checked(main, AGAIN)
