"""`make demo`: the main job with its defaults, on the labels that are shipped: CCSD(T) phonons of boron nitride."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commands(run: str) -> list[list[str]]:
    """What the demo does, as one would type it after `python`."""
    return [
        ["train.py", "experiment=boron_nitride_delta", "level=ccsdt", f"run_dir={run}"],
        ["evaluate.py", f"run={run}", "phonons.supercell=1"],  # the labels' own cell: they say nothing beyond it
    ]


def main() -> int:
    """Train and evaluate; returns the exit status of the first step that fails."""
    print("demo: CCSD(T) phonons of cubic boron nitride, from the energies of data/boron_nitride")
    for command in commands(f"runs/demo-{time.strftime('%Y%m%d-%H%M%S')}"):
        print("$ python " + " ".join(command), flush=True)
        if status := subprocess.run([sys.executable, *command], cwd=ROOT).returncode:
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
