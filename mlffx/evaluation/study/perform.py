"""Do the parts of a plan one after the other: what is done is not repeated, what fails does not stop the rest."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mlffx.errors import UserError
from mlffx.evaluation import configured
from mlffx.evaluation.run import show
from mlffx.evaluation.study.plan import Entry, Part, Plan
from mlffx.evaluation.study.record import Record, span
from mlffx.training.run_directory import RunDirectory


def perform(plan: Plan, *, force: bool = False, progress: bool = True) -> Record:
    """Train, evaluate, control and run the dynamics of everything in a plan.

    Writes `OUTPUT/status.json` after every part and what a part prints into `OUTPUT/logs/`.

    Args:
        force: repeat evaluations that are current.
        progress: a bar with the time left, on a terminal.

    Raises:
        KeyboardInterrupt: after noting it; the same call goes on later.
    """
    record = Record(plan.parts, plan.output / "status.json")
    earlier = record.earlier_seconds()
    for part in plan.parts:
        if done_before(part, force):
            record.outcomes[part.name].estimate = 0.0
    console = Console(file=sys.stderr, soft_wrap=True)  # the one of now: parts write into their logs
    console.print(f"{plan.settings.name}: {len(plan.entries)} runs, {_forecast(record)}", highlight=False)
    for x in plan.left_out:
        console.print(f"  left out  {x.name}: {x.reason}", highlight=False)
    record.write()
    with _bar(console, progress, len(plan.parts)) as advance:
        for number, part in enumerate(plan.parts, 1):
            advance(number - 1, part.name, record.seconds_left())
            line = _perform_one(plan, part, record, force, earlier.get(part.name))
            left = record.seconds_left()
            behind = f"; about {span(left)} left" if left > 0 else ""
            console.print(f"[{number}/{len(plan.parts)}] {part.name}: {line}{behind}", highlight=False, markup=False)
        advance(len(plan.parts), "done", 0.0)
    return record


def done_before(part: Part, force: bool = False) -> bool:
    """Whether an earlier call has done a part and nothing it depends on has changed; with `force` only trainings."""
    trained = RunDirectory(part.entry.path).status() == "finished"
    if part.step == "train" or not trained:
        return trained
    return not force and _why(part) is None


def _why(part: Part) -> str | None:
    """Why the evaluation has to be made; None where it is current."""
    entry, moving = part.entry, part.step == "dynamics"
    settings = entry.evaluate_settings(dynamics=moving)
    controls = entry.controls if part.step == "controls" else ()
    asked = replace(settings, controls=controls, dynamics=settings.dynamics if moving else {})
    return configured.outdated(entry.path, asked)


def _perform_one(plan: Plan, part: Part, record: Record, force: bool, before: float | None) -> str:
    """Do one part, note what became of it, and say it in a line."""
    if missing := record.missing(part.needs):
        record.set(part.name, "impossible", reason=f"{missing[0].split()[-1]} did not succeed")
        return f"impossible, because {missing[0]} did not succeed"
    log = log_of(plan.output, part)
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    try:
        if done_before(part, force):
            record.set(part.name, "reused", before)
            return "done before"
        record.set(part.name, "running")
        with log.open("w", encoding="utf-8") as f, contextlib.redirect_stdout(f), contextlib.redirect_stderr(f):
            _work(part, record)
    except KeyboardInterrupt:
        record.set(part.name, "interrupted", reason="go on with the same command")
        raise
    except Exception as error:  # one of many parts: the others are still of use
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split())[:300]
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        record.set(part.name, "failed", time.perf_counter() - began, reason, str(log))
        return f"FAILED after {span(time.perf_counter() - began)}: {reason} (see {log})"
    seconds = time.perf_counter() - began
    record.set(part.name, "finished", seconds, log=str(log))
    return span(seconds)


def log_of(output: Path, part: Part) -> Path:
    """Where a part's output is kept."""
    return output / "logs" / f"{part.name.replace('/', '-').replace(' ', '-')}.log"


def _work(part: Part, record: Record) -> None:
    entry = part.entry
    if part.step == "train":
        train_entry(entry)
        return
    kept = part.step == "dynamics" and _succeeded(f"{entry.name} controls", record)
    controls = entry.controls if part.step == "controls" or kept else ()
    evaluate_entry(entry, controls, dynamics=part.step == "dynamics")


def _succeeded(name: str, record: Record) -> bool:
    return name in record.outcomes and not record.missing([name])


def train_entry(entry: Entry) -> None:
    """Train a run of the study, its bases first; an interrupted one is gone on with."""
    from mlffx.training.train import train_cached

    train_cached(entry.config, entry.config["cache_dir"], Console(stderr=True))


def evaluate_entry(entry: Entry, controls: Any = (), dynamics: bool = False) -> None:
    """Evaluate a run of the study into its own directory."""
    settings = replace(entry.evaluate_settings(dynamics), controls=controls, progress=False)
    overrides = [*entry.evaluation, *(entry.dynamics if dynamics else [])]
    if controls not in ((), "none"):
        overrides.append(f"controls={controls}".replace("'", "").replace(" ", ""))
    show(configured.make(entry.path, settings, f"python evaluate.py run={entry.path} {' '.join(overrides)}"))


def _forecast(record: Record) -> str:
    """What is to be done and how long it will take."""
    estimates = [outcome.estimate for outcome in record.outcomes.values()]
    done = estimates.count(0.0)
    if done == len(estimates):
        return f"all {done} parts done before"
    before = f", {done} done before" if done else ""
    return f"{len(estimates)} parts{before}: about {span(sum(estimates))} on two cores"


@contextlib.contextmanager
def _bar(console: Console, show: bool, total: int) -> Iterator[Callable[[int, str, float], None]]:
    """One bar over all parts with the time left; silent where nobody watches."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    enabled = show and console.is_terminal
    bar = Progress(*columns, TextColumn("{task.fields[left]}"), console=console, disable=not enabled, transient=True)
    with bar:
        task = bar.add_task("", total=total, left="")

        def advance(done: int, name: str, left: float) -> None:
            bar.update(task, completed=done, description=name, left=f"about {span(left)} left" if left else "")

        yield advance
