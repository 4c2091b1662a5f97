"""Every benchmark in turn, on one page a day and kind of machine: `make bench`, or

    python -m benchmarks                          # what needs no other environment, about ten minutes on two cores
    python -m benchmarks --only startup scaling   # some of them, with their defaults
    python -m benchmarks --only peers time_to_phonons architectures   # what takes longer, or installs peers

The page goes to benchmarks/results/; a benchmark that is run again on the same day replaces its section. Figures of
shared machines are worth their ratios only. `python benchmarks/NAME.py --help` explains one and its options.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
USUAL = {
    "startup": [],
    "models": ["painn", "schnet", "bpnn", "nequip", "mace"],
    "scaling": [],
    "force_constants": ["--supercells", "2", "3", "4"],
    "ewald": [],
    "dynamics": [],
    "ddp": [],
    "end_to_end": ["--experiment", "boron_nitride_delta"],
}
LONG = {
    "peers": [],
    "time_to_phonons": [],
    "architectures": [],
    "ionic_twin": [],
    "lih_range": [],
    "lih_ladder": [],
    "injected_noise": [],
    "stacked_members": ["painn"],
    "active_learning": [],
}


def kind_of_machine() -> str:
    """`cpu-2-cores`, or with the name of the accelerator."""
    import torch

    device = torch.cuda.get_device_name().lower().replace(" ", "-") if torch.cuda.is_available() else "cpu"
    return f"{device}-{len(os.sched_getaffinity(0))}-cores"


def header(kind: str) -> str:
    """What the numbers depend on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric", "e3nn", "phonopy", "numpy"))
    return (
        f"# Benchmarks, {time.strftime('%Y-%m-%d')}, {kind}\n\n"
        f"{platform.machine()}, Python {platform.python_version()}, {packages}; "
        f"commit {commit.stdout.strip() or 'unknown'}. Compare ratios within a section only.\n"
    )


def section(name: str, command: list[str], output: str, seconds: float) -> str:
    """One benchmark with its command. Lines of a table stay a table, everything else is verbatim."""
    text = output.strip() if "|---" in output else f"```\n{output.strip()}\n```"
    return f"\n## {name}\n\n`python {' '.join(command)}`, {seconds:.0f} s\n\n{text}\n"


def put(page: str, name: str, text: str) -> str:
    """The page with the section of this name replaced, or appended."""
    pattern = re.compile(rf"\n## {re.escape(name)}\n.*?(?=\n## |\Z)", re.DOTALL)
    return pattern.sub(lambda _: text, page) if pattern.search(page) else page + text


def main() -> int:
    """Exit status of the first benchmark that fails, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*USUAL, *LONG], default=list(USUAL))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    kind = kind_of_machine()
    path = arguments.out / f"{time.strftime('%Y-%m-%d')}-{kind}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    page = path.read_text() if path.is_file() else header(kind)
    for name in arguments.only:
        command = [f"benchmarks/{name}.py", *{**USUAL, **LONG}[name]]
        print(f"== {' '.join(command)}", flush=True)
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, *command], cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return done.returncode
        print(done.stdout, flush=True)
        page = put(page, name, section(name, command, done.stdout, time.perf_counter() - begun))
        path.write_text(page)
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
