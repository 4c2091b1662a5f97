"""`python train.py -m ...`: the jobs of a sweep, those that are missing, and where they run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlffx.compose import CONTROL, composed, key_of
from mlffx.errors import UserError
from mlffx.sweeps.launchers import Launcher, launch, read_launcher
from mlffx.sweeps.plan import Sweep, read_file, read_sweep
from mlffx.sweeps.record import own_overrides, record
from mlffx.sweeps.search import read_search, search
from mlffx.sweeps.states import BUSY, DONE, Found, check, find
from mlffx.sweeps.worker import Outcome
from mlffx.training.run_directory import RunDirectory


def sweep(arguments: Sequence[str]) -> None:
    """Run a sweep; `arguments` are the overrides of `train.py -m`.

    Raises:
        UserError: for a mistake in any job, before the first one starts.
        SystemExit: with status 1 when jobs failed.
    """
    for argument in arguments:
        if key_of(argument).startswith("hydra"):
            remedy = "use launcher=, sweep_dir= and search.trials= (python train.py --help)"
            raise UserError("sweeps are not Hydra's", remedy, key_of(argument))
    control = [a for a in arguments if key_of(a).split(".")[0] in CONTROL]
    config = composed("train", control)
    if config.sweep is not None:
        declared = [
            f"search.{key}={'null' if value is None else value}"
            for key, value in read_file(config.sweep).search.items()
        ]
        config = composed("train", [*declared, *control])
    launcher = read_launcher(_plain(config.launcher))
    settings = read_search(_plain(config.search))
    asked = read_sweep(config.sweep, [a for a in arguments if a not in control])
    console = Console(stderr=True, highlight=False)
    if config.print:
        return _show(asked, find(asked.jobs(), _directory(config.sweep_dir, asked)) if not asked.intervals else [])
    console.print(f"{asked.name}: checking", soft_wrap=True)
    sweep_dir = _directory(config.sweep_dir, asked)
    if settings.trials is not None:
        _refuse_run_dir(arguments)
        outcomes = search(asked, settings, launcher, sweep_dir, console)
    else:
        outcomes = _grid(asked, launcher, sweep_dir, arguments, console)
    _conclude(outcomes, sweep_dir, console)
    return None


def _grid(
    asked: Sweep, launcher: Launcher, sweep_dir: Path, arguments: Sequence[str], console: Console
) -> list[Outcome]:
    """Every combination, or what is missing of it."""
    if asked.intervals:
        key = next(iter(asked.intervals))
        raise UserError("an interval has no values to go through", "give values, or search.trials=40 to search", key)
    references = asked.reference_jobs()
    jobs = [*asked.jobs(), *references.values()]
    found = find(jobs, sweep_dir)
    _refuse_run_dir(arguments)
    waiting = [f for f in found if f.state not in (*DONE, *BUSY)]
    names = {f.job.name for f in waiting}
    probes = [job for job in [*asked.probes(), *references.values()] if job.name in names]
    check(probes or [f.job for f in waiting[:1]])
    record(asked, asked.jobs(), sweep_dir)
    _announce(found, launcher, sweep_dir, console)
    works = []
    for f in waiting:
        f.directory.mkdir(parents=True, exist_ok=True)
        works.append(f.work(launcher.threads_each(), own_overrides(f.config, asked.name, launcher.threads_each())))
    busy = [Outcome(f.job.name, f.state) for f in found if f.state in BUSY]
    return busy + _follow(launch(works, launcher, sweep_dir), len(works), sweep_dir, console)


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(k): v for k, v in values.items()}


def _directory(given: str | None, asked: Sweep) -> Path:
    return Path(given) if given else Path("multirun") / asked.name


def _refuse_run_dir(arguments: Sequence[str]) -> None:
    if any(key_of(a) == "run_dir" for a in arguments):
        raise UserError("the jobs of a sweep have a directory each", "set sweep_dir=...", "run_dir")


def _show(asked: Sweep, found: Sequence[Found]) -> None:
    """print=true: the jobs and what there is of each."""
    for key in asked.intervals:
        print(f"search over {asked.intervals[key].input_line}")
    for f in found:
        print(f"{f.state:<18} {f.job.name}   {' '.join(f.job.overrides)}")


def _announce(found: Sequence[Found], launcher: Launcher, sweep_dir: Path, console: Console) -> None:
    there = Counter(f.state for f in found)
    states = ", ".join(f"{n} {state}" for state, n in there.items())
    how = f"{launcher.name}, {launcher.threads_each()} thread(s) a job"
    console.print(f"{len(found)} jobs ({states}), {how}, into {sweep_dir}", soft_wrap=True)


def _follow(outcomes: Iterable[Outcome], total: int, sweep_dir: Path, console: Console) -> list[Outcome]:
    """A line a job and, on a terminal, a bar with the time left."""
    seen: list[Outcome] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("jobs", total=total)
        for outcome in outcomes:
            seen.append(outcome)
            bar.advance(task)
            console.print(f"[{len(seen)}/{total}] {line_of(outcome, sweep_dir)}", markup=False, soft_wrap=True)
    return seen


def line_of(outcome: Outcome, sweep_dir: Path) -> str:
    """`model=painn,seed=0: finished, 0.42 meV/atom, 31 s`."""
    if outcome.state != "finished":
        return f"{outcome.name}: {outcome.state}" + (f" ({outcome.reason})" if outcome.reason else "")
    try:
        metrics = RunDirectory(sweep_dir / outcome.name).read_metrics()
    except (OSError, json.JSONDecodeError):
        return f"{outcome.name}: finished"
    error = metrics.get("test_energy_rmse_meV_per_atom")
    parts = ["finished", *([f"{error:.3g} meV/atom"] if error is not None else []), f"{metrics['train_seconds']:.0f} s"]
    return f"{outcome.name}: {', '.join(parts)}"


def _conclude(outcomes: Sequence[Outcome], sweep_dir: Path, console: Console) -> None:
    failed = [o for o in outcomes if o.state == "failed"]
    for outcome in failed:
        console.print(f"failed: {outcome.name}: {outcome.reason}", markup=False, soft_wrap=True)
    if any(o.state in (*BUSY, "submitted", "running") for o in outcomes):
        console.print("some jobs are queued or run elsewhere: the same command later shows how far they are")
    console.print(f"summary: python -m mlffx.evaluation.summarize {sweep_dir}", soft_wrap=True)
    if failed:
        console.print("the same command again tries the failed ones once more")
        raise SystemExit(1)
