"""Where jobs run: one after the other, several at a time on this machine (joblib), or on a cluster (submitit)."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import active_children
from pathlib import Path
from typing import Any, Literal

from mlffx.config import read_settings
from mlffx.errors import UserError, nearest
from mlffx.sweeps.worker import Outcome, Work, again, run, start_fork_server
from mlffx.training.run_directory import RunDirectory

POLL_SECONDS = 5.0
GIVE_UP = ".give_up"
GRACE_SECONDS = 60  # for a run to write its checkpoint
EXTRA = "install it with: pip install 'mlffx[sweeps]'"


def cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class LocalSettings:
    """conf/launcher/local.yaml."""

    name: Literal["local"] = "local"
    threads: int | None = None

    def at_once(self) -> int:
        return 1

    def threads_each(self) -> int:
        return self.threads or cores()


@dataclass(frozen=True)
class JoblibSettings:
    """conf/launcher/joblib.yaml: how many at once, how many threads each."""

    name: Literal["joblib"] = "joblib"
    jobs: int | None = None
    threads: int | None = None

    def at_once(self) -> int:
        return self.jobs or max(1, cores() // (self.threads or 1))

    def threads_each(self) -> int:
        return self.threads or max(1, cores() // self.at_once())


@dataclass(frozen=True)
class SlurmSettings:
    """conf/launcher/slurm.yaml: what every job asks of the cluster."""

    name: Literal["slurm"] = "slurm"
    cluster: Literal["slurm", "local", "debug"] = "slurm"
    timeout_min: int = 240
    requeue: int = 3
    cpus: int = 4
    mem_gb: int = 8
    gpus: int = 0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    array_parallelism: int = 64
    setup: list[str] = field(default_factory=list)
    additional: dict[str, Any] = field(default_factory=dict)
    wait: bool = True

    def at_once(self) -> int:
        return self.array_parallelism

    def threads_each(self) -> int:
        return self.cpus


Launcher = LocalSettings | JoblibSettings | SlurmSettings
KINDS: dict[str, type] = {"local": LocalSettings, "joblib": JoblibSettings, "slurm": SlurmSettings}


def read_launcher(values: Mapping[str, Any]) -> Launcher:
    """Check the keys of conf/launcher.

    Raises:
        UserError: names the key.
    """
    name = str(values.get("name"))
    if name not in KINDS:
        raise UserError(f"unknown launcher '{name}'", nearest(name, KINDS), "launcher.name")
    settings: Launcher = read_settings(KINDS[name], values, "launcher")
    for key in ("jobs", "threads", "cpus", "timeout_min", "mem_gb", "array_parallelism"):
        if (value := getattr(settings, key, None)) is not None and value < 1:
            raise UserError(f"{value} is too few", "take 1 or more", f"launcher.{key}")
    return settings


def launch(works: Sequence[Work], launcher: Launcher, sweep_dir: Path) -> Iterator[Outcome]:
    """Do the work; outcomes as they come. An interrupt ends the jobs that run here."""
    if isinstance(launcher, SlurmSettings):
        yield from _on_cluster(works, launcher, sweep_dir)
        return
    stop = threading.Event()
    try:
        if isinstance(launcher, JoblibSettings) and launcher.at_once() > 1:
            yield from _side_by_side(works, launcher.at_once(), stop)
        else:
            for work in works:
                yield run(work, stop)
    finally:
        stop.set()


def run_one(
    work: Work, launcher: Launcher, sweep_dir: Path, stop: threading.Event, watch: Callable[[], bool]
) -> Outcome:
    """One job that is ended when `watch`, called now and then, returns True."""
    if not isinstance(launcher, SlurmSettings):
        return run(work, stop, watch)
    ending = work.directory / GIVE_UP  # the node that has the job looks for this file
    ending.unlink(missing_ok=True)
    (job,) = _submit([work], launcher, sweep_dir)
    while not job.done():
        if watch() or stop.is_set():
            ending.touch()
        time.sleep(POLL_SECONDS if launcher.cluster == "slurm" else 0.2)
    return _outcome_of(job, work)


def _side_by_side(works: Sequence[Work], jobs: int, stop: threading.Event) -> Iterator[Outcome]:
    """Threads of this process wait for the jobs' own processes."""
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise UserError("joblib is not here", EXTRA, "launcher") from error

    def unless_stopped(work: Work) -> Outcome:
        return Outcome(work.name, "interrupted") if stop.is_set() else run(work, stop)

    side_by_side = Parallel(jobs, backend="threading", return_as="generator_unordered", pre_dispatch="n_jobs")
    results = side_by_side(delayed(unless_stopped)(work) for work in works)
    try:
        yield from results
    except BaseException:
        stop.set()
        raise


