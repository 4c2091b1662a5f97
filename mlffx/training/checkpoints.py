"""Checkpoints of a fit: best.ckpt, a potential; last.ckpt, all that is needed to go on. Both are whole or not there.

last.ckpt carries the number of its format. An older one is upgraded where that is possible, else refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mlffx.errors import UserError
from mlffx.files import save_tensors
from mlffx.potentials.build import save_potential
from mlffx.training.averaging import AveragedWeights
from mlffx.training.epoch_metrics import EpochMetrics
from mlffx.training.interruption import Interrupted, take_back, watch
from mlffx.training.modules import PotentialModule
from mlffx.training.run_directory import RunDirectory

FORMAT = "mlffx_format"
FORMAT_VERSION = 2  # 1 had no number, no sums of the epoch and no place within it


def _from_1(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Written at the end of an epoch: what was added since begins empty there."""
    return checkpoint


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def read_last(path: Path) -> dict[str, Any]:
    """last.ckpt in today's format.

    Raises:
        UserError: for a file that cannot be read or comes from a newer mlffx.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        found = int(stored.get(FORMAT, 1)) if "loops" in stored else 0
    except Exception as error:
        raise UserError(
            f"unreadable checkpoint ({type(error).__name__})", "remove it to begin this member again", path
        ) from error
    if found > FORMAT_VERSION:
        raise UserError(
            f"checkpoint of a newer mlffx (format {found}; this one writes {FORMAT_VERSION})", "update mlffx", path
        )
    for version in range(found, FORMAT_VERSION):
        if version not in UPGRADES:
            raise UserError(
                f"checkpoint of format {found}, which this mlffx cannot go on from",
                "remove it to begin again, or resume with the version in environment.json",
                path,
            )
        stored = UPGRADES[version](stored)
    return stored | {FORMAT: FORMAT_VERSION}


class WholeFiles(TorchCheckpointIO):
    """Lightning's checkpoints, written and read our way."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_tensors(checkpoint | {FORMAT: FORMAT_VERSION}, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_last(Path(path))


class Checkpoints(pl.Callback):
    """best.ckpt (averaged weights) when validation improves; last.ckpt every epoch, and when a signal arrives.

    Args:
        directory: of the run or member.
        averaged: the callback whose weights are in place during validation.
        metrics: the callback that adds up over an epoch.
    """

    def __init__(self, directory: RunDirectory, averaged: AveragedWeights, metrics: EpochMetrics) -> None:
        self.directory, self.averaged, self.metrics = directory, averaged, metrics
        self.best = float("inf")
        self.best_epoch = -1
        self.place = {"batches_done": 0}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Lightning keeps the state of loaders, too, but loses it where a schedule asks for the number of steps.
        trainer.train_dataloader.load_state_dict(self.place)  # type: ignore[union-attr]
        take_back()
        watch.deferred = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        # After the last batch comes validation, and then the checkpoint of the epoch.
        if index + 1 < trainer.num_training_batches and _asked_to_stop(trainer):
            self.metrics.settle(trainer)
            self._save(trainer)
            self._stop()

    def on_validation_end(self, trainer: pl.Trainer, module: PotentialModule) -> None:  # type: ignore[override]
        if not trainer.sanity_checking:
            score = float(trainer.callback_metrics["val_loss"])
            if score < self.best:
                self.best, self.best_epoch = score, trainer.current_epoch
                if trainer.is_global_zero:
                    save_potential(module.complete, self.directory.best)
        self.averaged.restore(module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._save(trainer)
        if trainer.current_epoch + 1 < (trainer.max_epochs or 0) and _asked_to_stop(trainer):
            self._stop()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        watch.deferred = False

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        watch.deferred = False

    def _save(self, trainer: pl.Trainer) -> None:
        self.place = trainer.train_dataloader.state_dict()  # type: ignore[union-attr]
        trainer.save_checkpoint(self.directory.last)

    def _stop(self) -> None:
        raise Interrupted(watch.received or 0)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.place = state.get("place", self.place)


def _asked_to_stop(trainer: pl.Trainer) -> bool:
    """Whether any process was; all agree, and know the signal."""
    if trainer.world_size == 1:
        return watch.received is not None
    number = torch.tensor(watch.received or 0)  # by way of the CPU, so that no GPU has to wait
    torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
    watch.received = int(number) or None
    return watch.received is not None
