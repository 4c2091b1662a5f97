"""Training by gradient descent with Lightning: one member of a run."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from mlffx.data.graph import batch_graphs, edges_of
from mlffx.data.splits import resample
from mlffx.errors import UserError
from mlffx.models.base import MODELS, build_model, complete_spec
from mlffx.potentials.base import Potential
from mlffx.potentials.charge_aware import centre_offsets, with_charges
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.sum import SumPotential
from mlffx.training.callbacks import AveragedWeights, Checkpoints, EpochBar, MetricsFile
from mlffx.training.closed_form import has_charges, linear_prior
from mlffx.training.datamodule import GraphDataModule
from mlffx.training.fine_tuning import freeze, load_start, network_of, take_charges
from mlffx.training.losses import EnergyForceLoss
from mlffx.training.modules import ChargeAwareModule, DeltaModule, DirectModule, PotentialModule
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task


def untrained(settings: TrainSettings, task: Task, member: int = 0) -> Potential:
    """The potential to be learned: a new network, or for fine-tuning that of another run; with charges if it has them.

    Offsets are those of the training frames, so that a network of another level starts at the right mean energy.
    """
    species, start = task.dataset.species, load_start(settings, task.dataset.species, member)
    network = new_network(settings, task) if start is None else network_of(start)
    assert network is not None
    learned: Potential = network
    if settings.potential.kind == "charge_aware" or has_charges(settings):
        learned = with_charges(network, settings.electrostatics, species)
        if start is not None:
            take_charges(learned, start)
    if start is not None or learned is not network:
        frames = task.split.train
        centre_offsets(learned, task.graphs(learned.cutoff, frames), task.energies[frames])
    freeze(learned, network.model, settings.start.freeze)
    return learned


def new_network(settings: TrainSettings, task: Task) -> NetworkPotential:
    """A network with random weights, and offsets and scale from the training frames."""
    options = dict(settings.model)
    probe = MODELS.options(options["name"]).get("cutoff")
    cutoff = options.get("cutoff") or (probe.default if probe is not None else None)
    if cutoff is None:
        raise UserError("is missing", "set model.cutoff=4.0", "model.cutoff")
    spec = complete_spec(options, **task.statistics(float(cutoff)))
    model = build_model(spec)
    training = batch_graphs(task.graphs(model.cutoff, task.split.train))
    model.fit_features(training, edges_of(training))
    return NetworkPotential(model, torch.as_tensor(task.offsets()), task.force_scale(), spec)


def module_for(
    settings: TrainSettings, task: Task, learned: Potential, prior: Potential | None, base: Potential | None
) -> PotentialModule:
    """The Lightning module of the kind of potential."""
    loss = EnergyForceLoss(settings.loss, task.forces is not None, task.energy_scale(), task.force_scale())
    difference = learned if prior is None else SumPotential({"linear": prior, "network": learned})
    if base is not None:
        complete = SumPotential({"base": base, "delta": difference})
        return DeltaModule(learned, complete, loss, settings.optimizer, settings.scheduler)
    kind = ChargeAwareModule if settings.potential.kind == "charge_aware" else DirectModule
    return kind(learned, difference, loss, settings.optimizer, settings.scheduler)


def fit_by_gradient(
    settings: TrainSettings,
    task: Task,
    member: int,
    directory: RunDirectory,
    base: Potential | None,
    logger: Any = None,
) -> None:
    """Train one member; writes metrics.csv, last.ckpt every epoch and best.ckpt. Resumes where last.ckpt ends."""
    seed = settings.seed * 1000 + member
    pl.seed_everything(seed, verbose=False)
    trainer_settings = settings.trainer
    frames = (
        resample(task.split.train, seed)
        if settings.resample == "bootstrap" and settings.ensemble > 1
        else task.split.train
    )
    prior = None
    if settings.prior == "force_constants":
        prior = linear_prior(settings, task, frames)
        task = task.minus(prior)
    learned = untrained(settings, task, member).set_precision(getattr(torch, trainer_settings.precision))
    module = module_for(settings, task, learned, prior, base)
    if not len(task.split.validation):
        raise UserError("networks need validation frames to tell the best epoch", "set data.validation_size=20", "data")
    data = GraphDataModule(
        task.graphs(learned.cutoff, frames),
        task.graphs(learned.cutoff, task.split.validation),
        trainer_settings.batch_size,
        seed,
    )
    trainer = _trainer(
        settings, directory, f"member {member}" if settings.ensemble > 1 else settings.level.name, logger
    )
    resume = str(directory.last) if directory.last.exists() else None
    if resume and int(torch.load(resume, weights_only=True)["epoch"]) + 1 >= trainer_settings.max_epochs:
        return  # it had finished; only what comes after training is left
    with warnings.catch_warnings():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message)
        try:
            trainer.fit(module, data, ckpt_path=resume)
        except SystemExit:  # Lightning's answer to an interrupt
            raise KeyboardInterrupt from None
    if not np.isfinite(float(trainer.callback_metrics.get("train_loss", 0.0))):
        raise UserError("training diverged (loss is not finite)", "lower optimizer.lr", directory.path)


# What Lightning warns of and we do on purpose (graphs stay in memory: no loader processes), or torch of Lightning.
_EXPECTED = [".*does not have many workers.*", ".*number of training batches.*", ".*srun.*", ".*treespec, LeafSpec.*"]


def _trainer(settings: TrainSettings, directory: RunDirectory, title: str, logger: Any) -> pl.Trainer:
    s = settings.trainer
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    averaged = AveragedWeights(s.ema)
    callbacks: list[pl.Callback] = [
        averaged,
        MetricsFile(
            directory.metrics
        ),  # before the checkpoint: a row too many is dropped on resuming, one too few is lost
        Checkpoints(directory, averaged),
    ]
    if s.patience is not None:
        callbacks.append(EarlyStopping("val_loss", patience=s.patience))
    if s.progress:
        callbacks.append(EpochBar(title))
    directory.last.parent.mkdir(parents=True, exist_ok=True)
    return pl.Trainer(
        max_epochs=s.max_epochs,
        accelerator=s.accelerator,
        devices=s.devices,
        strategy=s.strategy,
        num_nodes=s.num_nodes,
        gradient_clip_val=s.gradient_clip,
        check_val_every_n_epoch=s.validate_every,
        callbacks=callbacks,
        logger=logger or False,
        inference_mode=False,  # forces are derivatives
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory.path,
    )
