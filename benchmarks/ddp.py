"""Efficiency of training on several processes: wall time of the same epochs on 1 and on N, one thread each.

    python benchmarks/ddp.py [--devices 1 2] [--epochs 20] [--accelerator cpu] [--model painn]

Energies and forces of the low level of the twin of diamond, batches of 16 structures, all devices together. Every
number is taken from two runs of the command, with 2 epochs and with that many more, so that starting up cancels.
Efficiency is time on one device / (N x time on N).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FEW = 2  # epochs


def seconds(options: argparse.Namespace, devices: int, epochs: int) -> float:
    """Wall time of one run of train.py."""
    with tempfile.TemporaryDirectory() as out:
        command = ["train.py", "data=diamond_twin", "potential=direct", "level=low", f"model={options.model}"]
        command += ["trainer=ddp", f"trainer.devices={devices}", f"trainer.accelerator={options.accelerator}"]
        command += [f"trainer.max_epochs={epochs}", "trainer.batch_size=16", "trainer.threads=1", "logger=csv"]
        command += ["trainer.progress=false", f"run_dir={Path(out) / 'run'}"]
        begun = time.perf_counter()
        limits = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, env=limits)
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--model", default="painn")
    options = parser.parse_args()
    print("| processes | s an epoch | efficiency |\n|---|---|---|")
    first = None
    for devices in options.devices:
        few, many = (seconds(options, devices, n) for n in (FEW, FEW + options.epochs))
        epoch = (many - few) / options.epochs
        first = first or epoch * devices
        print(f"| {devices} | {epoch:.3f} | {first / (devices * epoch):.2f} |", flush=True)


if __name__ == "__main__":
    main()
