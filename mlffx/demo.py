"""`make demo`: the main job with its defaults, on the paper's data where it is at hand, else on the analytic twin."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from mlffx.compose import composed, plain
from mlffx.data.dataset import load_dataset
from mlffx.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Train and evaluate; returns the exit status of the first step that fails."""
    try:
        load_dataset(plain(composed("train", ["data=diamond"]))["data"])
        experiment, level = "diamond_delta", "ccsdt"
        print("demo: coupled-cluster phonons of diamond, from the paper's labels")
    except UserError as missing:
        experiment, level = "twin_delta", "high"
        print(f"demo: the paper's data is not at hand ({missing})")
        print("demo: the analytic twin of diamond instead, whose phonons are known exactly")
    run = f"runs/demo-{time.strftime('%Y%m%d-%H%M%S')}"
    for command in (
        ["train.py", f"experiment={experiment}", f"level={level}", f"run_dir={run}"],
        ["evaluate.py", f"run={run}"],
    ):
        print("$ python " + " ".join(command), flush=True)
        status = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
