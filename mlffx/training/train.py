"""A training run from settings to run directory: prepare, base, members, metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mlffx.potentials.base import Potential
from mlffx.potentials.build import load_potential
from mlffx.potentials.charge_aware import with_charges
from mlffx.training.base import base_members
from mlffx.training.closed_form import fit_in_closed_form, is_closed_form, is_linear, linear_model
from mlffx.training.distributed import check_processes, surrounding_world, together
from mlffx.training.fine_tuning import refuse_start_without_network, start_hashes
from mlffx.training.gradient import untrained
from mlffx.training.interruption import orderly_end
from mlffx.training.label_noise import FITS_NOISE, as_metrics, read_rungs, rungs_of
from mlffx.training.limits import check_devices
from mlffx.training.locks import alone_with
from mlffx.training.members import (
    fit_members_in_parallel,
    fit_members_in_turn,
    fit_members_with_devices,
    help_fit,
    log_fit,
)
from mlffx.training.memory import telling_of_memory
from mlffx.training.metrics import held_out_errors
from mlffx.training.phonon_watch import check_phonons
from mlffx.training.run_directory import RunDirectory, fingerprint, refuse_mixing
from mlffx.training.settings import StartSettings, TrainSettings
from mlffx.training.task import Task, prepare


def train(
    config: Mapping[str, Any], base_config: Mapping[str, Any] | None = None, directory: Path | None = None
) -> Path:
    """Train what a composed configuration describes.

    Args:
        config: plain mapping, as composed from conf/train.yaml.
        base_config: configuration of the base, for delta potentials with potential.base=train.
        directory: where to; None takes config["run_dir"].

    Returns:
        The run directory.

    Raises:
        UserError: for anything wrong with the configuration or the data, before work starts; later for a full disk, too
            little memory, or a fit that diverged.
        Interrupted: after SIGTERM, SIGUSR1 or Ctrl-C, when a checkpoint is written.
    """
    with orderly_end(), together(help_fit) as leads:
        if leads:
            return _train(config, base_config, directory)
    return Path(directory or config["run_dir"])


def _train(config: Mapping[str, Any], base_config: Mapping[str, Any] | None, directory: Path | None) -> Path:
    settings = TrainSettings.read(config)
    s = settings.trainer
    check_devices(s.accelerator, s.devices, s.num_nodes, s.batch_size)
    check_processes(s.devices, s.num_nodes)
    task = prepare(settings)
    with telling_of_memory(settings):
        rehearse(settings, task)
    run = RunDirectory(directory or settings.run_dir)
    refuse_mixing(run, config)
    console = Console(stderr=True)
    base, base_run = base_members(settings, lambda: train_cached(base_config or {}, settings.cache_dir, console))
    run.start(config, task.dataset.hashes | start_hashes(settings.start), base_config, base_run)
    run.set_status("running")
    began = time.perf_counter()
    try:
        with telling_of_memory(settings):
            _announce(console, settings, task, run)
            _fit_members(config, settings, task, run, base)
            metrics = _collect(settings, task, run, base_run)
        run.write_metrics(metrics | {"train_seconds": round(time.perf_counter() - began, 2)})
        run.set_status("finished")
    except BaseException as error:
        run.set_status_of(error)
        raise
    _report(console, metrics, run)
    return run.path


def rehearse(settings: TrainSettings, task: Task) -> None:
    """Build what will be trained and one graph of it, so that a wrong model or cutoff shows before work starts."""
    if settings.start != StartSettings():
        refuse_start_without_network(settings)
    if settings.potential.kind == "delta" and settings.delta.fit == "readout" and not is_linear(settings):
        return  # the base's own rehearsal builds the network
    if is_linear(settings):
        linear = linear_model(task, settings.model)
        potential: Potential = with_charges(linear, settings.electrostatics, task.dataset.species)
    else:
        if settings.wandb.phonons_every is not None:
            check_phonons(settings.wandb.phonons_every, task.dataset.crystal)
        potential = untrained(settings, task)
        if settings.prior == "force_constants":
            linear_model(task, {})
    task.graphs(potential.cutoff, task.split.train[:1])


def train_cached(config: Mapping[str, Any], cache_dir: str, console: Console) -> Path:
    """The base's run directory, trained unless one with the same configuration and data is finished already.

    Args:
        config: of the base; under `base` that of its own base, if it is a delta itself.
    """
    path, nested = cached_run(config, cache_dir), config.get("base")
    config = {k: v for k, v in config.items() if k != "base"}
    with alone_with(path, lambda: console.print(f"base: {path} is being trained by another process")):
        if RunDirectory(path).status() == "finished":
            console.print(f"base: {path} (found in the cache)")
            return path
        settings = TrainSettings.read(config)
        console.print(f"base: {settings.potential.kind} {settings.model['name']} on {settings.level.name}, into {path}")
        return train(config, nested, directory=path)


def cached_run(config: Mapping[str, Any], cache_dir: str, data_hashes: Mapping[str, str] | None = None) -> Path:
    """Where the run of a configuration is kept: a directory named by everything that decides its result.

    Args:
        config: of the run; under `base` that of its base, if it is a delta.
        data_hashes: of the files of the labels, where they are known already; else these are read.
    """
    settings = TrainSettings.read({k: v for k, v in config.items() if k != "base"})
    hashes = dict(data_hashes or prepare(settings).dataset.hashes) | start_hashes(settings.start)
    name = f"{settings.data['name']}-{settings.level.name}-{fingerprint(_decisive(config), hashes)}"
    return Path(cache_dir) / name


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration decides the result of a run, and of the bases below it: not where it is kept or shown."""
    nested = config.get("base")
    own = {k: v for k, v in config.items() if k not in ("base", "run_dir", "cache_dir", "logger", "wandb")}
    settings = TrainSettings.read(own)
    own["base"] = nested and _decisive(nested)
    kind, low = settings.potential.kind, settings.potential.low or settings.data.get("low")
    if kind == "delta":  # what a trained base is made of is under `base`, however it was asked for
        own["potential"] = {"kind": kind, "low": low, "base": settings.potential.base}
    else:
        own["potential"] = {"kind": kind}
        own.pop("delta", None)
    own["model"] = settings.model if settings.start == StartSettings() else config["model"]
    own["trainer"] = {k: v for k, v in config["trainer"].items() if k not in ("progress", "workers", "threads")}
    return own


