"""What a study of the dynamics of one potential is asked to do, and what it will cost."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from ase import Atoms

from mlffx.data.crystal import Crystal
from mlffx.dynamics.integrate import verlet_time_step
from mlffx.dynamics.replicas import ReplicaForces
from mlffx.dynamics.trajectory import Schedule
from mlffx.dynamics.vdos import CM1_PER_INVERSE_FS, METHODS, segment_length
from mlffx.errors import UserError, nearest
from mlffx.lattice.force_constants import conventional_matrix, supercell_matrix
from mlffx.potentials.base import Potential

LONGEST_STEP = 2.0  # fs
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class DynamicsConfig:
    """Settings of `run_dynamics` (conf/dynamics).

    Attributes:
        enabled: False for `dynamics=none`.
        temperature: K; the dynamics is classical.
        supercell: conventional cells along each axis, n or [n1, n2, n3]; or a 3x3 matrix in primitive rows.
        replicas: copies run at once; errors come from resampling them whole, so take 3 at least and better 8.
        time_step_fs: None takes the one at which velocity Verlet shifts the highest harmonic mode by `verlet_shift_cm1`
            (the spectra are corrected for that shift; it measures how far the trajectory is from the continuous one).
        equilibration_ps, production_ps: NVT, then NVE.
        sample_step_fs: between stored velocities; None takes a quarter of the shortest period.
        snapshot_step_fs: between stored displacements and forces.
        thermostat: `langevin` or `csvr`, with relaxation time thermostat_fs.
        resolution_cm1: full width of a sharp line in the spectra.
        method: `modes` (projected on the harmonic modes: least noise; Welch's where the crystal is unstable), `welch`
            or `vacf`.
        n_bootstrap: repetitions for the errors.
        harmonic_md: also run the potential's own harmonic crystal with the same seeds.
        mode_lines: frequency and linewidth of every mode of the supercell.
        convergence: also what the time step and the length of the run cost: short runs at twice and half the step, and
            densities of states of the first parts of the production.
        members: potentials of an ensemble that are run, where there is one (`evaluate.py`); their spread is reported.
        effective: force constants fitted to the trajectory.
        sscha_temperatures: K; quantum self-consistent phonons at each.
        sscha_snapshots, sscha_iterations: effort of each.
        quantum_temperature: K, for kinetic energy and <u^2> from the projected spectra.
        isotopes: element -> isotope.
        precision: of the networks, `float32` or `float64`; None as the potential comes.
        seed, skin, checkpoint_every: see `Schedule`.
        resume: continue or re-use what the folder holds.
        progress: show a progress bar.
        max_hours: refuse to start a run whose estimate is longer.
    """

    enabled: bool = True
    temperature: float = 300.0
    supercell: int | Sequence[int] | Sequence[Sequence[int]] = 2
    replicas: int = 8
    time_step_fs: float | None = None
    verlet_shift_cm1: float = 2.0
    equilibration_ps: float = 2.0
    production_ps: float = 10.0
    sample_step_fs: float | None = None
    snapshot_step_fs: float = 100.0
    thermostat: str = "langevin"
    thermostat_fs: float = 100.0
    resolution_cm1: float = 10.0
    method: str = "modes"
    n_bootstrap: int = 200
    harmonic_md: bool = True
    mode_lines: bool = True
    convergence: bool = True
    members: int = 1
    effective: bool = True
    sscha_temperatures: Sequence[float] = ()
    sscha_snapshots: int = 100
    sscha_iterations: int = 8
    quantum_temperature: float = 20.0
    isotopes: Mapping[str, str | float] = field(default_factory=dict)
    precision: str | None = None
    seed: int = 0
    skin: float = 0.6
    checkpoint_every: int = 500
    resume: bool = True
    progress: bool = True
    max_hours: float = 24.0

    def __post_init__(self) -> None:
        for name in ("temperature", "production_ps", "resolution_cm1", "verlet_shift_cm1", "snapshot_step_fs", "skin"):
            if getattr(self, name) <= 0:
                raise UserError(f"{getattr(self, name):g} is not positive", where=f"dynamics.{name}")
        for name in ("replicas", "checkpoint_every", "members"):
            if getattr(self, name) < 1:
                raise UserError(f"{getattr(self, name)} is too few", "give 1 or more", f"dynamics.{name}")
        if self.time_step_fs is not None and not 0 < self.time_step_fs <= 5:
            raise UserError(
                f"a time step of {self.time_step_fs:g} fs", "0.25 to 1 fs is usual", "dynamics.time_step_fs"
            )
        methods = ("modes", *METHODS)
        if self.method not in methods:
            raise UserError(f"unknown method '{self.method}'", nearest(self.method, methods), "dynamics.method")
        if self.precision is not None and self.precision not in PRECISIONS:
            raise UserError(
                f"unknown precision '{self.precision}'", nearest(self.precision, PRECISIONS), "dynamics.precision"
            )

        sample = self.sample_step_fs or 1.0  # any: what a run can resolve hangs on its length alone
        segment_length(self.resolution_cm1, sample, math.ceil(1000 * self.production_ps / sample))

    def matrix(self, crystal: Crystal) -> np.ndarray:
        """Supercell rows in primitive rows, [3, 3]."""
        array = np.asarray(self.supercell)
        return supercell_matrix(crystal, array) if array.ndim == 2 else conventional_matrix(crystal, array.tolist())

    def schedule(self, highest_cm1: float) -> Schedule:
        """Steps of the run for a crystal whose highest frequency is `highest_cm1`.

        Raises:
            UserError: when the production cannot resolve `resolution_cm1`, or samples cannot follow the highest mode.
        """
        dt = self.time_step_fs
        if dt is None:
            dt = min(
                LONGEST_STEP, max(0.05, math.floor(verlet_time_step(highest_cm1, self.verlet_shift_cm1) * 20) / 20)
            )
        quarter = CM1_PER_INVERSE_FS / (4 * highest_cm1)
        every = max(1, math.floor((self.sample_step_fs or quarter) / dt + 1e-9))
        if every * dt > 2 * quarter:
            raise UserError(
                f"samples every {every * dt:.3g} fs cannot follow {highest_cm1:.0f} cm-1",
                f"take at most {quarter:.3g} fs",
                "dynamics.sample_step_fs",
            )
        production = math.ceil(1000 * self.production_ps / dt)
        segment_length(self.resolution_cm1, every * dt, production // every)
        return Schedule(
            temperature=self.temperature,
            time_step=dt,
            equilibration_steps=math.ceil(1000 * self.equilibration_ps / dt),
            production_steps=production,
            sample_every=every,
            snapshot_every=min(production, max(1, round(self.snapshot_step_fs / dt))),
            n_replicas=self.replicas,
            thermostat=self.thermostat,
            thermostat_time=self.thermostat_fs,
            seed=self.seed,
            skin=self.skin,
            checkpoint_every=self.checkpoint_every,
        )


@dataclass(frozen=True)
class Cost:
    """Estimate before a run: seconds of force evaluations, and bytes on disk."""

    seconds: float
    bytes: int

    def __str__(self) -> str:
        minutes = self.seconds / 60
        span = (
            f"{minutes / 60:.1f} h"
            if minutes > 90
            else f"{minutes:.0f} min"
            if minutes > 1.5
            else f"{self.seconds:.0f} s"
        )
        return f"about {span}, {self.bytes / 1e6:.0f} MB"


def estimate_cost(potential: Potential, supercell: Atoms, schedule: Schedule, repetitions: int = 3) -> Cost:
    """Measure a few steps' worth of forces at slightly displaced sites (after one to warm up) and extrapolate."""
    engine = ReplicaForces(potential, supercell, schedule.n_replicas, schedule.skin)
    rng = np.random.default_rng(0)
    shape = (schedule.n_replicas, len(supercell), 3)
    positions = torch.as_tensor(supercell.positions + 0.02 * rng.standard_normal(shape), device=engine.device)
    engine(positions)
    taken = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        energy, _ = engine(positions)
        energy.sum().item()  # waits for an accelerator
        taken.append(time.perf_counter() - begun)
    values = 3 * shape[0] * shape[1]
    stored = values * (4 * schedule.n_samples + 16 * schedule.n_snapshots)
    return Cost(float(np.median(taken)) * schedule.total_steps, stored)
