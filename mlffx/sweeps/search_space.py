"""What a search draws from, and the jobs of what was drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Override

from mlffx.compose import composed, plain
from mlffx.errors import UserError
from mlffx.sweeps.plan import Job, Sweep
from mlffx.sweeps.states import check
from mlffx.training.closed_form import is_closed_form
from mlffx.training.settings import TrainSettings


def space(asked: Sweep) -> dict[str, Any]:
    """Axis or key -> the distribution it is drawn from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {a.name: CategoricalDistribution(list(a.values)) for a in asked.axes if len(a.values) > 1}
    for key, override in asked.intervals.items():
        low, high, logarithmic = _interval(override)
        whole = isinstance(low, int) and isinstance(high, int)
        found[key] = (IntDistribution if whole else FloatDistribution)(low, high, log=logarithmic)
    if not found:
        raise UserError("nothing to search over", "give 'optimizer.lr=tag(log,interval(1e-4,1e-2))'", "search.trials")
    return found


def _interval(override: Override) -> tuple[Any, Any, bool]:
    value: Any = override.value()
    if not value.start < value.end:
        raise UserError(f"from {value.start} to {value.end} there is nothing", "order them", override.get_key_element())
    return value.start, value.end, "log" in value.tags


def job_of(asked: Sweep, drawn: Mapping[str, Any], name: str) -> Job:
    """The job with these values; axes with one value have that."""
    fixed = {axis.name: next(iter(axis.values)) for axis in asked.axes}
    job = asked.job(fixed | {k: v for k, v in drawn.items() if k in fixed})
    return Job(name, job.values, [*job.overrides, *[f"{k}={drawn[k]!r}" for k in asked.intervals]])


def check_space(asked: Sweep) -> None:
    """Every value of the axes and both ends of every interval, as complete jobs.

    Raises:
        UserError: for a mistake in any of them, for fits without epochs, for ensembles.
    """
    ends = {key: _interval(o)[:2] for key, o in asked.intervals.items()}
    lowest = {key: low for key, (low, _) in ends.items()}
    space(asked)
    jobs = [job_of(asked, probe.values | lowest, "") for probe in asked.probes()]
    jobs += [job_of(asked, jobs[0].values | lowest | {key: high}, "") for key, (_, high) in ends.items()]
    for job in jobs:
        settings = TrainSettings.read(plain(composed("train", job.overrides)))
        if is_closed_form(settings):
            raise UserError("least squares has no epochs to search by", "search with a network", "search.trials")
        if settings.ensemble > 1:
            raise UserError("a search trains one member a trial", "set ensemble=1", "ensemble")
    check(jobs)
