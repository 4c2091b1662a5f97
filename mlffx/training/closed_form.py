"""Training by least squares: force constants, and heads on the features of a trained base. Seconds, and one optimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mlffx.data.splits import resample
from mlffx.errors import UserError
from mlffx.models.base import build_model
from mlffx.potentials.base import Potential
from mlffx.potentials.build import save_potential
from mlffx.potentials.charge_aware import ChargeAwarePotential
from mlffx.potentials.linear_fit import Describe, LinearFit, energy_design, fit_linear, force_design
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential
from mlffx.training.charged import fit_charged_constants
from mlffx.training.losses import force_weight
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task

LINEAR_MODELS = ("force_constants",)
PRIOR = {"angle_orders": [3]}  # of a network: what the energies of a difference can determine too


def is_closed_form(settings: TrainSettings) -> bool:
    """Whether least squares finds what this run learns."""
    return (settings.potential.kind == "delta" and settings.delta.fit == "readout") or is_linear(settings)


def is_linear(settings: TrainSettings) -> bool:
    """Whether the architecture itself is linear in its parameters."""
    return settings.model["name"] in LINEAR_MODELS


def fit_in_closed_form(
    settings: TrainSettings, task: Task, member: int, directory: RunDirectory, base: Potential | None
) -> None:
    """Fit one member and write best.ckpt and fit.json.

    The posterior of the fit says what other training structures would have given; members of an ensemble therefore
    share them, unless resample=bootstrap, and differ by their bases.
    """
    frames = task.split.train
    if settings.resample == "bootstrap":
        frames = resample(frames, settings.seed * 1000 + member)
    if is_linear(settings):
        fitted = fit_with_charges if has_charges(settings) else fit_force_constants
        learned, fit = fitted(settings, task, frames, settings.model)
        potential: Potential = learned if base is None else SumPotential({"base": base, "delta": learned})
    else:
        potential, fit = _readout(task, frames, base)
    save_potential(potential, directory.best)
    per_atom = 1e3 / task.dataset.n_atoms[frames]
    used = fit.weights > 0.1
    directory.write_fit(
        {
            "n_parameters": len(fit.coefficients),
            "effective_parameters": fit.degrees_of_freedom,
            "ridge": fit.ridge,
            "leave_one_out_rmse_meV_per_atom": float(np.sqrt(np.mean((fit.leave_one_out * per_atom) ** 2))),
            "leave_one_out_robust_meV_per_atom": fit.noise * float(per_atom.mean()),
            "outliers": sorted({int(k) for k in frames[~used]}),
        }
    )


def linear_model(task: Task, options: Mapping[str, Any]) -> NetworkPotential:
    """The force-constant model of the data set's crystal, unfitted; `options` as in conf/model/force_constants.yaml."""
    if task.dataset.crystal is None:
        raise UserError("force constants need the ideal crystal", "declare data.crystal", "data.crystal")
    statistics = {
        "species": task.dataset.species,
        "crystal": task.dataset.crystal.to_arrays(),
        "angle_orders": [3] if task.forces is None else [3, 4],
    }
    spec = {"name": LINEAR_MODELS[0]} | statistics | {k: v for k, v in options.items() if v is not None}
    return NetworkPotential(build_model(spec), torch.zeros(len(task.dataset.species)), 1.0, spec)


def fit_force_constants(
    settings: TrainSettings, task: Task, frames: np.ndarray, options: Mapping[str, Any]
) -> tuple[NetworkPotential, LinearFit]:
    """Force constants from the energies (and forces) of the frames."""
    learned = linear_model(task, options)
    model = learned.model
    weight = force_weight(settings.loss, task.forces is not None)
    per_force = task.energy_scale() / task.force_scale()
    # What a difference leaves over is noise, of which the evidence knows; what a level leaves over is the truncated
    # expansion, of which it does not.
    kinds: dict[str, Any] = {} if task.low is None else {"groups": model.orders}
    fit = _solve(task, model.describe, model.cutoff, frames, weight, per_force, **kinds)
    model.set_coefficients(fit.coefficients, fit.spread)  # type: ignore[operator]
    learned.offsets.fill_(fit.offset)
    return learned.eval(), fit  # type: ignore[return-value]


def has_charges(settings: TrainSettings) -> bool:
    """Whether what the run learns carries an Ewald energy."""
    return str(settings.electrostatics.get("name", "none")) != "none"


def fit_with_charges(
    settings: TrainSettings, task: Task, frames: np.ndarray, options: Mapping[str, Any]
) -> tuple[ChargeAwarePotential, LinearFit]:
    """Force constants and the charges of settings.electrostatics, from the energies (and forces) of the frames."""
    weight = force_weight(settings.loss, task.forces is not None)
    potential, fit = fit_charged_constants(linear_model(task, options), settings.electrostatics, task, frames, weight)
    return potential.eval(), fit  # type: ignore[return-value]


def linear_prior(settings: TrainSettings, task: Task, frames: np.ndarray) -> Potential:
    """What a network with prior=force_constants stands on.

    Its posterior stays with it: the network, trained on the same frames, cannot make up for what they leave open.
    """
    prior, _ = fit_force_constants(settings, task, frames, PRIOR)
    return prior.requires_grad_(False)


def _readout(task: Task, frames: np.ndarray, base: Potential | None) -> tuple[Potential, LinearFit]:
    assert base is not None
    base = base.set_precision(torch.float64)
    if not (sizes := base.feature_sizes()):
        raise UserError(
            "the base has no features to read out", "take delta.fit=network or a network as the base", "delta.fit"
        )
    potential = ReadoutPotential(base, task.dataset.species, sum(sizes))
    fit = _solve(task, potential.describe, base.cutoff, frames, 0.0, 1.0, blocks=potential.blocks())
    potential.set_head(fit)
    return potential, fit


def _solve(
    task: Task,
    describe: Describe,
    cutoff: float,
    frames: np.ndarray,
    weight: float,
    energy_per_force: float,
    **kinds: np.ndarray,
) -> LinearFit:
    """Least squares on the frames; `weight` is the force term's weight against the energies', as in the loss."""
    chosen = task.graphs(cutoff, np.unique(frames))
    rows = {int(g.frame): row for g, row in zip(chosen, energy_design(describe, chosen), strict=True)}
    design = np.array([rows[int(k)] for k in frames])
    n_atoms = task.dataset.n_atoms[frames].astype(float)
    extra: dict[str, Any] = dict(kinds)
    if weight > 0 and task.forces is not None:
        n = {int(g.frame): 3 * g.num_nodes for g in chosen}
        ends = np.cumsum([n[int(g.frame)] for g in chosen])[:-1]
        force_blocks = dict(
            zip([int(g.frame) for g in chosen], np.split(force_design(describe, chosen), ends), strict=True)
        )
        extra["force_rows"] = np.concatenate([force_blocks[int(k)] for k in frames])
        extra["forces"] = np.concatenate([task.forces[int(k)].reshape(-1) for k in frames])
        extra["force_weight"] = np.sqrt(weight / 3) * energy_per_force * np.sqrt(n_atoms.mean())
    return fit_linear(design, task.energies[frames], n_atoms, **extra)
