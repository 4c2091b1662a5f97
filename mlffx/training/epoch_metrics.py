"""What an epoch is judged by: one row with units in the names, into metrics.csv and to whoever else listens."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch_geometric.data import Data

from mlffx.errors import UserError
from mlffx.files import writing
from mlffx.training.datamodule import share_of

Row = dict[str, float | int]
UNITS = {  # of the columns of metrics.csv that are named without one
    "train_loss": "mean squared residual in standard deviations of the targets",
    "val_loss": "as train_loss, of the averaged weights on the validation frames",
    "gradient_norm": "loss per unit of weight, mean over the steps before clipping",
    "gradient_norm_max": "its maximum",
    "learning_rate": "at the end of the epoch",
    "seconds": "s, of this session's part of the epoch",
}


def readable(metrics: Mapping[str, Any]) -> Row:
    """Validation metrics of Lightning with their units in the names."""
    found = {k: float(v) for k, v in metrics.items()}
    row: Row = {"val_loss": found.get("val_loss", float("nan"))}
    for key, name in (
        ("val_energy_mse", "val_energy_rmse_meV_per_atom"),
        ("val_forces_mse", "val_forces_rmse_meV_per_A"),
        ("val_charge_square_e2", "val_charge_rms_e"),
    ):
        if key in found:
            row[name] = found[key] ** 0.5
    return row


class EpochMetrics(pl.Callback):
    """Adds up losses and gradient norms over an epoch and hands its row on.

    The sums are part of checkpoints: an epoch that was interrupted has the row of an unbroken one, save for `seconds`.

    Args:
        path: of metrics.csv; on resuming, rows of epochs that will be repeated are dropped first.
        listeners: called with every row, in the first process only.
    """

    def __init__(self, path: Path, listeners: list[Callable[[Row], None]]) -> None:
        self.path, self.listeners = path, listeners
        self.row: Row = {}
        self._sums = _zeros()
        self._began = time.perf_counter()
        self._structures = 0  # since then

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._began, self._structures = time.perf_counter(), 0  # also where an epoch is taken up in the middle
        self._sums = {k: v.to(module.device) for k, v in self._sums.items()}
        if trainer.is_global_zero and self.path.exists():
            with self.path.open() as file:
                rows = list(csv.DictReader(file))
            kept = [r for r in rows if (r["epoch"] or "").isdigit() and int(r["epoch"]) < trainer.current_epoch]
            self._write(kept, "w") if kept else self.path.unlink()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._began, self._structures = time.perf_counter(), 0
        self._sums = {k: torch.zeros_like(v) for k, v in self._sums.items()}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).double()
        self._sums["gradient_norm"] += norm
        self._sums["gradient_norm_max"] = torch.maximum(self._sums["gradient_norm_max"], norm)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Data, index: int
    ) -> None:
        structures = share_of(batch).structures
        self._sums["loss"] += structures * outputs["loss"].detach().double()
        self._sums["structures"] += structures
        self._sums["steps"] += 1
        self._structures += structures

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self._began
        self.settle(trainer)
        sums = {k: float(v) for k, v in self._sums.items()}
        row: Row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {"train_loss": sums["loss"] / max(sums["structures"], 1), **readable(trainer.callback_metrics)}
        row |= {
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "gradient_norm": sums["gradient_norm"] / max(sums["steps"], 1),
            "gradient_norm_max": sums["gradient_norm_max"],
            "seconds": round(seconds, 4),
            "structures_per_second": round(self._structures / seconds, 2),
        }
        self.row = row
        if trainer.is_global_zero:
            self._write([row], "a")
            for listener in self.listeners:
                listener(row)
        if not math.isfinite(row["train_loss"]):
            what = f"training diverged in epoch {trainer.current_epoch} (the loss is {row['train_loss']})"
            raise UserError(what, "lower optimizer.lr or trainer.gradient_clip", self.path.parent)

    def settle(self, trainer: pl.Trainer) -> None:
        """Give every process the mean of what each has of the loss; called by all of them."""
        self._sums["loss"] = trainer.strategy.reduce(self._sums["loss"], reduce_op="mean")

    def state_dict(self) -> dict[str, Any]:
        return {name: float(value) for name, value in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = {name: torch.tensor(state[name], dtype=torch.float64) for name in self._sums if name in state}

    def _write(self, rows: list[Any], mode: str) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        if mode == "a" and self.path.exists():
            with self.path.open() as file:
                there = csv.DictReader(file)
                known = list(there.fieldnames or [])
                if known != columns:  # epochs without validation, or the first row of an older version: as wide as both
                    rows, mode = [*there, *rows], "w"
                    columns = list(dict.fromkeys([*known, *columns]))
        header = mode == "w" or not self.path.exists()
        with writing(self.path), self.path.open(mode, newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            if header:
                writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())


def _zeros() -> dict[str, torch.Tensor]:
    names = ("loss", "structures", "steps", "gradient_norm", "gradient_norm_max")
    return {name: torch.zeros((), dtype=torch.float64) for name in names}


def errors_line(row: Mapping[str, Any]) -> str:
    """`0.42 meV/atom  61 meV/A` of a row of metrics."""
    line = ""
    if row.get("val_energy_rmse_meV_per_atom"):
        line += f"{float(row['val_energy_rmse_meV_per_atom']):.2f} meV/atom"
    if row.get("val_forces_rmse_meV_per_A"):
        line += f"  {float(row['val_forces_rmse_meV_per_A']):.0f} meV/A"
    return line