def _fit_members(
    config: Mapping[str, Any], settings: TrainSettings, task: Task, run: RunDirectory, base: list[Potential] | None
) -> None:
    """Each member that is not finished yet; networks several at a time, one thread each."""
    directories = run.members(settings.ensemble)
    waiting = [k for k, d in enumerate(directories) if d.status() != "finished"]
    if is_closed_form(settings):
        for k in waiting:
            fit_in_closed_form(settings, task, k, directories[k], base[k] if base else None)
            log_fit(settings, task, k, directories[k])
            directories[k].set_member_finished()
        return
    s, cores = settings.trainer, len(os.sched_getaffinity(0))
    workers = min(s.workers or cores, len(waiting))
    if s.devices > 1 and surrounding_world() is None:
        fit_members_with_devices(config, waiting, directories, base, s.threads or max(cores // s.devices, 1))
    elif workers > 1 and s.devices * s.num_nodes == 1 and s.accelerator == "cpu":
        fit_members_in_parallel(config, waiting, directories, base, workers)
    else:
        fit_members_in_turn(config, settings, task, waiting, directories, base)


def _collect(settings: TrainSettings, task: Task, run: RunDirectory, base_run: Path | None) -> dict[str, Any]:
    """Mean of the members' held-out errors, those of each, and every rung of the ladder beside its label noise."""
    directories = run.members(settings.ensemble)
    potentials = [load_potential(d.best).set_precision(torch.float64) for d in directories]
    found = [held_out_errors(potential, task, settings.level.name) for potential in potentials]
    keys = found[0].keys()
    metrics: dict[str, Any] = {k: float(np.mean([m[k] for m in found])) for k in keys}
    if settings.ensemble > 1:
        metrics["members"] = found
    metrics |= as_metrics(rungs_of(settings, task, directories, potentials, base_run))
    return metrics | {"train_frames": len(task.split.train), "ensemble": settings.ensemble}


def _announce(console: Console, settings: TrainSettings, task: Task, run: RunDirectory) -> None:
    kind = settings.potential.kind if task.low is None else f"{settings.level.name} - {task.low}"
    split = task.split
    labels = "energies and forces" if task.forces is not None else "energies"
    console.print(
        f"{settings.data['name']}: {kind}, {settings.model['name']}, {labels} of {len(split.train)} frames "
        f"({len(split.validation)} to validate, {len(split.test)} to test), {settings.ensemble} member(s), "
        f"into {run.path}"
    )


def _report(console: Console, metrics: Mapping[str, Any], run: RunDirectory) -> None:
    table = Table("held-out error", "", title=str(run.path))
    for key, value in metrics.items():
        if key.startswith("test_") and not key.endswith("frames"):
            table.add_row(key.removeprefix("test_"), f"{value:.3f}")
    console.print(table)
    for rung in read_rungs(run.path):
        console.print(rung.statement, highlight=False)
        if rung.fits_noise:
            console.print(f"[bold red]note[/]  {rung.name} fits the noise of its labels: {FITS_NOISE}", highlight=False)
