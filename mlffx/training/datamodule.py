"""Graphs in memory, shuffled by seed and epoch: a resumed run sees the batches the unbroken one would have seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler
from torch_geometric.data import Data

from mlffx.data.graph import batch_graphs


class EpochSampler(Sampler[int]):
    """A permutation that depends on seed and epoch alone."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after resuming."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist())

    def __len__(self) -> int:
        return self.n


class GraphDataModule(pl.LightningDataModule):
    """Training and validation graphs.

    Args:
        train, validation: labelled graphs.
        batch_size: structures a step.
        seed: of the shuffling.
    """

    def __init__(self, train: Sequence[Data], validation: Sequence[Data], batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.validation, self.batch_size, self.seed = train, validation, batch_size, seed

    def train_dataloader(self) -> DataLoader:
        sampler = EpochSampler(len(self.train), self.seed)
        return DataLoader(self.train, self.batch_size, sampler=sampler, collate_fn=batch_graphs)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validation, 4 * self.batch_size, collate_fn=batch_graphs)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Data, device: torch.device, dataloader_idx: int) -> Data:
        return batch.to(device)
