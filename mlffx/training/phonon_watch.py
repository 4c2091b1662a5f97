"""Phonons in the course of training: whether curvatures have settled says more than the error of energies does."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.files import writing
from mlffx.lattice import Phonons, conventional_matrix, finite_displacement, labelled_frequencies
from mlffx.potentials.base import Potential
from mlffx.training.epoch_metrics import Row
from mlffx.training.modules import PotentialModule

SUPERCELL = 2  # conventional cells along each axis: quick, and enough to see curvatures move


def frequencies(potential: Potential, crystal: Crystal) -> dict[str, float]:
    """`{"phonons/GAMMA_LTO_cm1": 1304.2}`, imaginary ones negative, without non-analytical term."""
    constants = finite_displacement(potential, crystal, conventional_matrix(crystal, SUPERCELL), extrapolate=False)
    named = labelled_frequencies(Phonons(constants))
    return {f"phonons/{label}_{branch}_cm1": value for label, found in named.items() for branch, value in found.items()}


def check_phonons(every: int, crystal: Crystal | None) -> None:
    """Whether phonons can be had every so many epochs.

    Raises:
        UserError: for fewer than 1, and for a data set without a crystal.
    """
    where = "wandb.phonons_every"
    if every < 1:
        raise UserError(f"every {every} epochs", "take 1 or more, or null for never", where)
    if crystal is None:
        raise UserError("the data set has no crystal", "declare data.crystal, or take null", where)


class PhononWatch(pl.Callback):
    """Labelled frequencies of the averaged weights every `every` epochs, into a CSV file and to listeners.

    Args:
        crystal: of the data set.
        every: epochs; the first row is after that many.
        path: of the CSV file, a line a frequency.
        listeners: called with the epoch and its frequencies.
    """

    def __init__(self, crystal: Crystal, every: int, path: Path, listeners: Sequence[Callable[[Row], None]]) -> None:
        self.crystal, self.every, self.path, self.listeners = crystal, every, path, listeners

    def on_validation_end(self, trainer: pl.Trainer, module: PotentialModule) -> None:  # type: ignore[override]
        # Before Checkpoints, which puts the weights in training back in place of the averaged ones.
        epoch = trainer.current_epoch
        if trainer.is_global_zero and (epoch + 1) % self.every == 0:
            found = frequencies(copy.deepcopy(module.complete).cpu(), self.crystal)
            self._write(epoch, found)
            for listener in self.listeners:
                listener({"epoch": epoch, **found})

    def _write(self, epoch: int, found: dict[str, float]) -> None:
        kept = []
        if self.path.exists():  # epochs that a resumed run repeats are written anew
            with self.path.open() as file:
                kept = [r for r in csv.DictReader(file) if int(r["epoch"]) < epoch]
        rows = [{"epoch": epoch, "mode": k.removeprefix("phonons/"), "cm1": round(v, 3)} for k, v in found.items()]
        with writing(self.path), self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "mode", "cm1"])
            writer.writeheader()
            writer.writerows([*kept, *rows])
