"""Averaged weights: smoother than those in training, validated and kept in their place."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from mlffx.training.modules import PotentialModule


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
