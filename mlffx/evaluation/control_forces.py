"""Controls on forces that were never trained on: energies alone, and energies above a cheap base."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms

from mlffx.evaluation.cheap_bases import cheap_base
from mlffx.evaluation.control_context import Context
from mlffx.evaluation.control_form import is_readout
from mlffx.evaluation.controls import Verdict, cheap_base_forces, force_recovery
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms, in_double
from mlffx.training.settings import StartSettings, TrainSettings
from mlffx.training.task import Task, prepare


def forces(c: Context) -> Verdict:
    """The run's architecture on the low level's energies alone, judged by the forces it never saw."""
    low = c.task.low or c.settings.level.name
    if low not in c.task.dataset.forces:
        return Verdict("forces", "Energies alone recover the forces", "inconclusive", f"'{low}' has no forces")
    blind = energies_alone(c, low)
    task = prepare(blind)
    structures, true = held_out(task, low)
    found = forces_of(c.fit(blind, task, "forces", None).fitted[0], structures)
    trained = None
    if c.base is not None:
        trained = float(
            np.mean([np.abs(a - b).mean() for a, b in zip(forces_of(c.base, structures), true, strict=True)])
        )
    return force_recovery(found, true, trained)


def cheap_base_control(c: Context) -> Verdict:
    """Energies of the low level above a cheap base: the composed forces against those of the low level."""
    title = "Energies above a cheap base recover the forces"
    low = c.task.low or c.settings.level.name
    if low not in c.task.dataset.forces:
        return Verdict("cheap_base", title, "inconclusive", f"does not apply: '{low}' has no forces")
    if (known := cheap_base(c.crystal)) is None:
        return Verdict("cheap_base", title, "inconclusive", "does not apply: no cheap base here (pip install tblite)")
    name, base = known
    blind = energies_alone(c, low)
    if is_readout(c.settings):  # a cheap base has no features
        blind = replace(blind, model={"name": "force_constants"}, electrostatics={"name": "none"})
    task = prepare(blind)
    structures, true = held_out(task, low)
    composed = c.fit(blind, task.minus(base), "cheap-base", base).fitted[0]
    alone = c.fit(blind, task, "no-base", None).fitted[0]
    of_base, of_sum, of_fit = (forces_of(p, structures) for p in (base, composed, alone))
    return cheap_base_forces(name, of_base, of_sum, of_fit, true)


def energies_alone(c: Context, low: str) -> TrainSettings:
    """The run's settings, directly on the low level without its forces."""
    return replace(
        c.settings,
        level=replace(c.settings.level, name=low),
        potential=replace(c.settings.potential, kind="direct"),
        loss=replace(c.settings.loss, forces=replace(c.settings.loss.forces, weight=0.0)),
        start=StartSettings(),  # weights of another run have seen forces
    )


def held_out(task: Task, level: str) -> tuple[list[Atoms], list[np.ndarray]]:
    """Structures no fit has seen, and their forces, eV/A."""
    frames = task.split.test if len(task.split.test) else task.split.validation
    return [task.dataset.atoms[k] for k in frames], [task.dataset.forces[level][k] for k in frames]


def forces_of(potential: Potential, structures: list[Atoms]) -> list[np.ndarray]:
    """[n_atoms, 3] each, eV/A."""
    return evaluate_atoms(in_double(potential), structures, forces=True).forces or []
