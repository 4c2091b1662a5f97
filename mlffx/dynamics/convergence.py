"""Is the time step short enough and the run long enough? The numbers behind a convergence figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms

from mlffx.dynamics.integrate import Noise, advance, kinetic_energy, start
from mlffx.dynamics.modes import ModeGroup
from mlffx.dynamics.projection import mode_spectrum
from mlffx.dynamics.replicas import ReplicaForces
from mlffx.dynamics.spectrum import Spectrum, moment, wasserstein
from mlffx.dynamics.trajectory import Trajectory
from mlffx.dynamics.vdos import segment_length, velocity_spectrum
from mlffx.potentials.base import Potential


@dataclass(frozen=True)
class TimeStepError:
    """What a time step costs.

    Attributes:
        time_step: fs.
        fluctuation: rms fluctuation of the total energy in NVE, meV/atom; falls with the square of the time step.
        drift: its change from the first to the last quarter of the run, meV/atom (rms over replicas).
    """

    time_step: float
    fluctuation: float
    drift: float


def time_step_errors(
    potential: Potential,
    supercell: Atoms,
    masses: np.ndarray,
    time_steps: Sequence[float],
    temperature: float = 300.0,
    n_replicas: int = 2,
    length: float = 200.0,
    seed: int = 0,
) -> list[TimeStepError]:
    """NVE runs of `length` fs from the same velocities (of 2 T, at the sites) with each of `time_steps`, fs.

    Args:
        masses: [n], amu.
        temperature: K.
    """
    found = []
    for dt in time_steps:
        engine = ReplicaForces(potential, supercell, n_replicas)
        mass = torch.as_tensor(masses, dtype=torch.float64, device=engine.device)
        sites = torch.as_tensor(supercell.positions, device=engine.device).repeat(n_replicas, 1, 1)
        state = start(sites, mass, temperature, Noise(seed, tuple(range(n_replicas))), engine)
        energies = []
        for _ in range(max(8, round(length / dt))):
            state = advance(state, engine, mass, dt)
            energies.append((state.potential + kinetic_energy(state.velocities, mass)).cpu().numpy())
        total = 1000 * np.array(energies) / len(supercell)
        quarter = len(total) // 4
        drift = total[-quarter:].mean(axis=0) - total[:quarter].mean(axis=0)
        found.append(TimeStepError(dt, float(total.std(axis=0).mean()), float(np.sqrt((drift**2).mean()))))
    return found


@dataclass(frozen=True)
class LengthError:
    """What the first part of a run would have given.

    Attributes:
        production: ps of each replica.
        mean, sigma: mean frequency of the density of states and its bootstrap error, cm-1.
        distance: W1 distance to the density of states of the whole run, cm-1.
    """

    production: float
    mean: float
    sigma: float
    distance: float


def length_errors(
    trajectory: Trajectory,
    resolution: float,
    groups: list[ModeGroup] | None = None,
    fractions: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
) -> list[LengthError]:
    """Densities of states of the first part of a run; parts too short for `resolution`, cm-1, are left out.

    Args:
        groups: modes to project on (`mode_spectrum`); None takes Welch's method.
    """
    needed = segment_length(resolution, trajectory.sample_step, len(trajectory.velocities))

    def spectrum(part: Trajectory) -> Spectrum:
        return mode_spectrum(part, groups, resolution) if groups else velocity_spectrum(part, resolution)

    whole = spectrum(trajectory)
    found = []
    for fraction in fractions:
        n = round(fraction * len(trajectory.velocities))
        if n < needed:
            continue
        part = spectrum(replace(trajectory, velocities=trajectory.velocities[:n]))
        mean, sigma = part.estimate(moment(1.0))
        distance = wasserstein(whole.grid, part.total, whole.total)
        found.append(LengthError(1e-3 * n * trajectory.sample_step, mean, sigma, distance))
    return found
