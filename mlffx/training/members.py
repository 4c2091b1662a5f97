"""Members of an ensemble of networks: in this process, several at a time, or each by several processes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlffx.errors import UserError
from mlffx.potentials.base import Potential
from mlffx.potentials.build import load_potential, save_potential
from mlffx.training.distributed import World, crew, leave, local_worlds, lost_another, surrounding_world
from mlffx.training.epoch_metrics import errors_line
from mlffx.training.gradient import fit_by_gradient
from mlffx.training.interruption import orderly_end
from mlffx.training.loggers import TrainingRun, build_logger
from mlffx.training.metrics import held_out_errors
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task, prepare

POLL_SECONDS = 0.5
GRACE_SECONDS = 25.0  # SLURM kills 30 s after it told to end
FAIL_SECONDS = 10.0  # for the other processes to miss one that failed


def fit_member(
    settings: TrainSettings,
    task: Task,
    member: int,
    directory: RunDirectory,
    base: Potential | None,
    world: World | None = None,
) -> None:
    """Train one member to the end in this process, alone or as one of those that train it together."""
    if settings.trainer.threads:
        torch.set_num_threads(settings.trainer.threads)
    first = world is None or world.rank == 0
    logger = build_logger(settings, directory, member) if first else None
    try:
        fit_by_gradient(settings, task, member, directory, base, [logger.log] if logger else [], world)
    except BaseException:
        if logger is not None:
            logger.close(exit_code=1)
        raise
    if logger is not None:
        _deliver(logger, settings, task)
    if first:
        directory.set_member_finished()


def log_fit(settings: TrainSettings, task: Task, member: int, directory: RunDirectory) -> None:
    """A member that was fitted in closed form, to W&B: it has no epochs, but a potential that others stand on."""
    logger = build_logger(settings, directory, member)
    if logger is not None:
        fit = json.loads(directory.fit.read_text()) if directory.fit.is_file() else {}
        logger.summarise({f"fit/{k}": v for k, v in fit.items() if isinstance(v, int | float | str)})
        _deliver(logger, settings, task)


def _deliver(logger: TrainingRun, settings: TrainSettings, task: Task) -> None:
    """Held-out errors and the potential; the run ends."""
    potential = load_potential(logger.directory.best).set_precision(torch.float64)
    logger.summarise(held_out_errors(potential, task, settings.level.name) | {"train_frames": len(task.split.train)})
    logger.deliver()
    logger.close()


def fit_members_in_turn(
    config: Mapping[str, Any],
    settings: TrainSettings,
    task: Task,
    members: list[int],
    directories: list[RunDirectory],
    base: list[Potential] | None,
) -> None:
    """One after the other in this process, together with those that srun or torchrun started beside it."""
    helpers = crew()
    shared = directories[0].path if helpers.world else None
    with _stored(base if helpers.world else None, members, shared) as bases:
        for k in members:
            job = {"config": dict(config), "member": k, "directory": str(directories[k].path), "base": bases[k]}
            helpers.post(job)
            fit_member(settings, task, k, directories[k], base[k] if base else None, helpers.world)


def help_fit(job: Mapping[str, Any]) -> None:
    """What `fit_members_in_turn` posts, in one of the other processes."""
    world = surrounding_world()
    settings = TrainSettings.read(job["config"])
    settings = replace(settings, trainer=replace(settings.trainer, progress=False))
    base = None if job["base"] is None else load_potential(Path(job["base"]))
    fit_member(settings, prepare(settings), job["member"], RunDirectory(job["directory"]), base, world)


def fit_members_in_parallel(
    config: Mapping[str, Any],
    members: list[int],
    directories: list[RunDirectory],
    base: list[Potential] | None,
    workers: int,
    threads: int = 1,
) -> None:
    """Train the members `workers` at a time, a process each; one bar each, read from their metrics.csv."""
    settings = TrainSettings.read(config)
    with _stored(base, members, None) as bases, _pool(workers) as pool:
        jobs = {k: [pool.submit(_work, config, k, directories[k].path, bases[k], threads, None)] for k in members}
        _watch(jobs, directories, settings)


def fit_members_with_devices(
    config: Mapping[str, Any],
    members: list[int],
    directories: list[RunDirectory],
    base: list[Potential] | None,
    threads: int,
) -> None:
    """Train the members in turn, each by one process a device of this machine."""
    settings = TrainSettings.read(config)
    with _stored(base, members, None) as bases:
        for k in members:
            worlds = local_worlds(settings.trainer.devices)
            with _pool(len(worlds)) as pool:
                jobs = [pool.submit(_work, config, k, directories[k].path, bases[k], threads, w) for w in worlds]
                _watch({k: jobs}, directories, settings)


@contextlib.contextmanager
def _stored(base: list[Potential] | None, members: list[int], beside: Path | None) -> Iterator[dict[int, str | None]]:
    """Files of the bases of the members, for other processes: beside a run (other nodes), or on this machine."""
    if beside is not None:
        beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".base-", dir=beside) as folder:
        paths: dict[int, str | None] = {k: None for k in members}
        if base is not None:
            for k in members:
                paths[k] = str(Path(folder) / f"{k}.ckpt")
                save_potential(base[k], Path(folder) / f"{k}.ckpt")
        yield paths


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one: told to (they write a checkpoint then), and killed if they do not."""
    # Ctrl-C reaches every process of a terminal: here it is for the parent, which passes it on. The mask is inherited.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
        for _ in range(workers):
            pool.submit(os.getpid)  # starts a process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0))
            process.kill()
        raise


def _work(
    config: Mapping[str, Any], member: int, directory: Path, base: str | None, threads: int, world: World | None
) -> None:
    """In a process of its own: everything again from the configuration, no bar."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with orderly_end():
        settings = TrainSettings.read(config)
        settings = replace(settings, trainer=replace(settings.trainer, progress=False, threads=threads))
        torch.set_num_threads(threads)
        if world is not None:
            world.join()
        try:
            potential = None if base is None else load_potential(Path(base))
            fit_member(settings, prepare(settings), member, RunDirectory(directory), potential, world)
        finally:
            leave()


def _end_with_parent() -> None:
    """A killed run must not leave workers training on unseen; what they wrote is whole at any moment."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _watch(jobs: dict[int, list[Future]], directories: list[RunDirectory], settings: TrainSettings) -> None:
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
            done = all(job.done() for together in jobs.values() for job in together)
            for k, together in jobs.items():
                epoch, row = _last_row(directories[k].metrics)
                bar.update(tasks[k], completed=epoch, errors=errors_line(row))
                if any(job.done() and job.exception() for job in together):
                    raise _reason(together)  # a failed member fails the run at once
            if done:
                return
            time.sleep(POLL_SECONDS)


def _reason(together: list[Future]) -> BaseException:
    """Why a member failed: of processes that train together the others only miss the one that failed first."""
    wait(together, timeout=FAIL_SECONDS)
    errors = [error for job in together if job.done() and (error := job.exception()) is not None]
    return min(errors, key=lambda e: (lost_another(e), not isinstance(e, UserError)))


def _last_row(path: Path) -> tuple[int, dict[str, str]]:
    """Epochs done and the last whole row of a metrics.csv that may be growing."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return int(rows[-1]["epoch"]) + 1, rows[-1]
    except (OSError, IndexError, ValueError, TypeError, KeyError):
        return 0, {}
