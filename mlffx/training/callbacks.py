"""The progress bar of a fit."""

from __future__ import annotations

import pytorch_lightning as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlffx.training.epoch_metrics import EpochMetrics, errors_line


class EpochBar(pl.Callback):
    """One bar: epochs done, validation errors in meV/atom and meV/A, time left."""

    def __init__(self, title: str, metrics: EpochMetrics) -> None:
        self.title, self.metrics = title, metrics
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
        )

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar.start()
        self.task = self.bar.add_task(self.title, total=trainer.max_epochs, completed=trainer.current_epoch, errors="")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.update(self.task, completed=trainer.current_epoch + 1, errors=errors_line(self.metrics.row))

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self.bar.stop()
