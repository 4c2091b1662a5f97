"""Graphs in memory, in batches that depend on seed and epoch alone, shared out among processes.

`batch_size` is that of a step of the optimizer, whatever the number of processes: each of W processes takes every W-th
structure of the batch. What a process computes is weighted by its share, so that the mean over processes is the mean
over the batch, also where the shares differ in size (the last batch of an epoch) or in atoms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch_geometric.data import Batch, Data

from mlffx.data.graph import batch_graphs, n_graphs

SHARE = "share"  # attribute of a batch that is part of a larger one


class Share(NamedTuple):
    """What part of a batch a process has.

    Attributes:
        structures: of the whole batch.
        of_structures, of_atoms: this process's part of the whole, times the number of processes; 1 with one process.
    """

    structures: int
    of_structures: float
    of_atoms: float


def share_of(batch: Data) -> Share:
    """The share of a batch; everything where it was never divided."""
    found = getattr(batch, SHARE, None)
    return Share(n_graphs(batch), 1.0, 1.0) if found is None else found


def share_out(graphs: Sequence[Data], rank: int, size: int) -> Batch:
    """One process's part of a batch; a process that nothing is left for repeats a structure with weight 0."""
    mine = graphs[rank::size]
    batch = batch_graphs(list(mine or graphs[:1]))
    if size > 1:
        atoms, my_atoms = (sum(int(g.num_nodes) for g in some) for some in (graphs, mine))
        batch[SHARE] = Share(len(graphs), size * len(mine) / len(graphs), size * my_atoms / atoms)
    return batch


class EpochOrder:
    """A permutation that depends on seed and epoch alone."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after resuming."""
        self.epoch = epoch

    def indices(self) -> list[int]:
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist()


class GraphBatches:
    """Batches of graphs for one process; can be left in the middle of an epoch and taken up there again.

    Args:
        graphs: all of them, the same in every process.
        batch_size: structures a step, all processes together.
        sampler: order; None keeps theirs.
        rank, size: of the process among the processes.
    """

    batch_sampler = None  # Lightning looks for it beside `sampler`

    def __init__(
        self, graphs: Sequence[Data], batch_size: int, sampler: EpochOrder | None, rank: int = 0, size: int = 1
    ) -> None:
        self.graphs, self.batch_size, self.sampler, self.rank, self.size = graphs, batch_size, sampler, rank, size
        self._done = 0  # batches of this epoch

    def __len__(self) -> int:
        return -(-len(self.graphs) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: the order is settled at the first batch, when Lightning has set the epoch.
        begin, self._done = self._done, 0
        order = range(len(self.graphs)) if self.sampler is None else self.sampler.indices()
        for k in range(begin, len(self)):
            chosen = [self.graphs[i] for i in order[k * self.batch_size : (k + 1) * self.batch_size]]
            self._done = (k + 1) % len(self)
            yield share_out(chosen, self.rank, self.size)

    def state_dict(self) -> dict[str, Any]:
        """Where in the epoch it is; Lightning puts it into checkpoints."""
        return {"batches_done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._done = state["batches_done"]


class GraphDataModule(pl.LightningDataModule):
    """Training and validation graphs.

    Args:
        train, validation: labelled graphs.
        batch_size: structures a step, all processes together.
        seed: of the shuffling.
        rank, size: of this process among the processes.
    """

    def __init__(
        self,
        train: Sequence[Data],
        validation: Sequence[Data],
        batch_size: int,
        seed: int,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.batch_size, self.seed = train, validation, batch_size, seed
        self.rank, self.size = rank, size

    def train_dataloader(self) -> GraphBatches:
        order = EpochOrder(len(self.train), self.seed)
        return GraphBatches(self.train, self.batch_size, order, self.rank, self.size)

    def val_dataloader(self) -> GraphBatches:
        return GraphBatches(self.validation, 4 * self.batch_size, None, self.rank, self.size)

    def transfer_batch_to_device(self, batch: Data, device: torch.device, dataloader_idx: int) -> Data:
        return batch.to(device)
