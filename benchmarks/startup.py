"""Seconds until something happens: importing mlffx, the help texts, composing and checking a configuration.

    python benchmarks/startup.py [--repeats 3]

Fastest of the repeats, each in a process of its own; what a bare interpreter and importing torch cost stands beside it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "python, nothing else": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import mlffx": ["-c", "import mlffx"],
    "import mlffx.models": ["-c", "import mlffx.models"],
    "train.py --help": ["train.py", "--help"],
    "train.py print=true": ["train.py", "experiment=twin_delta", "print=true"],
    "evaluate.py --help": ["evaluate.py", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| command | wall, s |\n|---|---|")
    for name, arguments in COMMANDS.items():
        times = []
        for _ in range(options.repeats + 1):  # the first one fills the caches of the disk
            begun = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
            times.append(time.perf_counter() - begun)
        print(f"| {name} | {min(times[1:]):.2f} |", flush=True)


if __name__ == "__main__":
    main()
