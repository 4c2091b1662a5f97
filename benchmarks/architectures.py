"""Every architecture on the same labels: what it costs, how well it predicts, and what its phonons are worth.

    python benchmarks/architectures.py --out runs/architectures > table.md
    python benchmarks/architectures.py --models painn mace --seeds 0 --epochs 50 --workers 2

The paper's diamond: DFT labels of 160 training, 20 validation and 20 test structures (the same for every seed), sizes
of conf/model, loss and optimizer of conf/train.yaml. Each network is trained on energies and forces and again on
energies alone; the first is then the base of a CCSD(T) - DFT delta by closed-form readout, and the start of fine-tuning
on CCSD(T) energies (learning rate 1e-3). Errors of energies and forces are root mean squares over the test structures.
Phonon errors are mean absolute differences over the nine modes at GAMMA (optical) and X, sorted, to force constants
fitted to the DFT forces of the same structures. Force constants themselves are in the table too: one fit, whatever the
seed, and their delta is linear as well.

Runs are kept in --out: what is finished is not repeated, what was interrupted goes on. The table goes to standard
output and, with the rows of every seed, to OUT/architectures.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import TASKS, measure

from mlffx.compose import composed, plain
from mlffx.data.crystal import Crystal
from mlffx.data.dataset import load_dataset
from mlffx.errors import UserError
from mlffx.evaluation.modes import modes_of
from mlffx.potentials.base import Potential
from mlffx.training.run_directory import RunDirectory, load_members, write_atomically
from mlffx.training.settings import TrainSettings
from mlffx.training.train import train

REFERENCE = "force_constants"
MODELS = ("bpnn", "schnet", "painn", "nequip", "mace", REFERENCE)
LABELS = ["data=diamond", "data.train_size=160", "split_seed=0", "logger=csv", "trainer.progress=false"]
KINDS: dict[str, list[str]] = {
    "forces": ["level=dft", "loss=energy_forces"],
    "energies": ["level=dft", "loss=energy"],
    "delta": ["level=ccsdt", "potential=delta"],
    "tuned": ["level=ccsdt", "potential=direct", "optimizer.lr=1e-3"],
}
COLUMNS = {  # of the table: heading -> key of a row
    "energy, meV/atom": "energy",
    "force, meV/A": "force",
    "force (E only)": "force_blind",
    "phonons, cm-1": "phonons",
    "phonons (E only)": "phonons_blind",
    "CCSD(T) shift at GAMMA, cm-1": "shift",
    "by fine-tuning": "shift_tuned",
}


def configuration(model: str, seed: int, kind: str, out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Composed configuration of one run."""
    overrides = [*LABELS, *KINDS[kind], f"model={model}", f"seed={seed}", f"trainer.max_epochs={arguments.epochs}"]
    if kind == "delta":
        overrides.append(f"potential.base='{place(out, model, seed, 'forces')}'")
    if kind == "tuned":
        overrides.append(f"model.init_from='{place(out, model, seed, 'forces')}'")
    return plain(composed("train", [*overrides, *arguments.overrides]))


def place(out: Path, model: str, seed: int, kind: str) -> Path:
    return out.resolve() / model / f"seed{seed}" / kind


def modes(potential: Potential, crystal: Crystal) -> dict[str, list[float]]:
    """Frequencies at GAMMA (optical) and X, ascending, cm-1."""
    found = modes_of([potential], crystal)
    return {"GAMMA": found.mean[: found.n_optical].tolist(), "X": found.mean[found.n_optical :].tolist()}


def work(model: str, seed: int, kinds: Sequence[str], out: Path, arguments: argparse.Namespace) -> None:
    """Runs of one model and seed, one after the other, each with its errors and modes in result.json; own process."""
    torch.set_num_threads(1)
    for kind in kinds:
        folder = place(out, model, seed, kind)
        if (folder / "result.json").is_file():
            continue
        config = configuration(model, seed, kind, out, arguments)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("a") as log, contextlib.redirect_stderr(log):
            if RunDirectory(folder).status() != "finished":
                train(config, None, directory=folder)
            crystal = load_dataset(config["data"]).crystal
            assert crystal is not None
            potential = load_members(folder)[0]
            result = {"modes": modes(potential, crystal), **RunDirectory(folder).read_metrics()}
        write_atomically(folder / "result.json", json.dumps(result, indent=1))


def jobs(out: Path, arguments: argparse.Namespace) -> list[tuple[str, int, tuple[str, ...]]]:
    """Model, seed and runs that belong in one process; the reference and the slowest first."""
    found: list[tuple[str, int, tuple[str, ...]]] = [(REFERENCE, 0, ("forces",))]
    if REFERENCE in arguments.models:
        found = [(REFERENCE, 0, ("forces", "energies", "delta"))]
    for model in reversed([m for m in MODELS if m in arguments.models and m != REFERENCE]):
        for seed in arguments.seeds:
            found += [(model, seed, ("forces", "delta", "tuned")), (model, seed, ("energies",))]
    return found


