"""`make demo`: the main job with its defaults, on the first labels that are at hand; the analytic twin always is."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mlffx.compose import composed, plain
from mlffx.data.dataset import load_dataset
from mlffx.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    """What the demo can do.

    Attributes:
        experiment, level: as for train.py.
        about: for people.
        evaluation: overrides of evaluate.py.
    """

    experiment: str
    level: str
    about: str
    evaluation: tuple[str, ...] = ()


JOBS = (  # the first whose labels are there
    Job("diamond_delta", "ccsdt", "coupled-cluster phonons of diamond, from the paper's labels"),
    Job(
        "twin_delta",
        "high",
        "the analytic twin of diamond, whose phonons are known exactly; and finite differences of it",
        ("controls=[settle]",),
    ),
)


def at_hand(job: Job) -> str | None:
    """Why the labels of a job cannot be used; None where they are there."""
    try:
        load_dataset(plain(composed("train", [f"experiment={job.experiment}", f"level={job.level}"]))["data"])
    except UserError as missing:
        return str(missing)
    return None


def main() -> int:
    """Train and evaluate; returns the exit status of the first step that fails."""
    for job in JOBS:
        if (missing := at_hand(job)) is None:
            break
        print(f"demo: not {job.about} ({missing})")
    print(f"demo: {job.about}")
    run = f"runs/demo-{time.strftime('%Y%m%d-%H%M%S')}"
    for command in (
        ["train.py", f"experiment={job.experiment}", f"level={job.level}", f"run_dir={run}"],
        ["evaluate.py", f"run={run}", *job.evaluation],
    ):
        print("$ python " + " ".join(command), flush=True)
        status = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
