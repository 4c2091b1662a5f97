"""Lightning callbacks: averaged weights, the best and the last checkpoint, metrics.csv, the progress bar."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlffx.potentials.build import save_potential
from mlffx.training.modules import PotentialModule
from mlffx.training.run_directory import RunDirectory


class AveragedWeights(pl.Callback):
    """Exponential moving average of the weights, put in place for validation and for the best checkpoint.

    Args:
        decay: per step; early on min(decay, (1 + step) / (10 + step)), so that the start is forgotten.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, torch.Tensor] = {}
        self._trained: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, module: PotentialModule, *_: Any) -> None:  # type: ignore[override]
        step = trainer.global_step
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, weight in module.learned.named_parameters():
                if name not in self.average:
                    self.average[name] = weight.detach().clone()
                else:
                    self.average[name].lerp_(weight.detach(), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, module: PotentialModule) -> None:  # type: ignore[override]
        if self.average:
            self._trained = {n: w.detach().clone() for n, w in module.learned.named_parameters()}
            _load(module, self.average)

    def restore(self, module: PotentialModule) -> None:
        """Back to the weights in training; called by `Checkpoints` after it has stored the averaged ones."""
        if self._trained:
            _load(module, self._trained)
            self._trained = {}

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = state["average"]


def _load(module: PotentialModule, weights: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, weight in module.learned.named_parameters():
            weight.copy_(weights[name])


class Checkpoints(pl.Callback):
    """best.ckpt (a potential, averaged weights) when validation improves; last.ckpt (all, to resume) every epoch.

    Args:
        directory: of the run or member.
        averaged: the callback whose weights are in place during validation.
    """

    def __init__(self, directory: RunDirectory, averaged: AveragedWeights) -> None:
        self.directory, self.averaged = directory, averaged
        self.best = float("inf")
        self.best_epoch = -1

    def on_validation_end(self, trainer: pl.Trainer, module: PotentialModule) -> None:  # type: ignore[override]
        if not trainer.sanity_checking:
            score = float(trainer.callback_metrics["val_loss"])
            if score < self.best:
                self.best, self.best_epoch = score, trainer.current_epoch
                if trainer.is_global_zero:
                    save_potential(module.complete, self.directory.best)
        self.averaged.restore(module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        partial = self.directory.last.with_suffix(".part")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.directory.last)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]


def readable(trainer: pl.Trainer) -> dict[str, float]:
    """Metrics of the epoch with their units in the names."""
    found = {k: float(v) for k, v in trainer.callback_metrics.items()}
    row = {"train_loss": found.get("train_loss", float("nan")), "val_loss": found.get("val_loss", float("nan"))}
    for key, name in (
        ("val_energy_mse", "val_energy_rmse_meV_per_atom"),
        ("val_forces_mse", "val_forces_rmse_meV_per_A"),
    ):
        if key in found:
            row[name] = found[key] ** 0.5
    return row | {k: v for k, v in found.items() if k == "val_charge_rms_e"}


class MetricsFile(pl.Callback):
    """One row of metrics.csv an epoch; on resuming, rows of epochs that will be repeated are dropped first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.path.exists():
            with self.path.open() as file:
                rows = list(csv.DictReader(file))
            kept = [r for r in rows if (r["epoch"] or "").isdigit() and int(r["epoch"]) < trainer.current_epoch]
            self._write(kept, "w") if kept else self.path.unlink()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        seconds = time.perf_counter() - self._began
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **readable(trainer)}
        row |= {"learning_rate": trainer.optimizers[0].param_groups[0]["lr"], "seconds": round(seconds, 4)}
        self._write([row], "a")

    def _write(self, rows: list[dict], mode: str) -> None:
        header = mode == "w" or not self.path.exists()
        with self.path.open(mode, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if header:
                writer.writeheader()
            writer.writerows(rows)


class EpochBar(pl.Callback):
    """One bar: epochs done, validation errors in meV/atom and meV/A, time left."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
        )

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=trainer.max_epochs, completed=trainer.current_epoch, errors="")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.update(self.task, completed=trainer.current_epoch + 1, errors=errors_line(readable(trainer)))

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self.bar.stop()


def errors_line(row: dict[str, Any]) -> str:
    """`0.42 meV/atom  61 meV/A` of a row of metrics."""
    line = ""
    if row.get("val_energy_rmse_meV_per_atom"):
        line += f"{float(row['val_energy_rmse_meV_per_atom']):.2f} meV/atom"
    if row.get("val_forces_rmse_meV_per_A"):
        line += f"  {float(row['val_forces_rmse_meV_per_A']):.0f} meV/A"
    return line
