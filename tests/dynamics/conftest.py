"""Crystals whose dynamics is known: springs (harmonic to all orders) and bonds with cubic and quartic terms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.geometry import get_distances

from mlffx.data import keys
from mlffx.data.crystal import Crystal
from mlffx.data.graph import n_graphs
from mlffx.dynamics.integrate import Noise, advance, start
from mlffx.dynamics.production import run_trajectory
from mlffx.dynamics.replicas import ReplicaForces
from mlffx.dynamics.trajectory import Schedule
from mlffx.potentials.base import Potential
from mlffx.potentials.harmonic import HarmonicPotential

BOND = 2.5  # A
SHELLS = [(3.0, 0.3, 2.2), (1.0, 0.05, 2.9)]  # first and second neighbours of the rock-salt crystal


class Bonds(Potential):
    """Nearest-neighbour bonds: k2 x^2/2 + k3 x^3/6 + k4 x^4/24 in the change x of their length, eV and A."""

    def __init__(self, k2: float, k3: float, k4: float, length: float = BOND) -> None:
        super().__init__()
        self.constants, self.length, self.cutoff = (k2, k3, k4), length, 1.2 * length

    def forward(self, graph, edges):
        near = edges.within(self.cutoff)
        x = near.lengths - self.length
        k2, k3, k4 = self.constants
        bond = 0.5 * (k2 * x**2 / 2 + k3 * x**3 / 6 + k4 * x**4 / 24)  # every bond is two edges
        energy = graph[keys.CELL].new_zeros(n_graphs(graph)).index_add(0, graph[keys.BATCH][near.receiver], bond)
        return {keys.ENERGY: energy, keys.PARTS: {"bonds": energy}}

    def spec(self):
        return {"kind": "bonds", "constants": self.constants, "length": self.length}


def spring_constants(supercell, springs):
    """[n, n, 3, 3] of springs (longitudinal, transverse, reach in A); several shells add up."""
    n = len(supercell)
    vectors, lengths = get_distances(supercell.positions, cell=supercell.cell, pbc=True)
    phi = np.zeros((n, n, 3, 3))
    for longitudinal, transverse, reach in springs:
        for i, j in np.argwhere((lengths < reach) & (lengths > 0.1)):
            along = vectors[i, j] / lengths[i, j]
            block = longitudinal * np.outer(along, along) + transverse * np.eye(3)
            phi[i, j] -= block
            phi[i, i] += block
    return phi


@pytest.fixture(scope="session")
def single_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Springs:
    """Rock-salt LiH of springs: crystal, supercell, force constants, potential."""

    def __init__(self) -> None:
        self.crystal = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.0)
        self.supercell = self.crystal.supercell([2, 2, 2])
        self.force_constants = spring_constants(self.supercell, SHELLS)
        self.masses = np.where(self.supercell.numbers == 1, 1.008, 6.94)
        self.potential = HarmonicPotential(self.force_constants, self.supercell.positions, self.supercell.cell.array)
        self.numbers = self.supercell.numbers

    def constants_of(self, supercell) -> np.ndarray:
        """The same springs in another supercell."""
        return spring_constants(supercell, SHELLS)

    def engine(self, n_replicas: int) -> ReplicaForces:
        return ReplicaForces(self.potential, self.supercell, n_replicas)


@pytest.fixture(scope="session")
def springs() -> Springs:
    return Springs()


@pytest.fixture(scope="session")
def bonds() -> tuple[Crystal, Bonds]:
    """Face-centred cubic aluminium of anharmonic bonds."""
    return Crystal.from_prototype("fcc", ["Al"], BOND * np.sqrt(2)), Bonds(5.0, -30.0, 200.0)


@pytest.fixture(scope="session")
def harmonic_run(springs, tmp_path_factory, single_thread):
    """96 replicas of the spring crystal for 2 ps at 300 K."""
    schedule = Schedule(300.0, 0.5, 600, 4000, 4, 100, 96, thermostat_time=30.0, seed=1)
    return run_trajectory(
        springs.potential, springs.supercell, springs.masses, schedule, tmp_path_factory.mktemp("harmonic")
    )


@pytest.fixture
def begin():
    """Replicas at their sites with thermal velocities: (state, masses as a tensor)."""

    def make(engine, masses, temperature, seed=0, replicas=None):
        mass = torch.as_tensor(masses, dtype=torch.float64)
        sites = torch.as_tensor(engine.supercell.positions).repeat(engine.n_replicas, 1, 1)
        noise = Noise(seed, tuple(replicas if replicas is not None else range(engine.n_replicas)))
        return start(sites, mass, temperature, noise, engine), mass, noise

    return make


@pytest.fixture
def march():
    """Many steps, with a measure taken after each."""

    def make(state, engine, mass, dt, n_steps, thermostat=None, measure=lambda s: None):
        taken = []
        for _ in range(n_steps):
            state = advance(state, engine, mass, dt, thermostat)
            taken.append(measure(state))
        return state, taken

    return make
