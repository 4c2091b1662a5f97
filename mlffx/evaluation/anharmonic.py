"""Molecular dynamics of the members of a run, and the anharmonic shift of named modes with the spread between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.config import read_settings
from mlffx.data.crystal import Crystal
from mlffx.dynamics.labelled import LabelledShift
from mlffx.dynamics.result import DynamicsResult
from mlffx.dynamics.run import run_dynamics
from mlffx.dynamics.settings import DynamicsConfig
from mlffx.evaluation.members import Members
from mlffx.evaluation.uncertainty import combine, over_members


def wanted(dynamics: Mapping[str, Any] | None) -> DynamicsConfig | None:
    """Settings of the dynamics asked for, checked before anything is computed; None where there is to be none."""
    if not dynamics or not dynamics.get("enabled", True):
        return None
    return read_settings(DynamicsConfig, dict(dynamics), "dynamics")


def run_members(members: Members, crystal: Crystal, config: DynamicsConfig, folder: Path) -> list[DynamicsResult]:
    """Dynamics of the first `config.members` fits of a run; finished trajectories are read, not repeated."""
    fitted = members.fitted[: config.members]
    folders = [folder, *(folder / f"member-{k}" for k in range(1, len(fitted)))]
    return [run_dynamics(p, crystal, config, where) for p, where in zip(fitted, folders, strict=True)]


def mean_shifts(results: Sequence[DynamicsResult]) -> list[LabelledShift]:
    """Shifts averaged over members; sigma holds the error of the finite runs and the spread between the members."""
    tables = [{(s.label, s.branch): s for s in r.shifts()} for r in results]
    found = []
    for name, first in tables[0].items():
        same = [t[name] for t in tables if name in t]
        shift = over_members(np.array([s.shift for s in same]))
        noise = float(np.sqrt(np.mean([s.sigma**2 for s in same]) / len(same)))
        found.append(
            LabelledShift(
                *name,
                harmonic=float(np.mean([s.harmonic for s in same])),
                shift=float(shift.mean),
                sigma=float(combine(shift.sigma, noise)),
                linewidth=float(np.mean([s.linewidth for s in same])),
                linewidth_sigma=first.linewidth_sigma,
            )
        )
    return found
