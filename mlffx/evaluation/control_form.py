"""Controls on what was chosen freely: the fit, the number of labels, the range, the architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mlffx.evaluation.control_context import Context, estimates, modes, values, watched
from mlffx.evaluation.controls import Verdict, agreement, size_dependence
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import Estimate, over_members, small_sample_factor
from mlffx.models.base import MODELS
from mlffx.training.closed_form import is_linear
from mlffx.training.run_directory import load_members
from mlffx.training.settings import StartSettings, TrainSettings
from mlffx.training.task import prepare
from mlffx.training.train import train_cached

SHARES = (0.25, 0.5, 1.0)  # of the training set, for the dependence on its size
RANGES = (0.8, 1.2)  # of the cutoff
FORMS = "variants"  # key of a verdict's numbers: variant -> `label branch` -> [mean, sigma] in cm-1
LABELS = ("GAMMA", "X", "L")
OTHER_NETWORKS = ("schnet", "bpnn", "painn")
TITLES = {
    "cutoff": "The result does not hang on the range",
    "architecture": "The result does not hang on the architecture",
}


def linear(c: Context) -> Verdict:
    """The same labels by symmetry-adapted force constants, on the same base."""
    title = "The linear fit and the network agree"
    if c.settings.model["name"] == "force_constants":
        return Verdict("linear", title, "inconclusive", "this run is the linear fit: compare it with a network")
    settings = replace(c.settings, model={"name": "force_constants"}, electrostatics={"name": "none"})
    other = c.spectra(c.fit(settings, c.task, "linear", c.base), "linear fit")
    ours, theirs = (estimates(s, modes(c.model)) for s in (c.model, other))
    verdict = agreement("The linear fit", theirs, "the network", ours)
    return replace(
        verdict, name="linear", title=title, numbers={**verdict.numbers, FORMS: {"linear fit": table(c, other)}}
    )


def size(c: Context) -> Verdict:
    """The same fit on fewer labels; smaller training sets are contained in larger ones."""
    mode, all_frames = watched(c.model), c.task.split.train
    sizes, found = [], []
    for share in SHARES:
        n = max(5, round(share * len(all_frames)))
        settings = replace(c.settings, data=c.settings.data | {"train_size": n})
        fitted = c.fit(settings, prepare(settings), f"size-{n}", c.base)
        sizes.append(n)
        found.append(over_members(values(c.spectra(fitted, str(n)), *mode)))
    run = over_members(values(c.model, *mode))  # where single fits have no sigma, that of the run stands in
    known = [Estimate(e.mean, e.sigma if np.isfinite(e.sigma) else run.sigma, e.n_members) for e in found]
    return size_dependence(sizes, known)


def cutoff(c: Context) -> Verdict:
    """The same fit with a shorter and a longer range; that of a readout is its base's, so the linear fit is varied."""
    settings = c.settings
    if is_readout(settings):
        settings = replace(settings, model={"name": "force_constants"}, electrostatics={"name": "none"})
    reach = settings.model.get("cutoff") or MODELS.options(settings.model["name"])["cutoff"].default
    found = {}
    for factor in RANGES:
        varied = replace(settings, model=settings.model | {"cutoff": round(factor * reach, 2)})
        found[f"{factor * reach:.2f} Å"] = c.spectra(c.fit(varied, c.task, f"cutoff-{factor:g}", c.base), "range")
    return _same_for(c, "cutoff", found)


def architecture(c: Context) -> Verdict:
    """The run with other forms of the model: of a readout, features of another network; of a network, another one."""
    own = str(c.settings.model["name"])
    found: dict[str, Spectra] = {}
    if own == "force_constants":
        shorter = replace(c.settings, model=c.settings.model | {"angle_orders": []})
        found["without angles"] = c.spectra(c.fit(shorter, c.task, "without-angles", c.base), "without angles")
        quartic = replace(c.settings, model=c.settings.model | {"orders": [3, 4, 5, 6]})
        found["to sixth order"] = c.spectra(c.fit(quartic, c.task, "sixth-order", c.base), "to sixth order")
    else:
        other = next(name for name in OTHER_NETWORKS if name != own)
        model = {"name": other} | ({"cutoff": c.settings.model["cutoff"]} if "cutoff" in c.settings.model else {})
        base = c.base
        if is_readout(c.settings):
            if (config := _base_config(c)) is None:
                return Verdict("architecture", TITLES["architecture"], "inconclusive", "the base has no configuration")
            base = load_members(train_cached(config | {"model": model}, c.settings.cache_dir, c.track.console))[0]
        settings = replace(c.settings, model=model, start=StartSettings())
        found[other] = c.spectra(c.fit(settings, c.task, f"architecture-{other}", base), other)
    return _same_for(c, "architecture", found)


