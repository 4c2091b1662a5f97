"""One job of a sweep in a process of its own: what fails in it, or kills it, leaves the other jobs alone.

The processes are forked from one that has imported everything already (a fork server), so that a job does not pay
for the imports. A job with several devices starts the others itself, as any run does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlffx.errors import UserError
from mlffx.training.run_directory import RunDirectory

LOG = "log.txt"
LOCK = ".lock"
POLL_SECONDS = 0.5
ELSEWHERE = 75  # exit status of a job that another process is at (EX_TEMPFAIL)
INTERRUPTED = 130
SLURM_TASKS = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_LOCALID")


@dataclass(frozen=True)
class Work:
    """What a process is to do.

    Attributes:
        name: of the job.
        directory: of the run.
        overrides: of the run; `resume=` if it has begun before.
        threads: of the job, divided among its devices.
    """

    name: str
    directory: Path
    overrides: list[str]
    threads: int


@dataclass(frozen=True)
class Outcome:
    """How it ended: `finished`, `failed`, `interrupted`, `pruned`, `running` (elsewhere) or `submitted`, and why."""

    name: str
    state: str
    reason: str = ""


def run(work: Work, stop: threading.Event, watch: Callable[[], bool] | None = None) -> Outcome:
    """Do the work in a new process and wait for it.

    Args:
        stop: ends the process when it is set.
        watch: called now and then; the process is ended as `pruned` when it returns True.
    """
    process: Any = _context().Process(target=_begin, args=(work, os.getcwd()), name=work.name)
    process.start()
    pruned = False
    while process.exitcode is None:
        process.join(POLL_SECONDS)
        pruned = pruned or (watch is not None and process.exitcode is None and watch())
        if (stop.is_set() or pruned) and process.exitcode is None:
            process.terminate()
            process.join(30)
            if process.exitcode is None:
                process.kill()
                process.join()
    return _outcome(work, process.exitcode, pruned, stop.is_set())


def _context() -> Any:
    context = get_context("forkserver")
    context.set_forkserver_preload(["mlffx.training.train", "mlffx.training.entry", "mlffx.sweeps.worker"])
    return context


def start_fork_server() -> None:
    """The process that the processes of jobs are forked from; it starts by itself with the first job otherwise."""
    _context()
    ensure_running()


def again(work: Work) -> Work:
    """The same work, going on with the run if it has begun."""
    begun = RunDirectory(work.directory).config.is_file()
    return replace(work, overrides=[f"resume={work.directory}"]) if begun else work


def is_locked(directory: Path) -> bool:
    """Whether a process is at work in this run directory."""
    if not directory.is_dir():
        return False
    try:
        with FileLock(directory / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # not writable, which the run itself will tell
        return False


def _outcome(work: Work, code: int, pruned: bool, stopped: bool) -> Outcome:
    """What status.json and the exit status say together; a process that was killed could not write it itself."""
    run_dir = RunDirectory(work.directory)
    if code == ELSEWHERE:
        return Outcome(work.name, "running", "by another process")
    if code == 0 and run_dir.status() == "finished":
        return Outcome(work.name, "finished")
    if pruned:
        run_dir.set_status("pruned")
        return Outcome(work.name, "pruned")
    if stopped or code == INTERRUPTED:
        run_dir.set_status("interrupted")
        return Outcome(work.name, "interrupted")
    reason = reason_of(work.directory) if run_dir.status() == "failed" else ""
    if not reason:
        killed = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        reason = killed + (" (out of memory?)" if code == -signal.SIGKILL else "") + f"; see {LOG}"
    run_dir.set_status("failed", reason=reason)
    return Outcome(work.name, "failed", reason)


def reason_of(directory: Path) -> str:
    """Why a run failed, in one line; empty where it did not say."""
    try:
        text = json.loads((directory / "status.json").read_text()).get("reason", "")
    except (OSError, ValueError):
        return ""
    return " ".join(str(text).split())


def _begin(work: Work, folder: str) -> None:
    """The first function of the new process; its output goes to log.txt of the run."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    _write_to(work.directory / LOG)
    _divide(work)
    sys.argv = ["train.py", *work.overrides]  # for environment.json
    raise SystemExit(_do(work))


def _do(work: Work) -> int:
    from mlffx.training.entry import entry_point

    try:
        with FileLock(work.directory / LOCK, timeout=0):
            try:
                if RunDirectory(work.directory).status() != "finished":
                    entry_point(work.overrides)
                return 0
            except KeyboardInterrupt:
                return INTERRUPTED
            except BaseException as error:
                _explain(work.directory, error)
                return 2 if isinstance(error, UserError) else 1
    except Timeout:
        return ELSEWHERE


def _explain(directory: Path, error: BaseException) -> None:
    """The reason in status.json, everything in log.txt."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
        reason = str(error)
    else:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
    RunDirectory(directory).set_status("failed", reason=reason)


def _write_to(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}", file=sys.stderr)


def _divide(work: Work) -> None:
    """Threads of this process and of those it starts. Within SLURM the job is one task and starts its own processes."""
    import torch

    n_devices = next((o.split("=")[1] for o in work.overrides if o.startswith("trainer.devices=")), "1")
    each = max(1, work.threads // int(n_devices)) if n_devices.isdigit() and n_devices != "0" else work.threads
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(each)
    torch.set_num_threads(each)
    for name in SLURM_TASKS:
        os.environ.pop(name, None)


def _end_with_parent() -> None:
    """A sweep that is killed must not leave jobs training on unseen; what they wrote is whole at any moment."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
