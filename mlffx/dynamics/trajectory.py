"""A run of molecular dynamics: what is asked for, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mlffx.dynamics.integrate import degrees_of_freedom
from mlffx.units import AMU_A2_FS2_TO_EV, KB_EV


@dataclass(frozen=True)
class Schedule:
    """One run: NVT equilibration, then NVE production.

    Attributes:
        temperature: K.
        time_step: fs.
        equilibration_steps, production_steps: steps of either part.
        sample_every: steps between stored velocities.
        snapshot_every: steps between stored displacements and forces.
        n_replicas: copies of the supercell.
        thermostat, thermostat_time: see `Thermostat`; fs.
        seed: of all random numbers.
        skin: of the neighbour list, A.
        checkpoint_every: steps.
    """

    temperature: float
    time_step: float
    equilibration_steps: int
    production_steps: int
    sample_every: int = 1
    snapshot_every: int = 100
    n_replicas: int = 8
    thermostat: str = "langevin"
    thermostat_time: float = 100.0
    seed: int = 0
    skin: float = 0.6
    checkpoint_every: int = 1000

    @property
    def total_steps(self) -> int:
        return self.equilibration_steps + self.production_steps

    @property
    def n_samples(self) -> int:
        return self.production_steps // self.sample_every

    @property
    def n_snapshots(self) -> int:
        return self.production_steps // self.snapshot_every


@dataclass(frozen=True)
class Trajectory:
    """What a run left behind; the arrays are memory-mapped.

    Attributes:
        velocities: [n_samples, R, n, 3], A/fs, float32, every `sample_step` fs of the NVE part.
        displacements, forces: [n_snapshots, R, n, 3], A and eV/A, float64.
        potential, kinetic: [n_samples, R], eV.
        masses, numbers: [n], amu and atomic numbers.
        time_step, sample_step: fs.
        folder: where the files are.
    """

    velocities: np.ndarray
    displacements: np.ndarray
    forces: np.ndarray
    potential: np.ndarray
    kinetic: np.ndarray
    masses: np.ndarray
    numbers: np.ndarray
    time_step: float
    sample_step: float
    folder: Path

    @property
    def n_replicas(self) -> int:
        return self.velocities.shape[1]

    @property
    def n_atoms(self) -> int:
        return self.velocities.shape[2]

    def temperature(self) -> np.ndarray:
        """Mean kinetic temperature of each replica, [R], K."""
        return 2 * np.asarray(self.kinetic).mean(axis=0) / (degrees_of_freedom(self.n_atoms) * KB_EV)

    def energy_drift(self) -> tuple[float, float]:
        """Slope of the total energy, meV/atom/ps, and rms of what remains, meV/atom (rms over replicas)."""
        energy = 1000 * (np.asarray(self.potential) + np.asarray(self.kinetic)) / self.n_atoms
        ps = 1e-3 * self.sample_step * (np.arange(len(energy)) - 0.5 * (len(energy) - 1))
        slope = ps @ (energy - energy.mean(axis=0)) / max(ps @ ps, 1e-30)
        rest = energy - energy.mean(axis=0) - ps[:, None] * slope
        return float(np.sqrt((slope**2).mean())), float(np.sqrt((rest**2).mean()))

    def element_temperatures(self) -> dict[str, float]:
        """Kinetic temperature of each element, K: equipartition as a check of the equilibration."""
        out = {}
        squares = np.zeros(self.n_atoms)
        for block in np.array_split(np.arange(len(self.velocities)), max(1, len(self.velocities) // 500)):
            squares += (np.asarray(self.velocities[block], dtype=np.float64) ** 2).sum(axis=(0, 1, 3))
        energy = 0.5 * AMU_A2_FS2_TO_EV * self.masses * squares / (len(self.velocities) * self.n_replicas)
        for z in np.unique(self.numbers):
            mine = self.numbers == z
            freedom = 3 * (
                mine.sum() - self.masses[mine].sum() / self.masses.sum()
            )  # zero momentum takes a share of each
            out[chemical_symbols[z]] = float(2 * energy[mine].sum() / (freedom * KB_EV))
        return out
