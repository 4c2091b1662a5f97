"""Run replicas to files that survive a kill: memory-mapped samples, and a checkpoint that continues bit for bit."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from numpy.lib.format import open_memmap

from mlffx.dynamics.integrate import Noise, State, Thermostat, advance, kinetic_energy, start, without_drift
from mlffx.dynamics.replicas import ReplicaForces
from mlffx.dynamics.trajectory import Schedule, Trajectory
from mlffx.errors import UserError
from mlffx.potentials.base import Potential

CHECKPOINT, STAMP = "checkpoint.npz", "trajectory.json"


def run_trajectory(
    potential: Potential,
    supercell: Atoms,
    masses: np.ndarray,
    schedule: Schedule,
    folder: Path,
    resume: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Trajectory:
    """Run (or continue, or just read) one trajectory.

    Args:
        potential: any potential; gradients are taken of a frozen copy.
        supercell: ideal supercell (`Crystal.supercell`).
        masses: [n], amu.
        schedule: what to run.
        folder: for the files; a finished run of the same schedule and potential there is read, not repeated.
        resume: continue from a checkpoint in `folder`; False starts again.
        report: called with (steps done, total) about every half second.

    Raises:
        UserError: for a folder that holds another run, and for a replica that leaves the crystal.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = _stamp(potential, supercell, masses, schedule)
    state, reference = _previous(folder, stamp) if resume else (None, None)
    mode = "w+" if state is None else "r+"
    if state is None:
        for stale in (folder / CHECKPOINT, folder / STAMP):
            stale.unlink(missing_ok=True)
    files = _open(folder, schedule, len(supercell), mode)
    trajectory = Trajectory(
        **files,
        masses=np.asarray(masses, dtype=np.float64),
        numbers=supercell.numbers.copy(),
        time_step=schedule.time_step,
        sample_step=schedule.time_step * schedule.sample_every,
        folder=folder,
    )
    if state is not None and state.step == schedule.total_steps:
        return trajectory
    engine = ReplicaForces(potential, supercell, schedule.n_replicas, schedule.skin)
    mass = torch.as_tensor(trajectory.masses, device=engine.device)
    noise = Noise(schedule.seed, tuple(range(schedule.n_replicas)))
    sites = torch.as_tensor(supercell.positions, device=engine.device)
    if state is None:
        (folder / STAMP).write_text(json.dumps(stamp, indent=1))
        state = start(sites.repeat(schedule.n_replicas, 1, 1), mass, schedule.temperature, noise, engine)
    else:
        state = State(
            state.step,
            *(x.to(engine.device) for x in (state.positions, state.velocities, state.forces, state.potential)),
        )
        assert reference is not None
        engine.renew(reference.to(engine.device))
    thermostat = Thermostat(schedule.thermostat, schedule.temperature, schedule.thermostat_time, noise)
    told = time.monotonic()
    while state.step < schedule.total_steps:
        equilibrating = state.step < schedule.equilibration_steps
        state = advance(state, engine, mass, schedule.time_step, thermostat if equilibrating else None)
        if state.step == schedule.equilibration_steps:
            state.velocities = without_drift(state.velocities, mass)
        elif not equilibrating:
            _store(trajectory, state, mass, sites, schedule)
        if state.step % schedule.checkpoint_every == 0 or state.step == schedule.total_steps:
            _checkpoint(folder, state, engine, files)
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            report(state.step, schedule.total_steps)
    report(state.step, schedule.total_steps)
    return trajectory


def finished(folder: Path, potential: Potential, supercell: Atoms, masses: np.ndarray, schedule: Schedule) -> bool:
    """Whether `folder` holds exactly this run, complete."""
    try:
        state, _ = _previous(folder, _stamp(potential, supercell, masses, schedule))
    except UserError:
        return False
    return state is not None and state.step == schedule.total_steps


def _stamp(potential: Potential, supercell: Atoms, masses: np.ndarray, schedule: Schedule) -> dict:
    return {"schedule": asdict(schedule), "run": fingerprint(potential, supercell, masses)}


def fingerprint(potential: Potential, supercell: Atoms, masses: np.ndarray) -> str:
    """Hash of everything but the schedule that decides the trajectory."""
    digest = hashlib.sha256(json.dumps(potential.spec(), sort_keys=True, default=str).encode())
    for name, tensor in sorted(potential.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    for array in (supercell.positions, supercell.cell.array, supercell.numbers, masses):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _open(folder: Path, schedule: Schedule, n: int, mode: str) -> dict[str, np.ndarray]:
    r, samples, snapshots = schedule.n_replicas, schedule.n_samples, schedule.n_snapshots
    shapes = {
        "velocities": ((samples, r, n, 3), np.float32),
        "displacements": ((snapshots, r, n, 3), np.float64),
        "forces": ((snapshots, r, n, 3), np.float64),
        "potential": ((samples, r), np.float64),
        "kinetic": ((samples, r), np.float64),
    }
    if mode == "w+":
        return {k: open_memmap(folder / f"{k}.npy", mode="w+", dtype=d, shape=s) for k, (s, d) in shapes.items()}
    try:
        return {k: open_memmap(folder / f"{k}.npy", mode="r+") for k in shapes}
    except (OSError, ValueError) as error:
        raise UserError(f"unreadable samples ({error})", "run again with dynamics.resume=false", folder) from error


def _store(trajectory: Trajectory, state: State, mass: torch.Tensor, sites: torch.Tensor, schedule: Schedule) -> None:
    step = state.step - schedule.equilibration_steps
    if step % schedule.sample_every == 0:
        i = step // schedule.sample_every - 1
        trajectory.velocities[i] = state.velocities.cpu().numpy()
        trajectory.potential[i] = state.potential.cpu().numpy()
        trajectory.kinetic[i] = kinetic_energy(state.velocities, mass).cpu().numpy()
    if step % schedule.snapshot_every == 0:
        i = step // schedule.snapshot_every - 1
        trajectory.displacements[i] = (state.positions - sites).cpu().numpy()
        trajectory.forces[i] = state.forces.cpu().numpy()


def _checkpoint(folder: Path, state: State, engine: ReplicaForces, files: dict[str, np.ndarray]) -> None:
    """Samples first, then the checkpoint that vouches for them, whole or not at all."""
    for array in files.values():
        array.flush()  # type: ignore[attr-defined]
    assert engine.reference is not None
    arrays = {k: getattr(state, k).cpu().numpy() for k in ("positions", "velocities", "forces", "potential")}
    partial = folder / "checkpoint.part.npz"
    np.savez(partial, step=state.step, reference=engine.reference.cpu().numpy(), **arrays)
    partial.replace(folder / CHECKPOINT)


def _previous(folder: Path, stamp: dict) -> tuple[State | None, torch.Tensor | None]:
    """State and reference positions of an interrupted or finished run here, or (None, None)."""
    if not (folder / STAMP).is_file():
        return None, None
    if json.loads((folder / STAMP).read_text()) != stamp:
        raise UserError(
            "holds a trajectory of another potential or schedule",
            "take another folder or dynamics.resume=false",
            folder,
        )
    if not (folder / CHECKPOINT).is_file():
        return None, None
    with np.load(folder / CHECKPOINT) as stored:
        tensors = {k: torch.as_tensor(stored[k]) for k in stored.files if k != "step"}
        reference = tensors.pop("reference")
        return State(int(stored["step"]), **tensors), reference
