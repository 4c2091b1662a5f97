"""What a run learns: frames, targets and statistics, settled before any work starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.dataset import LabelledSet, load_dataset
from mlffx.data.graph import atoms_per_graph, batch_graphs, build_graph
from mlffx.data.splits import Split, split
from mlffx.errors import UserError
from mlffx.potentials.base import Potential, evaluate
from mlffx.training.losses import force_weight
from mlffx.training.settings import TrainSettings

MEAN_NEIGHBOUR_FRAMES = 5
CHUNK = 10  # structures evaluated at once


@dataclass(frozen=True)
class Task:
    """Data set, split and targets of a run.

    Attributes:
        dataset: all levels.
        split: frames.
        energies: targets, [n_frames], eV: of the level, or its difference to the low level.
        forces: targets, one [n_atoms, 3] a frame, eV/A; None where the targets have none.
        low: the low level of a delta, else None.
    """

    dataset: LabelledSet
    split: Split
    energies: np.ndarray
    forces: list[np.ndarray] | None
    low: str | None

    def graphs(self, cutoff: float, frames: np.ndarray | None = None) -> list[Data]:
        """Labelled graphs of the frames (all by default), with ideal sites where the crystal is known."""
        data, graphs = self.dataset, []
        for k in range(len(data)) if frames is None else frames:
            match = data.matches[k] if data.matches is not None else None
            sites = (None, None) if match is None else (match.sites, match.site_type)
            graph = build_graph(data.atoms[k], cutoff, *sites)
            graph[keys.ENERGY] = torch.tensor([self.energies[k]], dtype=torch.float64)
            if self.forces is not None:
                graph[keys.FORCES] = torch.as_tensor(self.forces[k], dtype=torch.float64)
            graph.frame = int(k)
            graphs.append(graph)
        return graphs

    def minus(self, potential: Potential) -> Task:
        """The same frames with what a potential does not explain as targets."""
        energies, forces = self.energies.copy(), None if self.forces is None else list(self.forces)
        frames = np.concatenate([self.split.train, self.split.validation, self.split.test])
        found = predictions(potential, self, frames, forces=forces is not None)
        energies[frames] -= found["energies"]
        if forces is not None:
            for k, predicted in zip(frames, found["forces"], strict=True):
                forces[k] = forces[k] - predicted
        return replace(self, energies=energies, forces=forces)

    def energy_scale(self) -> float:
        """Standard deviation of the target energies of the training frames, eV/atom."""
        return max(float(np.std(self.energies[self.split.train] / self.dataset.n_atoms[self.split.train])), 1e-9)

    def force_scale(self) -> float:
        """Root mean square of the target forces of the training frames, eV/A; without forces a scale of the same size
        from energies and displacements."""
        if self.forces is not None:
            return float(np.sqrt(np.mean([np.mean(self.forces[k] ** 2) for k in self.split.train])))
        amplitude = float(np.sqrt(np.mean(self.dataset.amplitudes()[self.split.train] ** 2))) or 1.0
        return self.energy_scale() / amplitude

    def offsets(self) -> np.ndarray:
        """Energy of each species, [n_species], eV: the least-norm solution of E = sum_i offset(species_i).

        With one composition in the data the species cannot be told apart; the mean energy is then shared out in
        proportion to their numbers (the least-norm solution), which is all that can be said.
        """
        frames = self.split.train
        counts = np.array(
            [[(self.dataset.atoms[k].numbers == z).sum() for z in self.dataset.species] for k in frames], dtype=float
        )
        return np.linalg.lstsq(counts, self.energies[frames], rcond=1e-8)[0]

    def statistics(self, cutoff: float) -> dict[str, Any]:
        """What architectures ask of the data: species, mean number of neighbours, crystal."""
        found: dict[str, Any] = {"species": self.dataset.species}
        graphs = self.graphs(cutoff, self.split.train[:MEAN_NEIGHBOUR_FRAMES])
        found["mean_neighbours"] = float(np.mean([g.num_edges / g.num_nodes for g in graphs]))
        if self.dataset.crystal is not None:
            found["crystal"] = self.dataset.crystal.to_arrays()
        return found


def predictions(potential: Potential, task: Task, frames: np.ndarray, forces: bool) -> dict[str, Any]:
    """Energies [n], parts {name: [n]} in eV, and forces (list of [n_atoms, 3], eV/A) if wanted."""
    energies: list[torch.Tensor] = []
    parts: dict[str, list[torch.Tensor]] = {}
    found: list[np.ndarray] = []
    graphs = task.graphs(potential.cutoff, frames)
    for start in range(0, len(graphs), CHUNK):
        batch = batch_graphs(graphs[start : start + CHUNK])
        out = evaluate(potential, batch, forces=forces)
        energies.append(out[keys.ENERGY].detach())
        for name, value in out[keys.PARTS].items():
            parts.setdefault(name, []).append(value.detach())
        if forces:
            sizes = atoms_per_graph(batch).long().tolist()
            found += [f.numpy() for f in out[keys.FORCES].detach().split(sizes)]
    joined = {name: torch.cat(values).numpy() for name, values in parts.items()}
    return {"energies": torch.cat(energies).numpy(), "parts": joined, "forces": found}


def prepare(settings: TrainSettings) -> Task:
    """Load the data and settle the targets.

    Raises:
        UserError: for labels a level does not have, frames that are missing, an empty split.
    """
    data = load_dataset(settings.data)
    level, potential = settings.level.name, settings.potential
    data.require(level)
    low = None
    if potential.kind == "delta":
        low = potential.low or data.low
        data.require(low)
        if low == level:
            raise UserError(f"a delta from '{low}' to itself", "take another level, or potential=direct", "level")
    has_forces = all("forces" in data.levels[name].labels for name in filter(None, (level, low)))
    if force_weight(settings.loss, has_forces) > 0 and not has_forces:
        for name in filter(None, (level, low)):
            data.require(name, "forces")
    energies = data.energies[level] if low is None else data.difference(level, low)
    forces = None
    if has_forces and force_weight(settings.loss, has_forces) > 0:
        forces = data.forces[level]
        if low is not None:
            forces = [f - g for f, g in zip(forces, data.forces[low], strict=True)]
    return Task(data, _split(settings, data, energies), energies, forces, low)


def _split(settings: TrainSettings, data: LabelledSet, energies: np.ndarray) -> Split:
    train, validation, test = (settings.data.get(key) for key in ("train_size", "validation_size", "test_size"))
    seed = settings.seed if settings.split_seed is None else settings.split_seed
    frames = np.flatnonzero(np.isfinite(energies))
    return split(data.amplitudes(), frames, train, validation, test, seed)