def train_all(out: Path, arguments: argparse.Namespace) -> int:
    """Work through the jobs, several at a time; the number that failed (their log.txt says why)."""
    failed = 0
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        waiting = {
            pool.submit(work, model, seed, kinds, out, arguments): f"{model} seed {seed} ({', '.join(kinds)})"
            for model, seed, kinds in jobs(out, arguments)
        }
        for done, job in enumerate(as_completed(waiting), 1):
            error = job.exception()
            failed += error is not None
            reason = "".join(traceback.format_exception_only(error)).strip() if error else "done"
            print(f"[{done}/{len(waiting)}] {waiting[job]}: {reason}", file=sys.stderr, flush=True)
    return failed


def timings(out: Path, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Parameters and seconds a structure of each model, one thread, batches of 5, in turns; measured once."""
    path = out / "timings.json"
    known: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
    waiting = [m for m in arguments.models if m not in known]
    if waiting:
        torch.set_num_threads(1)
        options = {m: TrainSettings.read(configuration(m, 0, "forces", out, arguments)).model for m in waiting}
        texts = {_as_text(given): m for m, given in options.items()}
        how = argparse.Namespace(batch=5, rounds=arguments.rounds, precision="float32", device="cpu")
        known |= {texts[text]: row for text, row in measure(list(texts), how).items()}
        write_atomically(path, json.dumps(known, indent=1))
    return known


def _as_text(options: Mapping[str, Any]) -> str:
    """The model as `benchmarks/models.py` takes it: `bpnn:cutoff=4.0,zetas=[1,2]`."""
    given = {k: v for k, v in options.items() if k != "name" and v is not None}
    return f"{options['name']}:" + ",".join(f"{k}={json.dumps(v, separators=(',', ':'))}" for k, v in given.items())


def rows(out: Path, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Model -> one row a seed with whatever of its runs is finished."""
    reference = _result(place(out, REFERENCE, 0, "forces"))
    found = {}
    for model in [m for m in MODELS if m in arguments.models]:
        seeds = [0] if model == REFERENCE else arguments.seeds
        found[model] = [row(reference, lambda kind, m=model, s=s: _result(place(out, m, s, kind))) for s in seeds]
    return found


def row(reference: dict[str, Any] | None, result: Callable[[str], dict[str, Any] | None]) -> dict[str, float]:
    """The numbers of one model and seed."""
    numbers: dict[str, float] = {}
    for kind, suffix in (("forces", ""), ("energies", "_blind")):
        if (run := result(kind)) is not None:
            numbers[f"energy{suffix}"] = run["test_energy_rmse_meV_per_atom"]
            numbers[f"force{suffix}"] = run["test_forces_rmse_meV_per_A"]
            numbers[f"train_seconds{suffix}"] = run["train_seconds"]
            if reference is not None:
                numbers[f"phonons{suffix}"] = float(np.mean(np.abs(_flat(run["modes"]) - _flat(reference["modes"]))))
    for kind, name in (("delta", "shift"), ("tuned", "shift_tuned")):
        if (run := result(kind)) is not None and (low := result("forces")) is not None:
            numbers[name] = float(np.mean(run["modes"]["GAMMA"]) - np.mean(low["modes"]["GAMMA"]))
    return numbers


def _result(folder: Path) -> dict[str, Any] | None:
    path = folder / "result.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _flat(found: Mapping[str, Sequence[float]]) -> np.ndarray:
    return np.concatenate([found["GAMMA"], found["X"]])


def markdown(found: Mapping[str, list[dict[str, float]]], speed: Mapping[str, dict[str, float]]) -> str:
    """The table; mean and, over several seeds, standard deviation."""
    heads = ["architecture", "parameters", "train E+F, s", "eval E+F, s", *COLUMNS]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for model, seeds in found.items():
        name = f"{model} (reference)" if model == REFERENCE else model
        times = [f"{speed[model][task]:.4f}" for task in (TASKS[1], TASKS[2])]
        cells = [_cell([r[key] for r in seeds if key in r]) for key in COLUMNS.values()]
        lines.append("| " + " | ".join([name, f"{int(speed[model]['parameters'])}", *times, *cells]) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2f}" if abs(statistics.mean(values)) < 10 else f"{statistics.mean(values):.1f}"
    return mean + (f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes, one thread each")
    parser.add_argument("--rounds", type=int, default=10, help="of the timings")
    parser.add_argument("--out", type=Path, default=Path("runs/architectures"))
    parser.add_argument("overrides", nargs="*", help="of conf/train.yaml for every run, e.g. trainer.batch_size=8")
    arguments = parser.parse_intermixed_args()
    out: Path = arguments.out
    try:
        load_dataset(configuration(REFERENCE, 0, "forces", out, arguments)["data"])
        for model in arguments.models:
            TrainSettings.read(configuration(model, 0, "forces", out, arguments))
    except UserError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 0
    settings = {"epochs": arguments.epochs, "overrides": arguments.overrides}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "settings.json"
    if path.is_file() and (before := json.loads(path.read_text())) != settings:
        print(f"{out} holds runs with {before}, not {settings}: take another --out", file=sys.stderr)
        return 2
    write_atomically(path, json.dumps(settings))
    speed = timings(out, arguments)
    failed = train_all(out, arguments)
    found = rows(out, arguments)
    report = {"settings": settings | {"seeds": arguments.seeds}, "timings": speed, "rows": found}
    write_atomically(out / "architectures.json", json.dumps(report, indent=1))
    print(markdown(found, speed))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
