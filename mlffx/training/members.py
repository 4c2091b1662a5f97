"""Members of an ensemble of networks: in this process, or several at a time with one thread each."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlffx.potentials.base import Potential
from mlffx.potentials.build import load_potential, save_potential
from mlffx.training.callbacks import errors_line
from mlffx.training.gradient import fit_by_gradient
from mlffx.training.loggers import build_logger
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task, prepare

POLL_SECONDS = 0.5


def fit_member(
    settings: TrainSettings, task: Task, member: int, directory: RunDirectory, base: Potential | None
) -> None:
    """Train one member to the end in this process."""
    if settings.trainer.threads:
        torch.set_num_threads(settings.trainer.threads)
    logger = build_logger(settings, directory, member)
    try:
        fit_by_gradient(settings, task, member, directory, base, logger)
    finally:
        if logger is not None:
            logger.close()
    directory.set_status("finished")


def _work(config: Mapping[str, Any], member: int, directory: Path, base: Path | None) -> None:
    """In a process of its own: everything again from the configuration, one thread, no bar."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    settings = TrainSettings.read(config)
    settings = replace(settings, trainer=replace(settings.trainer, progress=False, threads=1))
    potential = None if base is None else load_potential(base)
    fit_member(settings, prepare(settings), member, RunDirectory(directory), potential)


def _end_with_parent() -> None:
    """A killed run must not leave workers training on unseen; what they wrote is whole at any moment."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def fit_members_in_parallel(
    config: Mapping[str, Any],
    members: list[int],
    directories: list[RunDirectory],
    base: list[Potential] | None,
    workers: int,
) -> None:
    """Train the members `workers` at a time; one bar each, read from their metrics.csv."""
    settings = TrainSettings.read(config)
    with tempfile.TemporaryDirectory() as folder:
        bases: dict[int, Path | None] = {k: None for k in members}
        if base is not None:
            for k in members:
                bases[k] = Path(folder) / f"{k}.ckpt"
                save_potential(base[k], Path(folder) / f"{k}.ckpt")
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = {k: pool.submit(_work, config, k, directories[k].path, bases[k]) for k in members}
            try:
                _watch(jobs, directories, settings)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list((getattr(pool, "_processes", None) or {}).values()):
                    process.terminate()
                raise


def _watch(jobs: dict[int, Future], directories: list[RunDirectory], settings: TrainSettings) -> None:
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn()]
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        TextColumn("{task.fields[errors]}"),
        console=Console(stderr=True),
        disable=not settings.trainer.progress,
    )
    with bar:
        tasks = {k: bar.add_task(f"member {k}", total=settings.trainer.max_epochs, errors="") for k in jobs}
        while True:
            done = all(job.done() for job in jobs.values())
            for k, job in jobs.items():
                epoch, row = _last_row(directories[k].metrics)
                bar.update(tasks[k], completed=epoch, errors=errors_line(row))
                if job.done():
                    job.result()  # a failed member fails the run at once
            if done:
                return
            time.sleep(POLL_SECONDS)


def _last_row(path: Path) -> tuple[int, dict[str, str]]:
    """Epochs done and the last whole row of a metrics.csv that may be growing."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return int(rows[-1]["epoch"]) + 1, rows[-1]
    except (OSError, IndexError, ValueError, TypeError, KeyError):
        return 0, {}
