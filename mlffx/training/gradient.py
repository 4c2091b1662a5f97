"""Training by gradient descent with Lightning: one member of a run."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.strategies import DDPStrategy, Strategy

from mlffx.data.graph import batch_graphs, edges_of
from mlffx.data.splits import resample
from mlffx.errors import UserError
from mlffx.models.base import MODELS, build_model, complete_spec
from mlffx.potentials.base import Potential
from mlffx.potentials.charge_aware import centre_offsets, with_charges
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.sum import SumPotential
from mlffx.training.averaging import AveragedWeights
from mlffx.training.callbacks import EpochBar
from mlffx.training.checkpoints import Checkpoints, WholeFiles, read_last
from mlffx.training.closed_form import has_charges, linear_prior
from mlffx.training.datamodule import GraphDataModule
from mlffx.training.distributed import World
from mlffx.training.epoch_metrics import EpochMetrics, Row
from mlffx.training.fine_tuning import freeze, load_start, network_of, take_charges
from mlffx.training.interruption import Interrupted, watch
from mlffx.training.losses import EnergyForceLoss
from mlffx.training.modules import ChargeAwareModule, DeltaModule, DirectModule, PotentialModule
from mlffx.training.phonon_watch import PhononWatch
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
    listeners: Sequence[Callable[[Row], None]] | None = None,
    world: World | None = None,
) -> None:
    """Train one member; writes metrics.csv, last.ckpt every epoch and best.ckpt. Resumes where last.ckpt ends.

    Args:
        settings, task, member: what to train, on what, and which member of the ensemble.
        directory: of the member.
        base: under a delta.
        listeners: called with the row of every epoch.
        world: this process among those that train together; each calls this with the same arguments.

    Raises:
        UserError: for a fit that diverged, a checkpoint that does not fit, a disk that is full.
        Interrupted: after a signal, when the checkpoint is written.
    """
    if watch.received:
        raise Interrupted(watch.received)
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
        *((world.rank, world.size) if world else (0, 1)),
    )
    title = f"member {member}" if settings.ensemble > 1 else settings.level.name
    unused = world is not None and leaves_some_unused(module, data)
    trainer = _trainer(settings, task, directory, title, listeners or (), world, unused)
    resume = str(directory.last) if directory.last.exists() else None
    if resume and _finished(read_last(directory.last), trainer_settings.max_epochs):
        return  # only what comes after training is left
    with warnings.catch_warnings():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message)
        try:
            trainer.fit(module, data, ckpt_path=resume)
        except SystemExit:  # Lightning's answer to an interrupt
            raise Interrupted(watch.received or signal.SIGINT) from None


def leaves_some_unused(module: PotentialModule, data: GraphDataModule) -> bool:
    """Whether some parameters get no gradient (those of a last layer's vectors from energies alone): DDP must know."""
    loss = module.training_step(next(iter(data.train_dataloader())), 0)
    trained = [p for p in module.learned.parameters() if p.requires_grad]
    return any(g is None for g in torch.autograd.grad(loss, trained, allow_unused=True))


def _finished(checkpoint: dict[str, Any], max_epochs: int) -> bool:
    """Whether the epochs are done; one that was left in the middle is not."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return int(progress["processed"]) >= max_epochs


# What Lightning and torch warn of and we do on purpose.
_EXPECTED = [".*number of training batches.*", ".*srun.*", ".*treespec, LeafSpec.*", "Grad strides do not match.*"]


def _trainer(
    settings: TrainSettings,
    task: Task,
    directory: RunDirectory,
    title: str,
    listeners: Sequence[Callable[[Row], None]],
    world: World | None,
    unused: bool,
) -> pl.Trainer:
    s = settings.trainer
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    averaged, metrics = AveragedWeights(s.ema), EpochMetrics(directory.metrics, list(listeners))
    # Metrics before checkpoints: a row too many is dropped on resuming, one too few would be lost.
    callbacks: list[pl.Callback] = [averaged, metrics, Checkpoints(directory, averaged, metrics)]
    if settings.wandb.phonons_every:
        crystal = task.dataset.crystal
        assert crystal is not None  # `rehearse` has seen to it
        watched = PhononWatch(crystal, settings.wandb.phonons_every, directory.path / "phonons.csv", listeners)
        callbacks.insert(1, watched)
    if s.patience is not None:
        callbacks.append(EarlyStopping("val_loss", patience=s.patience))
    if s.progress:
        callbacks.append(EpochBar(title, metrics))
    # Who the processes are is settled in `distributed`; Lightning is not to look for srun or torchrun on its own.
    environment: ClusterEnvironment = LightningEnvironment() if world is None else TorchElasticEnvironment()
    strategy: Strategy | str = "auto"
    if world is not None:
        strategy = DDPStrategy(find_unused_parameters=unused)
    return pl.Trainer(
        max_epochs=s.max_epochs,
        accelerator=s.accelerator,
        devices=s.devices,
        strategy=strategy,
        num_nodes=s.num_nodes,
        gradient_clip_val=s.gradient_clip,
        check_val_every_n_epoch=s.validate_every,
        callbacks=callbacks,
        plugins=[environment, WholeFiles()],
        logger=False,
        inference_mode=False,  # forces are derivatives
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory.path,
    )
