"""Controls of one evaluated run, by name; each ends in a verdict (`controls`).

Fits are those of the run itself on changed labels, fewer of them or changed settings, on the run's own base, into
`RUN_DIR/evaluation/controls/`; what is finished there is not repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.errors import UserError, nearest
from mlffx.evaluation.control_context import Context, estimates, modes, values, watched
from mlffx.evaluation.control_convergence import convergence
from mlffx.evaluation.control_forces import cheap_base_control, forces
from mlffx.evaluation.control_form import architecture, cutoff, linear, size
from mlffx.evaluation.controls import Verdict, shuffled_differences
from mlffx.evaluation.frozen import frozen_phonons
from mlffx.evaluation.members import Members, fingerprint
from mlffx.evaluation.settle_control import settle_control
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import over_members
from mlffx.training.run_directory import write_atomically

SHUFFLES = 4
NOT_KEPT = ("settle",)  # costs nothing, and depends on labels of its own


def shuffled(c: Context) -> Verdict:
    """The run's own fit on differences that were dealt to the wrong structures."""
    if c.base is None or c.task.low is None:
        return Verdict("shuffled", "Shuffled differences shift nothing", "inconclusive", "a direct potential has none")
    low = c.spectra(Members([c.base], "single"), "low")
    mode = _shifted_most(c.model, low)
    shifts = []
    for k in range(SHUFFLES):
        energies = c.task.energies.copy()
        frames = c.task.split.train
        energies[frames] = energies[np.random.default_rng(k).permutation(frames)]
        fitted = c.fit(c.settings, replace(c.task, energies=energies), f"shuffled-{k}", c.base)
        moved = c.spectra(Members(fitted.fitted, "single"), "shuffled")
        shifts.append(float(values(moved, *mode).mean() - values(low, *mode).mean()))
    run = over_members(values(c.model, *mode))
    real = float(run.mean - values(low, *mode).mean())
    return shuffled_differences(over_members(np.array(shifts)), real, real_sigma=float(run.sigma), mode=" ".join(mode))


def _shifted_most(model: Spectra, low: Spectra, n_sigma: float = 2.0) -> tuple[str, str]:
    """The watched mode, or where that is not shifted the one at GAMMA and X whose shift is largest in units of sigma.

    LO of a polar crystal rests on charges that both levels share: nothing about it would be proven by shuffling.
    """
    wanted = [watched(model), *modes(model)]
    run = estimates(model, wanted)
    sigma = np.maximum(np.nan_to_num(run.sigma), 1.0)  # cm-1; modes without a spread do not win by that
    z = np.abs(run.mean - estimates(low, wanted).mean) / sigma
    return wanted[0] if z[0] > n_sigma else wanted[int(z.argmax())]


def frozen(c: Context) -> Verdict:
    """Energies along the optical eigenvectors at GAMMA against the force constants."""
    return frozen_phonons(c.members.fitted[0], c.crystal, c.phonons, c.directory)


CONTROLS: dict[str, Callable[[Context], Verdict]] = {
    "shuffled": shuffled,
    "forces": forces,
    "cheap_base": cheap_base_control,
    "linear": linear,
    "size": size,
    "cutoff": cutoff,
    "architecture": architecture,
    "frozen": frozen,
    "convergence": convergence,
    "settle": settle_control,
}


def chosen(names: str | Sequence[str]) -> list[str]:
    """Names from the command line: `none`, `all`, one, or a list.

    Raises:
        UserError: for an unknown control.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if wanted in (["none"], []):
        return []
    if wanted == ["all"]:
        return list(CONTROLS)
    for name in wanted:
        if name not in CONTROLS:
            raise UserError(f"unknown control '{name}'", nearest(name, [*CONTROLS, "all", "none"]), "controls")
    return wanted


def run_controls(names: Sequence[str], context: Context) -> list[Verdict]:
    """Verdicts of the named controls; those found in `controls/` for the same question are not repeated."""
    key = _key(context)
    verdicts = []
    for name in names:
        path = context.directory / f"{name}.json"
        verdict = None if name in NOT_KEPT else _stored(path, key)
        if verdict is None:
            if context.track.enabled:
                context.track.console.print(f"control: {name}")
            verdict = CONTROLS[name](context)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"key": key, "verdict": asdict(verdict)}, indent=1, default=float))
        verdicts.append(verdict)
    return verdicts


def _key(c: Context) -> str:
    """Hash of what a verdict depends on: checkpoints, the way phonons are computed, the scale of sigma."""
    parts = [*(fingerprint(p) for p in c.members.fitted), repr(c.phonons), repr(c.sigma_scale), repr(c.nac)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _stored(path: Path, key: str) -> Verdict | None:
    if not path.is_file():
        return None
    content: Mapping[str, Any] = json.loads(path.read_text())
    return Verdict(**content["verdict"]) if content.get("key") == key else None
