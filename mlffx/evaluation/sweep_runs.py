"""The runs of a sweep as rows: what each was asked, how it ended, its errors and its phonons."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlffx.data.crystal import Crystal
from mlffx.data.dataset import load_dataset
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.modes import KeyModes, modes_of, run_modes
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings

SIZES = ("size", "train_size", "data.train_size")
SEEDS = ("seed", "split_seed")
DRAWS = 16  # from the posterior of a reference
ENERGY, FORCES = "test_energy_rmse_meV_per_atom", "test_forces_rmse_meV_per_A"
DIFFERENCE = "test_difference_energy_rmse_meV_per_atom"  # of a delta, without the error of its base
PHONONS, OPTICAL = "phonon_mae_cm1", "gamma_optical_cm1"
Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass
class Run:
    """One job.

    Attributes:
        name: of its directory.
        values: axis -> value.
        state: of status.json; `missing` where nothing is.
        reason: why it failed.
        settings: None before the run has begun.
        numbers: metrics with the unit in each name.
    """

    name: str
    directory: Path
    values: dict[str, str]
    state: str
    reason: str = ""
    settings: TrainSettings | None = None
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.state == "finished"


@dataclass(frozen=True)
class SweepRuns:
    """A sweep as it is on disk.

    Attributes:
        name, command: as sweep.yaml has them.
        axes: names.
        runs: every job that was asked for.
        references: level -> run that phonon errors are taken against.
    """

    name: str
    command: str
    axes: list[str]
    runs: list[Run]
    references: dict[str, RunDirectory]


def read_runs(sweep_dir: Path) -> SweepRuns:
    """The jobs of sweep.yaml, or, without one, every run directory below.

    Raises:
        UserError: where there are no runs.
    """
    record = sweep_dir / "sweep.yaml"
    if not sweep_dir.is_dir():
        raise UserError("no such directory", "give the sweep_dir of train.py -m", sweep_dir)
    if record.is_file():
        stored = yaml.safe_load(record.read_text())
        jobs = {name: job["values"] for name, job in stored["jobs"].items()}
        references = {level: RunDirectory(sweep_dir / name) for level, name in stored.get("references", {}).items()}
        runs = [_read(sweep_dir / name, name, values) for name, values in jobs.items()]
        return SweepRuns(stored["name"], stored["command"], stored["axes"], runs, references)
    configs = sorted(p.parent for p in sweep_dir.rglob("config.yaml") if (p.parent / "status.json").is_file())
    if not configs:
        raise UserError("no runs here", "give the sweep_dir of train.py -m, or a folder of run directories", sweep_dir)
    runs = [_read(path, str(path.relative_to(sweep_dir)), {}) for path in configs]
    axes = _differing(runs)
    return SweepRuns(sweep_dir.name, "", axes, runs, {})


def _read(directory: Path, name: str, values: Mapping[str, Any]) -> Run:
    folder = RunDirectory(directory)
    run = Run(name, directory, {k: str(v) for k, v in values.items()}, folder.status())
    if run.state == "absent":
        run.state = "missing"
        return run
    if run.finished and not (directory / "metrics.json").is_file():
        run.state = "interrupted"
    run.reason = _reason(directory)
    if folder.config.is_file():
        run.settings = TrainSettings.read(folder.read_config())
    if run.finished:
        metrics = folder.read_metrics()
        run.numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
        if (best := _best_validation(folder.metrics)) is not None:
            run.numbers["best_val_loss"] = best
    return run


def _reason(directory: Path) -> str:
    status = json.loads((directory / "status.json").read_text())
    return " ".join(str(status.get("reason", "")).split())


def _best_validation(path: Path) -> float | None:
    if not path.is_file():
        return None
    with path.open() as file:
        values = [float(row["val_loss"]) for row in csv.DictReader(file) if row.get("val_loss")]
    return min((v for v in values if math.isfinite(v)), default=None)


def _differing(runs: Sequence[Run]) -> list[str]:
    """Axes of runs that no sweep recorded: whatever differs between their configurations."""
    flat = [dict(_flat(RunDirectory(run.directory).read_config())) for run in runs]
    ignored = ("run_dir", "cache_dir", "wandb", "logger")
    keys = [k for k in dict.fromkeys(k for f in flat for k in f) if k.split(".")[0] not in ignored]
    differing = [k for k in keys if len({str(f.get(k)) for f in flat}) > 1]
    chosen = [k for k in differing if k.split(".")[-1] == "name" or f"{k.split('.')[0]}.name" not in differing]
    names = {k: k.removesuffix(".name") for k in chosen}
    for run, values in zip(runs, flat, strict=True):
        run.values = {names[k]: str(values.get(k)) for k in chosen}
    return list(names.values())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def add_phonons(sweep: SweepRuns, references: Mapping[str, Path], track: Track) -> dict[str, KeyModes]:
    """Modes of every finished run, and their mean absolute error against the reference of its level.

    Args:
        references: level -> run directory; they come before the exact phonons of twins, and these before the sweep's.

    Returns:
        level -> modes of the reference.
    """
    runs = {level: RunDirectory(path) for level, path in references.items()}
    known = {level: run for level, run in sweep.references.items() if run.status() == "finished"} | runs
    crystals: dict[str, Crystal | None] = {}
    found: dict[str, KeyModes] = {}
    for run in track([r for r in sweep.runs if r.finished], "phonons"):
        settings = run.settings
        family = json.dumps({k: v for k, v in settings.data.items() if not k.endswith("_size")}, default=str)
        if family not in crystals:
            crystals[family] = load_dataset(settings.data).crystal
        crystal = crystals[family]
        if crystal is None:
            continue
        level = settings.level.name
        if level not in found:
            if settings.data.get("kind") == "twin" and level not in references:
                found[level] = modes_of([twin_potentials(settings.data)[level]], crystal)
            elif level in known:
                found[level] = run_modes(known[level], crystal, DRAWS)
        modes = run_modes(RunDirectory(run.directory), crystal)
        run.numbers[OPTICAL] = modes.optical
        run.numbers["x_lowest_cm1"], run.numbers["x_highest_cm1"] = (
            float(v) for v in modes.mean[[modes.n_optical, -1]]
        )
        run.numbers["imaginary_modes"] = float((modes.mean < -2).sum())
        if level in found:
            run.numbers[PHONONS] = modes.mae(found[level])
    return found


def write_csv(sweep: SweepRuns, path: Path) -> None:
    """One row a job, finished or not."""
    axes = list(dict.fromkeys(k for run in sweep.runs for k in run.values))
    numbers = list(dict.fromkeys(k for run in sweep.runs for k in run.numbers))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "state", *axes, *numbers, "reason"])
        for run in sweep.runs:
            cells = [_cell(run.numbers.get(k)) for k in numbers]
            writer.writerow([run.name, run.state, *[run.values.get(k, "") for k in axes], *cells, run.reason])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
