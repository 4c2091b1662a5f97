"""Several processes for one fit: who they are, how they meet, and how those srun or torchrun started are put to work.

Two ways lead here. Started alone, `train.py` starts its processes itself, for every fit anew (`members.py`). Started by
srun or torchrun there are all of them from the beginning: the first does everything a single process would do, the
others wait in `serve` for the fits that need them. Only what is inside a fit is done by all: nothing is written, read
or decided twice, and Hydra sees one process a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import PrefixStore, Store

from mlffx.errors import UserError

FIND_EACH_OTHER = timedelta(minutes=5)  # nodes of a large job do not start together
FIRST_STEP = timedelta(minutes=30)  # a collective operation that takes longer has lost a process
LISTEN = timedelta(seconds=60)
END = {"end": True}


@dataclass(frozen=True)
class World:
    """One of several processes.

    Attributes:
        rank, local_rank: of this process, among all and on its node.
        size: number of processes.
        address, port: where the first of them listens.
    """

    rank: int
    local_rank: int
    size: int
    address: str
    port: int

    def declare(self) -> None:
        """Into the environment, in torchrun's words, which torch and Lightning read."""
        names = {"RANK": self.rank, "LOCAL_RANK": self.local_rank, "WORLD_SIZE": self.size}
        os.environ.update({k: str(v) for k, v in names.items()})
        os.environ.update(MASTER_ADDR=self.address, MASTER_PORT=str(self.port))

    def join(self) -> Store:
        """Wait for the others; collective operations work from here on.

        Raises:
            UserError: when they do not come.
        """
        self.declare()
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            store, rank, size = next(torch.distributed.rendezvous("env://", timeout=FIND_EACH_OTHER))
            group = PrefixStore("group", store)
            torch.distributed.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=FIRST_STEP)
        except (torch.distributed.DistError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            where = f"{self.address}:{self.port}"
            raise UserError(f"process {self.rank} of {self.size} found no others ({reason})", where=where) from error
        return PrefixStore("work", store)


def leave() -> None:
    """End what `World.join` began."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def lost_another(error: BaseException) -> bool:
    """Whether an error only says that another process is gone; the reason is what that one says."""
    if isinstance(error, torch.distributed.DistError):
        return True
    signs = ("connection closed by peer", "connection reset by peer", "gloo", "nccl")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def surrounding_world() -> World | None:
    """The processes srun or torchrun started this one with; None for a process on its own.

    A SLURM job of several tasks whose script calls `python train.py` without srun is a process on its own.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size > 1 and "RANK" in os.environ and "MASTER_ADDR" in os.environ:
        rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
        return World(rank, local_rank, size, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in os.environ:
        from lightning_fabric.plugins.environments import SLURMEnvironment

        rank, local_rank, size = (int(os.environ[f"SLURM_{k}"]) for k in ("PROCID", "LOCALID", "STEP_NUM_TASKS"))
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        # Jobs that share a node must not share a port, nor the steps of a job.
        port = 15000 + (int(os.environ.get("SLURM_JOB_ID", 0)) * 64 + int(os.environ.get("SLURM_STEP_ID", 0))) % 40000
        return World(rank, local_rank, size, SLURMEnvironment.resolve_root_node_address(nodes), port)
    return None


def local_worlds(size: int) -> list[World]:
    """For processes this one starts, on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [World(rank, rank, size, "127.0.0.1", port) for rank in range(size)]


class Crew:
    """The processes beside the first, as the first sees them.

    Args:
        world: of the first process.
        store: where jobs are posted; None where there are no others.
    """

    def __init__(self, world: World | None, store: Store | None) -> None:
        self.world, self._store, self._posted = world, store, 0

    def post(self, job: Mapping[str, Any]) -> None:
        """Let the others do a job, too."""
        if self._store is not None:
            self._store.set(f"job{self._posted}", json.dumps(dict(job)))
            self._posted += 1


_crew: Crew | None = None


def crew() -> Crew:
    """Of this process; without others when nobody joined."""
    return _crew or Crew(None, None)


@contextlib.contextmanager
def together(work: Callable[[dict[str, Any]], None]) -> Iterator[bool]:
    """Whether this process leads a run: `with together(work) as leads: if leads: ...`.

    The others stay in here until the leader is done, and call `work` with every job it posts.

    Raises:
        UserError: when the processes do not find each other.
    """
    global _crew
    world = surrounding_world()
    if world is None or _crew is not None:
        yield True
        return
    store = world.join()
    if world.rank > 0:
        serve(store, work)
        yield False
        return
    _crew = Crew(world, store)
    try:
        yield True
    finally:
        _crew.post(END)
        _crew = None
        leave()


def serve(store: Store, work: Callable[[dict[str, Any]], None]) -> None:
    """Do the jobs of the leader until it says that there are no more, or is gone."""
    done = 0
    while True:
        try:
            store.wait([f"job{done}"], LISTEN)
            job = json.loads(store.get(f"job{done}"))
        except torch.distributed.DistNetworkError:
            return  # the leader is gone, and has said why
        except torch.distributed.DistStoreError:
            continue  # nothing yet: it fits in closed form, or evaluates
        if job == END:
            leave()
            return
        try:
            work(job)
        except RuntimeError as error:
            if not lost_another(error):
                raise
            raise UserError("another process has ended", "see what it says") from error
        done += 1


def check_processes(devices: int, num_nodes: int) -> None:
    """Whether as many processes are there as the trainer is set to.

    Raises:
        UserError: that says how to start them.
    """
    world, wanted = surrounding_world(), devices * num_nodes
    if world is None and num_nodes > 1:
        raise UserError(
            f"{num_nodes} nodes, but this process is alone",
            "start it with srun or torchrun on every node (docs/scaling.md)",
            "trainer.num_nodes",
        )
    if world is not None and world.size != wanted:
        raise UserError(
            f"{world.size} processes were started for {devices} device(s) on {num_nodes} node(s)",
            f"set trainer=ddp trainer.devices={world.size // max(num_nodes, 1)}, or start {wanted} (srun --ntasks)",
            "trainer.devices",
        )
