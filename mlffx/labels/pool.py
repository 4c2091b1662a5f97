"""Labels of many structures at once: one process a worker, one thread each, checkpointed by the workers themselves."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from ase import Atoms

from mlffx.labels.journal import Journal
from mlffx.labels.method import Method

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """A structure to label.

    Attributes:
        name: for people and the output file.
        atoms: structure.
        key: of its checkpoint.
        forces: whether those of `dft` are wanted.
    """

    name: str
    atoms: Atoms
    key: str
    forces: bool = True


@dataclass
class Worker:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None


def compute(
    jobs: Sequence[Job], method: Method, levels: Sequence[str], journal: Path, workers: int
) -> Iterator[tuple[Job, str]]:
    """Label all jobs; yields each as it ends, with what went wrong or "".

    Labels lie in the journal, not in what is yielded. No time limit: a stopped worker goes on when it is continued.
    A worker that dies (killed for memory) costs its job alone. Leaving the loop early ends the workers.

    Args:
        journal: directory of the checkpoints.
        workers: processes, one thread each.
    """
    todo, crew = list(reversed(jobs)), []
    try:
        crew = [_hire(method, levels, journal) for _ in range(min(workers, len(jobs)))]
        for worker in crew:
            _assign(worker, todo)
        while any(worker.job for worker in crew):
            busy = [worker for worker in crew if worker.job]
            ready = wait([*(w.connection for w in busy), *(w.process.sentinel for w in busy)])
            for index, worker in enumerate(crew):
                job = worker.job
                if job is None or not {worker.connection, worker.process.sentinel} & set(ready):  # type: ignore[arg-type]
                    continue
                problem = _hear(worker)
                if problem is None:
                    crew[index] = worker = _hire(method, levels, journal)
                    problem = "its worker died (out of memory?)"
                _assign(worker, todo)
                yield job, problem
    finally:
        for worker in crew:
            worker.connection.close()
            worker.process.terminate()
        for worker in crew:
            worker.process.join()


def _hire(method: Method, levels: Sequence[str], journal: Path) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read when numpy and PySCF are first imported
    try:
        process = context.Process(target=_work, args=(theirs, method, list(levels), journal), daemon=True)
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    theirs.close()
    return Worker(process, ours)


def _assign(worker: Worker, todo: list[Job]) -> None:
    worker.job = todo.pop() if todo else None
    if worker.job is not None:
        worker.connection.send(worker.job)


def _hear(worker: Worker) -> str | None:
    """What a worker says of its job, "" for done; None when it is dead."""
    try:
        return str(worker.connection.recv()) if worker.connection.poll(0.5) else None
    except (EOFError, OSError):
        return None


def _work(connection: Any, method: Method, levels: list[str], directory: Path) -> None:
    """Label jobs until the other side hangs up."""
    from mlffx.labels.engine import labels_of

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    journal = Journal(directory)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            journal.write(job.key, labels_of(job.atoms, method, levels, job.forces))
            problem = ""
        except Exception as error:  # PySCF raises what it likes; one structure is no reason to stop
            problem = " ".join(f"{type(error).__name__}: {error}".split())
        try:
            connection.send(problem)
        except OSError:
            return
