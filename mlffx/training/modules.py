"""Lightning modules: direct, delta and charge-aware, trained on energies (one backward pass) or energies and forces."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import atoms_per_graph, edges_of
from mlffx.potentials.base import Potential, evaluate
from mlffx.training.datamodule import share_of
from mlffx.training.losses import EnergyForceLoss
from mlffx.training.settings import OptimizerSettings, SchedulerSettings


class PotentialModule(pl.LightningModule):
    """Trains `learned` on the targets of its batches.

    Args:
        learned: the potential whose parameters are trained.
        complete: what the run is for; `learned` itself, or a sum that contains it.
        loss: of its energies and forces.
        optimizer, scheduler: settings.
    """

    complete: Potential

    def __init__(
        self,
        learned: Potential,
        complete: Potential,
        loss: EnergyForceLoss,
        optimizer: OptimizerSettings,
        scheduler: SchedulerSettings,
    ) -> None:
        super().__init__()
        self.learned, self.loss = learned, loss
        # Kept out of the module tree: a base is neither trained nor stored in the checkpoints of every epoch.
        object.__setattr__(self, "complete", complete.eval())
        learned.train()
        self.optimizer_settings, self.scheduler_settings = optimizer, scheduler
        self.with_force_labels = loss.needs_forces

    def training_step(self, batch: Data, index: int) -> Tensor:
        out = evaluate(self.learned, batch, forces=self.loss.needs_forces, create_graph=True)
        return self.loss(out, batch)  # its mean over an epoch is kept by callbacks.EpochMetrics

    def validation_step(self, batch: Data, index: int) -> None:
        out = evaluate(self.learned, batch, forces=self.with_force_labels)
        share = share_of(batch)
        with torch.no_grad():
            error = 1e3 * (out[keys.ENERGY] - batch[keys.ENERGY]) / atoms_per_graph(batch)
            self._log("val_loss", self.loss({k: v.detach() for k, v in out.items() if k in _NEEDED}, batch), batch)
            self._log("val_energy_mse", share.of_structures * (error**2).mean(), batch)
            if self.with_force_labels:
                residual = 1e3 * (out[keys.FORCES] - batch[keys.FORCES])
                self._log("val_forces_mse", share.of_atoms * (residual**2).mean(), batch)

    def _log(self, name: str, value: Tensor, batch: Data) -> None:
        """Mean over the epoch and over processes, each with its share of the batch: no structure counts twice."""
        self.log(name, value, batch_size=share_of(batch).structures, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Biases, embeddings and other vectors are not decayed."""
        settings = self.optimizer_settings
        trained = [p for p in self.learned.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        optimizer = cls(groups, lr=settings.lr, amsgrad=settings.amsgrad)
        schedule = self.scheduler_settings
        if schedule.name == "onecycle":
            steps = max(int(self.trainer.estimated_stepping_batches), 2)
            # torch divides by the length of the warm-up less one step
            warmup = schedule.warmup if abs(schedule.warmup * steps - 1) > 1e-9 else 2 / steps
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps, pct_start=warmup)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
        if schedule.name == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=schedule.patience)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        return optimizer


_NEEDED = (keys.ENERGY, keys.FORCES)


class DirectModule(PotentialModule):
    """One level of theory, total energies (and forces where the level has them)."""


class DeltaModule(PotentialModule):
    """High level minus low level; `complete` is the sum of a frozen base and what is learned."""


class ChargeAwareModule(PotentialModule):
    """A short-range network and the Ewald energy of its charges; logs how large the charges are."""

    def validation_step(self, batch: Data, index: int) -> None:
        super().validation_step(batch, index)
        with torch.no_grad():
            charges = self.learned(batch, edges_of(batch))[keys.CHARGES]
        self._log("val_charge_square_e2", share_of(batch).of_atoms * charges.pow(2).mean(), batch)
