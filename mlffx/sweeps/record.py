"""What a sweep writes down of itself (sweep.yaml), and what it says to each of its jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from mlffx.errors import UserError
from mlffx.sweeps.plan import Job, Sweep
from mlffx.training.run_directory import write_atomically

RECORD = "sweep.yaml"


def record(asked: Sweep, jobs: Iterable[Job], sweep_dir: Path) -> None:
    """sweep.yaml: axes and jobs, those of earlier starts with other values included."""
    path = sweep_dir / RECORD
    try:
        sweep_dir.mkdir(parents=True, exist_ok=True)
        before = yaml.safe_load(path.read_text()) if path.is_file() else {}
        known = before.get("jobs", {}) | {job.name: {"values": job.values, "overrides": job.overrides} for job in jobs}
        record: dict[str, Any] = {"name": asked.name, "command": "python train.py " + " ".join(sys.argv[1:])}
        record |= {"axes": [axis.name for axis in asked.axes], "jobs": known}
        record["references"] = {level: job.name for level, job in asked.reference_jobs().items()}
        write_atomically(path, yaml.safe_dump(record, sort_keys=False, width=10_000))
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", "set sweep_dir=...", sweep_dir) from error


def own_overrides(config: dict[str, Any], name: str, threads: int) -> list[str]:
    """What a sweep says to its jobs unless they say it themselves: no bars, as many workers as threads, the group."""
    more = ["trainer.progress=false"]
    if config["trainer"].get("workers") is None:
        more.append(f"trainer.workers={threads}")
    if config["wandb"].get("group") is None:
        more.append(f"wandb.group='{name}'")
    return more
