"""Equations of motion of many replicas at once: velocity Verlet, Langevin (BAOAB) and stochastic velocity rescaling.

Units: A, fs, amu, eV; tensors are [R, n, 3] in float64. Noise is a pure function of (seed, replica, step), so that a
resumed run meets the same random numbers and a replica's run does not depend on which others share its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mlffx.errors import UserError, nearest
from mlffx.units import AMU_A2_FS2_TO_EV, KB_EV

Forces = Callable[[Tensor], tuple[Tensor, Tensor]]
INITIAL_VELOCITIES = 2**63  # a step number no run reaches: stream of the initial velocities


@dataclass
class State:
    """Where the replicas are.

    Attributes:
        step: steps done.
        positions: [R, n, 3], A, not wrapped.
        velocities: [R, n, 3], A/fs.
        forces: [R, n, 3], eV/A, at `positions`.
        potential: [R], eV, at `positions`.
    """

    step: int
    positions: Tensor
    velocities: Tensor
    forces: Tensor
    potential: Tensor


@dataclass(frozen=True)
class Noise:
    """Gaussian numbers addressed by seed, replica and step (Philox, a counter-based generator).

    Args:
        seed: of the whole run.
        replicas: index of each replica of the batch, [R].
    """

    seed: int
    replicas: tuple[int, ...]

    def generators(self, step: int) -> list[np.random.Generator]:
        return [
            np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, step, replica]))
            for replica in self.replicas
        ]

    def normal(self, step: int, n_atoms: int) -> np.ndarray:
        """[R, n_atoms, 3]."""
        return np.stack([g.standard_normal((n_atoms, 3)) for g in self.generators(step)])


@dataclass(frozen=True)
class Thermostat:
    """NVT sampling for equilibration.

    Args:
        kind: `langevin` (every degree of freedom is thermalised: the choice for nearly harmonic crystals) or `csvr`
            (Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007): one factor for all velocities, gentle, but
            it does not mix the energies of modes).
        temperature: K.
        time_fs: relaxation time of the kinetic energy; the Langevin friction is its inverse.
    """

    kind: str
    temperature: float
    time_fs: float
    noise: Noise
    _kinds: tuple[str, ...] = field(default=("langevin", "csvr"), repr=False)

    def __post_init__(self) -> None:
        if self.kind not in self._kinds:
            raise UserError(f"unknown thermostat '{self.kind}'", nearest(self.kind, self._kinds), "dynamics.thermostat")
        if self.temperature <= 0 or self.time_fs <= 0:
            raise UserError(
                f"a thermostat at {self.temperature:g} K with {self.time_fs:g} fs", "both must be positive", "dynamics"
            )

    def kick(self, velocities: Tensor, masses: Tensor, dt: float, step: int) -> Tensor:
        """The O step of BAOAB over dt: friction and noise, exact for velocities alone; total momentum stays zero."""
        keep = math.exp(-dt / self.time_fs)
        xi = torch.as_tensor(self.noise.normal(step, velocities.shape[1]), device=velocities.device)
        spread = (KB_EV * self.temperature * (1 - keep**2) / (masses * AMU_A2_FS2_TO_EV)).sqrt()
        return without_drift(keep * velocities + spread[:, None] * xi, masses)

    def rescale(self, velocities: Tensor, masses: Tensor, dt: float, step: int) -> Tensor:
        """One stochastic rescaling over dt (eq. A7 of Bussi et al.), same factor for all atoms of a replica."""
        keep = math.exp(-dt / self.time_fs)
        freedom = degrees_of_freedom(velocities.shape[1])
        now = kinetic_energy(velocities, masses).cpu().numpy()
        target = 0.5 * freedom * KB_EV * self.temperature
        factors = []
        for energy, generator in zip(now, self.noise.generators(step), strict=True):
            first, others = generator.standard_normal(), generator.chisquare(freedom - 1)
            ratio = target / (freedom * energy)
            factors.append(
                keep + ratio * (1 - keep) * (first**2 + others) + 2 * first * math.sqrt(ratio * keep * (1 - keep))
            )
        return velocities * torch.as_tensor(factors, device=velocities.device).sqrt()[:, None, None]


def start(positions: Tensor, masses: Tensor, temperature: float, noise: Noise, forces: Forces) -> State:
    """Replicas at `positions` with Maxwell-Boltzmann velocities of 2 T: half of it becomes potential energy."""
    xi = torch.as_tensor(noise.normal(INITIAL_VELOCITIES, positions.shape[1]), device=positions.device)
    spread = (2 * KB_EV * temperature / (masses * AMU_A2_FS2_TO_EV)).sqrt()
    velocities = without_drift(spread[:, None] * xi, masses)
    potential, force = forces(positions)
    return State(0, positions, velocities, force, potential)


def advance(state: State, forces: Forces, masses: Tensor, dt: float, thermostat: Thermostat | None = None) -> State:
    """One step of dt fs: velocity Verlet (NVE), BAOAB Langevin or Verlet with rescaled velocities."""
    half_kick = 0.5 * dt / (masses * AMU_A2_FS2_TO_EV)[:, None]
    langevin = thermostat is not None and thermostat.kind == "langevin"
    velocities = state.velocities + half_kick * state.forces
    if langevin:
        assert thermostat is not None
        positions = state.positions + 0.5 * dt * velocities
        velocities = thermostat.kick(velocities, masses, dt, state.step)
        positions = positions + 0.5 * dt * velocities
    else:
        positions = state.positions + dt * velocities
    potential, force = forces(positions)
    velocities = velocities + half_kick * force
    if thermostat is not None and not langevin:
        velocities = thermostat.rescale(velocities, masses, dt, state.step)
    return State(state.step + 1, positions, velocities, force, potential)


def kinetic_energy(velocities: Tensor, masses: Tensor) -> Tensor:
    """[R], eV."""
    return 0.5 * AMU_A2_FS2_TO_EV * (masses[:, None] * velocities.square()).sum(dim=(1, 2))


def without_drift(velocities: Tensor, masses: Tensor) -> Tensor:
    """Velocities with zero total momentum in every replica."""
    drift = (masses[:, None] * velocities).sum(dim=1, keepdim=True) / masses.sum()
    return velocities - drift


def degrees_of_freedom(n_atoms: int) -> int:
    """3 n - 3: total momentum is zero."""
    return 3 * n_atoms - 3


def verlet_time_step(highest_cm1: float, shift_cm1: float = 1.0) -> float:
    """Time step, fs, at which velocity Verlet raises the highest frequency by at most `shift_cm1`.

    A mode of frequency w appears at w (1 + (w dt)^2 / 24 + ...).
    """
    angular = 2 * math.pi * highest_cm1 * 2.99792458e-5  # rad/fs
    return math.sqrt(24 * shift_cm1 / highest_cm1) / angular
