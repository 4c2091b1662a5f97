"""From settings to a labelled file: structures, workers, checkpoints, progress, what was left out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlffx.config import read_settings
from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.labels.engine import Label, check_structure, require_pyscf
from mlffx.labels.journal import Journal
from mlffx.labels.method import LEVELS, Method, checked_levels
from mlffx.labels.pool import Job, compute
from mlffx.labels.structures import Site, build_structures
from mlffx.labels.write import data_config, write_extxyz, write_record


@dataclass(frozen=True)
class LabelSettings:
    """The schema of conf/label.yaml.

    Attributes:
        name: of the set, its directory and its file.
        crystal: prototype, species and cubic constant a (A), as in data sets; null for structures of a file.
        supercell: conventional cells along each axis.
        structures: `kind` and its options.
        method: of the engine.
        levels: which energies.
        forces: those of the level dft.
        workers: processes of one thread each; 0 for as many as there are cores.
        output: directory.
        collect: write the file of what is finished and compute nothing.
        progress: show a bar (on a terminal) or a line now and then.
    """

    name: str
    structures: dict[str, Any]
    method: dict[str, Any] = field(default_factory=dict)
    crystal: dict[str, Any] | None = None
    supercell: list[int] = field(default_factory=lambda: [1, 1, 1])
    levels: Any = LEVELS
    forces: bool = True
    workers: int = 0
    output: str | None = None
    collect: bool = False
    progress: bool = True


@dataclass(frozen=True)
class Labelled:
    """Result of `label`: the file, and how many structures are in it and were left out."""

    file: Path
    structures: int
    left_out: dict[str, str]


def label(values: Mapping[str, Any], command: str = "") -> Labelled:
    """Label structures; finished ones are found again by what they are, so the same call goes on where it was stopped.

    Args:
        values: keys of `LabelSettings`.
        command: for the record.

    Raises:
        UserError: for mistakes in the settings, before any work starts.
    """
    require_pyscf()
    settings = read_settings(LabelSettings, values, "")
    method = read_settings(Method, settings.method, "method")
    levels = checked_levels(settings.levels)
    if settings.workers < 0:
        raise UserError(f"{settings.workers} workers", "give 0 (one a core) or more", "workers")
    output = Path(settings.output or f"runs/labels/{settings.name}")
    work = _Work(settings, method, levels, Journal(output / "finished"))
    frames = build_structures(settings.structures, _site(settings, work))
    forces = settings.forces and "dft" in levels
    jobs = work.jobs([(str(atoms.info["name"]), atoms) for atoms in frames], forces)
    for job in jobs[:1]:
        check_structure(job.atoms, method)
    print(f"{len(jobs)} structures of {len(frames[0])} atoms, {', '.join(levels)}, into {output}", file=sys.stderr)
    file = output / f"{settings.name}.xyz"
    problems = (
        {}
        if settings.collect
        else work.do(jobs, often=lambda: write_extxyz(file, _finished(jobs, work.journal)[0], levels))
    )
    labelled, left_out = _finished(jobs, work.journal)
    left_out |= problems
    if not labelled:
        first = next(iter(left_out.items()))
        raise UserError(f"no structure could be labelled ({first[0]}: {first[1]})", "see method", output)
    write_extxyz(file, labelled, levels)
    write_record(output / f"{settings.name}.json", values, method, labelled, left_out, levels, command)
    _tell(file, labelled, left_out, data_config(settings.name, file.name, levels, method, forces))
    return Labelled(file, len(labelled), left_out)


def _finished(jobs: Sequence[Job], journal: Journal) -> tuple[list[tuple[str, Atoms, Label]], dict[str, str]]:
    """Structures with all their labels, in order, and why others that were computed are left out."""
    labelled, left_out = [], {}
    for job in jobs:
        found = journal.read(job.key)
        if found is not None and found.unconverged:
            left_out[job.name] = f"not converged: {', '.join(found.unconverged)}"
        elif found is not None:
            labelled.append((job.name, job.atoms, found))
    return labelled, left_out


class _Work:
    """Jobs through the pool, with progress."""

    def __init__(self, settings: LabelSettings, method: Method, levels: Sequence[str], journal: Journal) -> None:
        self.settings, self.method, self.levels, self.journal = settings, method, levels, journal
        self.workers = settings.workers or os.cpu_count() or 1

    def jobs(
        self, structures: Sequence[tuple[str, Atoms]], forces: bool, levels: Sequence[str] | None = None
    ) -> list[Job]:
        of = levels or self.levels
        return [Job(name, a, self.journal.key(a, self.method, of, forces), forces) for name, a in structures]

    def do(
        self,
        jobs: Sequence[Job],
        levels: Sequence[str] | None = None,
        what: str = "labels",
        often: Callable[[], None] = lambda: None,
    ) -> dict[str, str]:
        """Compute what is not in the journal; returns what went wrong, by name. Calls `often` every minute or so."""
        todo = [job for job in jobs if self.journal.read(job.key) is None]
        if len(todo) < len(jobs):
            print(f"{what}: {len(jobs) - len(todo)} of {len(jobs)} are there already", file=sys.stderr)
        problems, start = {}, time.monotonic()
        told = wrote = start
        with _bar(self.settings.progress) as bar:
            task = bar.add_task(what, total=len(todo), visible=bool(todo))
            done = compute(todo, self.method, levels or self.levels, self.journal.directory, self.workers)
            for count, (job, problem) in enumerate(done, start=1):
                bar.advance(task)
                if problem:
                    problems[job.name] = problem
                    print(f"{job.name}: left out, {problem}", file=sys.stderr)
                now = time.monotonic()
                if now - wrote > 60:
                    often()
                    wrote = now
                if bar.disable and self.settings.progress and (now - told > 30 or count in (1, len(todo))):
                    left = (now - start) / count * (len(todo) - count) / 60
                    print(f"{what}: {count} of {len(todo)}, {left:.0f} min left", file=sys.stderr, flush=True)
                    told = now
        return problems

    def forces(self, structures: Sequence[tuple[str, Atoms]]) -> list[np.ndarray]:
        """DFT forces of a few structures, for force constants."""
        jobs = self.jobs(structures, True, ("dft",))
        check_structure(jobs[0].atoms, self.method)
        problems = self.do(jobs, ("dft",), "force constants")
        found = [self.journal.read(job.key) for job in jobs]
        for job, item in zip(jobs, found, strict=True):
            if item is None or "dft" not in item.forces:
                reason = problems.get(job.name, "DFT did not converge")
                raise UserError(f"no forces of {job.name}: {reason}", "see method", "structures")
        return [item.forces["dft"] for item in found if item is not None]


def _site(settings: LabelSettings, work: _Work) -> Site:
    if settings.crystal is None:
        return Site(None, None, work.forces)
    from mlffx.lattice.force_constants import conventional_matrix

    config = settings.crystal
    if set(config) != {"prototype", "species", "a"}:
        raise UserError(f"'{config}' is not understood", "give prototype, species and a", "crystal")
    if len(settings.supercell) != 3 or min(settings.supercell) < 1:
        raise UserError(f"{settings.supercell}", "give three whole numbers, at least 1", "supercell")
    crystal = Crystal.from_prototype(str(config["prototype"]), list(config["species"]), config["a"])
    return Site(crystal, conventional_matrix(crystal, settings.supercell), work.forces)


def _bar(progress: bool) -> Progress:
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (progress and sys.stderr.isatty()),
    )


def _tell(file: Path, labelled: Sequence[tuple[str, Atoms, Label]], left_out: Mapping[str, str], config: str) -> None:
    seconds = [sum(found.seconds.values()) for _, _, found in labelled]
    print(f"{file}: {len(labelled)} structures labelled, {np.mean(seconds):.0f} s each on one thread")
    if left_out:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in left_out.items())
        print(f"{len(left_out)} left out: {reasons}")
    print(f"read it with kind: files, root: {file.parent}, and\n{config}")