def is_readout(settings: TrainSettings) -> bool:
    """Whether the run reads out the features of its base."""
    return settings.potential.kind == "delta" and settings.delta.fit == "readout" and not is_linear(settings)


def model_form(model: Spectra, verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Spread over forms of the model, label -> branch -> cm-1: what no posterior or ensemble of one form can know of.

    The run itself and every variant that controls have fitted; weighted standard deviation, with the small-sample
    factor. Variants whose own sigma is larger than the run's weigh less: what they are uncertain of is not their form.
    Empty without variants.
    """
    forms = [form for v in verdicts for form in v.numbers.get(FORMS, {}).values()]
    found: dict[str, dict[str, float]] = {}
    for label, branch in modes(model, LABELS) if forms else []:
        own = over_members(values(model, label, branch))
        others = [form[f"{label} {branch}"] for form in forms if f"{label} {branch}" in form]
        if others:
            x = np.array([float(own.mean), *(mean for mean, _ in others)])
            sigma = np.array([float(own.sigma), *(s if s is not None else np.nan for _, s in others)])
            found.setdefault(label, {})[branch] = _weighted_spread(x, sigma)
    return found


def _weighted_spread(x: np.ndarray, sigma: np.ndarray) -> float:
    """Standard deviation with weights 1 / max(sigma, sigma_0)^2, and the small-sample factor; unknown sigmas count as
    that of the run, x[0]."""
    floor = sigma[0] if np.isfinite(sigma[0]) and sigma[0] > 0 else 1.0
    weights = (floor / np.fmax(sigma, floor)) ** 2
    mean = np.average(x, weights=weights)
    variance = np.average((x - mean) ** 2, weights=weights) * len(x) / (len(x) - 1)
    return float(np.sqrt(variance)) * small_sample_factor(len(x))


def table(c: Context, other: Spectra) -> dict[str, list[float]]:
    """Modes of a variant, named as the run names them: [mean, sigma], cm-1."""
    wanted = modes(c.model, LABELS)
    found = estimates(other, wanted)
    return {f"{p} {b}": [float(m), float(s)] for (p, b), m, s in zip(wanted, found.mean, found.sigma, strict=True)}


def _same_for(c: Context, name: str, variants: Mapping[str, Spectra]) -> Verdict:
    """The variant that differs most from the run decides."""
    ours = estimates(c.model, modes(c.model))
    verdicts = []
    for variant, spectra in variants.items():
        theirs = estimates(spectra, modes(c.model))
        theirs = replace(theirs, sigma=np.where(np.isfinite(theirs.sigma), theirs.sigma, ours.sigma))
        verdict = agreement(variant, theirs, "the run", ours)
        verdicts.append(replace(verdict, statement=f"{variant}: {verdict.statement}"))
    worst = max(verdicts, key=lambda v: max(v.numbers.get("z", [0.0])))
    numbers = {FORMS: {variant: table(c, spectra) for variant, spectra in variants.items()}}
    return replace(worst, name=name, title=TITLES[name], numbers=numbers)


def _base_config(c: Context) -> dict[str, Any] | None:
    """How the run's base was trained, for one member; None where it is no run of this package."""
    files = [c.run.path / "base.yaml", Path(c.settings.potential.base) / "config.yaml"]
    known = next((path for path in files if path.is_file()), None)
    if known is None:
        return None
    return yaml.safe_load(known.read_text()) | {"ensemble": 1, "logger": {"name": "csv"}}