class ClusterJob:
    """What submitit takes to a node. Out of time, it is queued again and goes on from its last checkpoint."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self) -> Outcome:
        if threading.current_thread() is threading.main_thread():
            # SLURM tells every process of the job that its time is over; only submitit's own is to act on it
            theirs = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            start_fork_server()
            signal.signal(signal.SIGUSR2, theirs)
        return run(self.work, threading.Event(), (self.work.directory / GIVE_UP).exists)

    def checkpoint(self) -> Any:
        """Called by submitit before the job's time is over: the run writes a checkpoint, and is queued to go on."""
        from submitit.helpers import DelayedSubmission

        for process in active_children():
            process.terminate()
            process.join(GRACE_SECONDS)
        return DelayedSubmission(ClusterJob(again(self.work)))

    def __getstate__(self) -> dict[str, Any]:
        return {"work": self.work}


def _on_cluster(works: Sequence[Work], launcher: SlurmSettings, sweep_dir: Path) -> Iterator[Outcome]:
    waiting = _submit(works, launcher, sweep_dir)
    if not launcher.wait:
        yield from (Outcome(work.name, "submitted", f"job {job.job_id}") for job, work in waiting.items())
        return
    while waiting:
        for job in [j for j in waiting if j.done()]:
            yield _outcome_of(job, waiting.pop(job))
        time.sleep(POLL_SECONDS if launcher.cluster == "slurm" else 0.2)


def _submit(works: Sequence[Work], launcher: SlurmSettings, sweep_dir: Path) -> dict[Any, Work]:
    """The jobs as one array; status.json knows the number of each, so that no later start submits it twice."""
    try:
        import submitit
    except ImportError as error:
        raise UserError("submitit is not here", EXTRA, "launcher") from error
    if not works:
        return {}
    extra = {"slurm_max_num_timeout": launcher.requeue} if launcher.cluster == "slurm" else {}
    try:
        executor = submitit.AutoExecutor(
            folder=sweep_dir.resolve() / ".submitit" / "%j", cluster=launcher.cluster, **extra
        )
    except RuntimeError as error:
        remedy = "log in to the cluster, or take launcher=joblib"
        raise UserError(f"no SLURM here ({error})", remedy, "launcher.cluster") from error
    executor.update_parameters(**_request(launcher))
    for work in works:
        RunDirectory(work.directory).set_status("submitted")
    with executor.batch():
        jobs = [executor.submit(ClusterJob(work)) for work in works]
    for job, work in zip(jobs, works, strict=True):
        if RunDirectory(work.directory).status() == "submitted":
            RunDirectory(work.directory).set_status("submitted", job_id=job.job_id)
    return dict(zip(jobs, works, strict=True))


def _outcome_of(job: Any, work: Work) -> Outcome:
    error = job.exception()
    if error is None:
        return job.result()
    reason = " ".join(str(error).split())
    RunDirectory(work.directory).set_status("failed", reason=reason)
    return Outcome(work.name, "failed", reason)


def _request(s: SlurmSettings) -> dict[str, Any]:
    """Parameters of submitit; those of SLURM alone carry its name."""
    common: dict[str, Any] = {"name": "mlffx", "timeout_min": s.timeout_min, "mem_gb": s.mem_gb}
    common |= {"cpus_per_task": s.cpus, "tasks_per_node": 1, "nodes": 1}
    if s.gpus:
        common["gpus_per_node"] = s.gpus
    if s.cluster != "slurm":
        return common
    own: dict[str, Any] = {"partition": s.partition, "account": s.account, "qos": s.qos, "constraint": s.constraint}
    own |= {"setup": s.setup or None, "additional_parameters": s.additional or None}
    own["array_parallelism"] = s.array_parallelism
    return common | {f"slurm_{key}": value for key, value in own.items() if value is not None}


def is_queued(job_id: str) -> bool:
    """Whether SLURM still has this job, waiting or running; False where there is no SLURM to ask."""
    try:
        asked = subprocess.run(["squeue", "-h", "-j", job_id, "-o", "%T"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and bool(asked.stdout.strip())
