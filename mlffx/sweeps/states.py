"""What there is of every job already: nothing, a finished run that is the same, one to go on with, or another one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlffx.compose import composed, plain
from mlffx.errors import UserError
from mlffx.sweeps.launchers import is_queued
from mlffx.sweeps.plan import Job
from mlffx.sweeps.worker import Work, again, is_locked
from mlffx.training.entry import base_config
from mlffx.training.run_directory import WITHOUT_EFFECT, RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare
from mlffx.training.train import rehearse

DONE = ("finished", "pruned")
BUSY = ("running elsewhere", "queued")


@dataclass(frozen=True)
class Found:
    """A job and what there is of it.

    Attributes:
        state: `finished`, `pruned`, `running elsewhere`, `queued`, `begun` (goes on from its checkpoint) or `missing`.
        config: composed, with its run directory.
    """

    job: Job
    directory: Path
    state: str
    config: dict[str, Any]

    def work(self, threads: int, more: Sequence[str] = ()) -> Work:
        """What is to be done for it."""
        overrides = [*self.job.overrides, *more, f"run_dir='{self.directory}'"]
        return again(Work(self.job.name, self.directory, overrides, threads))


def find(jobs: Sequence[Job], sweep_dir: Path) -> list[Found]:
    """Compose every job and look for its run.

    Raises:
        UserError: for a mistake in any job, and for a run of another configuration in its place.
    """
    found = []
    for job in jobs:
        directory = sweep_dir / job.name
        config = plain(composed("train", [*job.overrides, f"run_dir='{directory}'"]))
        settings = TrainSettings.read(config)
        found.append(Found(job, directory, _state(directory, settings), config))
    return found


def _state(directory: Path, wanted: TrainSettings) -> str:
    run = RunDirectory(directory)
    status = run.status()
    if not run.config.is_file():
        queued = status == "submitted" and is_queued(_job_id(directory))
        return "running elsewhere" if is_locked(directory) else "queued" if queued else "missing"
    if differing := differences(TrainSettings.read(run.read_config()), wanted):
        if status == "failed" and not is_locked(directory):
            _clear(directory)  # it failed as it was, and is now asked for differently
            return "missing"
        key, (there, asked) = next(iter(differing.items()))
        raise UserError(f"holds a run with {key}={there}, not {asked}", "take another sweep_dir", directory)
    if status == "finished" and not (directory / "metrics.json").is_file():
        run.set_status("interrupted")  # written by an earlier version, which said so before the metrics were there
        return "begun"
    if status in DONE:
        return status
    if is_locked(directory):
        return "running elsewhere"
    return "queued" if status == "submitted" and is_queued(_job_id(directory)) else "begun"


def differences(there: TrainSettings, wanted: TrainSettings) -> dict[str, tuple[Any, Any]]:
    """Keys that decide the result and differ, with both values."""
    left, right = (dict(_flat(_decisive(s))) for s in (there, wanted))
    return {k: (left.get(k), right.get(k)) for k in sorted({*left, *right}) if left.get(k) != right.get(k)}


def _decisive(settings: TrainSettings) -> dict[str, Any]:
    """Without what changes where and how a run is computed, but not what."""
    values = asdict(settings)
    for key in WITHOUT_EFFECT[""]:
        values.pop(key, None)
    for key in WITHOUT_EFFECT["trainer"]:
        values["trainer"].pop(key, None)
    return values


def _flat(values: Mapping[str, Any], prefix: str = "") -> Any:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _job_id(directory: Path) -> str:
    return str(json.loads((directory / "status.json").read_text()).get("job_id", ""))


def _clear(directory: Path) -> None:
    """Begin anew: without checkpoints and configuration nothing is resumed."""
    for path in [*directory.rglob("*.ckpt"), directory / "config.yaml", directory / "metrics.csv"]:
        path.unlink(missing_ok=True)


def check(jobs: Sequence[Job]) -> None:
    """Data, targets, model and one graph of each job and of its base, as a run itself does before it starts.

    Raises:
        UserError: for a mistake in any of them.
    """
    seen: set[str] = set()
    for job in jobs:
        config = plain(composed("train", job.overrides))
        stages: list[dict[str, Any]] = [config]
        base = base_config(config, job.overrides)
        while base is not None:  # the base of a base, in a ladder
            stages.append({k: v for k, v in base.items() if k != "base"})
            base = base.get("base")
        for values in stages:
            settings = TrainSettings.read(values)
            key = json.dumps(_decisive(settings), sort_keys=True, default=str)
            if key not in seen:
                rehearse(settings, prepare(settings))
            seen.add(key)
