"""Weights & Biases beside metrics.csv: offline by default, and never a reason for a run to fail."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings


def build_logger(settings: TrainSettings, directory: RunDirectory, member: int) -> WandbRun | None:
    """The logger of one member; None where metrics.csv is all that is wanted."""
    if settings.logger.name != "wandb" or settings.wandb.mode == "disabled":
        return None
    return WandbRun(settings, directory, member)


class WandbRun(Logger):
    """A W&B run in the run directory (`wandb/`; send it later with `wandb sync`).

    If W&B cannot be started or fails later, a warning is given once and training goes on: metrics.csv has everything.
    """

    def __init__(self, settings: TrainSettings, directory: RunDirectory, member: int) -> None:
        super().__init__()
        self.settings, self.directory, self.member = settings, directory, member
        self._run: Any = None
        self._failed = False

    @property
    def name(self) -> str:
        return self.directory.path.name

    @property
    def version(self) -> str:
        return str(self.member)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._run is None and not self._failed:
            self._attempt(self._start)
        return self._run

    def _start(self) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        s = self.settings
        self._run = wandb.init(
            project=s.wandb.project,
            entity=s.wandb.entity,
            group=s.wandb.group or (self.directory.path.parent.parent.name if s.ensemble > 1 else None),
            tags=[s.potential.kind, s.level.name, str(s.model["name"]), *s.wandb.tags],
            name=f"{self.name}-{self.member}" if s.ensemble > 1 else self.name,
            mode=s.wandb.mode,
            dir=str(self.directory.path),
            config=asdict(s),
            resume="allow",
            settings=wandb.Settings(init_timeout=20, console="off"),
        )

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Everything is in the run's config already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if (run := self.experiment) is not None:
            self._attempt(lambda: run.log(dict(metrics), step=step))

    def close(self) -> None:
        """End the run and flush its files."""
        if self._run is not None:
            self._attempt(self._run.finish)

    def _attempt(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            if not self._failed:
                warnings.warn(f"W&B failed ({type(error).__name__}: {error}); training goes on", stacklevel=2)
            self._failed, self._run = True, None
