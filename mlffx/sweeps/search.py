"""Hyper-parameters by Optuna: it draws them, jobs train with them, and hopeless jobs are ended early.

The job itself knows nothing of the search. Its metrics.csv is read while it grows: every epoch is reported to the
trial, and when the pruner gives it up the process is ended. Hydra's own Optuna sweeper is not used: it needs
Optuna 2, which does not work with SQLAlchemy 2, cannot prune, and starts its count of trials anew after a kill.

The study is kept in SQLite in the sweep's directory, or in any database by its URL. Machines that share a database
share the study: start the same command on each. Trials that were running when a sweep was killed are continued first.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from rich.console import Console

from mlffx.compose import composed, plain
from mlffx.config import read_settings
from mlffx.errors import UserError, nearest
from mlffx.sweeps.launchers import EXTRA, Launcher, run_one
from mlffx.sweeps.plan import Sweep
from mlffx.sweeps.record import own_overrides, record
from mlffx.sweeps.search_space import check_space, job_of, space
from mlffx.sweeps.worker import Outcome, Work, again, is_locked
from mlffx.training.run_directory import write_atomically

if TYPE_CHECKING:
    import optuna

SQLITE_TIMEOUT = 60  # s, that a writer waits for another one
HEARTBEAT = 60  # s, after which a silent machine's trials count as lost
BEST = "best.yaml"
DIVERGED = "diverged"  # said by the run: as good a reason never to draw such values again as a bad curve


@dataclass(frozen=True)
class SearchSettings:
    """The keys of `search` in conf/train.yaml.

    Attributes:
        trials: finished or pruned ones there are to be in the end; None: no search.
        metric: column of metrics.csv whose lowest value a trial is judged by.
        storage: database URL; None: SQLite in the sweep's directory.
        sampler: `tpe` (learns from the trials before) or `random`.
        seed: of the sampler; without effect where machines share a storage, which must not draw the same.
        pruner: `median` ends a trial that is worse than the median of the others at the same epoch; `none` ends none.
        startup_trials: that are never ended.
        warmup_epochs: in which no trial is ended.
    """

    trials: int | None = None
    metric: str = "val_loss"
    storage: str | None = None
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = 0
    pruner: Literal["median", "none"] = "median"
    startup_trials: int = 5
    warmup_epochs: int = 10


def read_search(values: Mapping[str, Any]) -> SearchSettings:
    """Check the keys of `search`.

    Raises:
        UserError: names the key.
    """
    settings = read_settings(SearchSettings, values, "search")
    if settings.trials is not None and settings.trials < 1:
        raise UserError(f"{settings.trials} is too few", "take 1 or more", "search.trials")
    return settings


def search(
    asked: Sweep, settings: SearchSettings, launcher: Launcher, sweep_dir: Path, console: Console
) -> list[Outcome]:
    """Run trials until there are as many as asked for; the best so far is in best.yaml.

    Raises:
        UserError: for a mistake in the jobs or the storage, before the first trial.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("optuna is not here", EXTRA, "search.trials") from error
    assert settings.trials is not None
    check_space(asked)
    sweep_dir.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings are tracebacks of failed jobs
    study = _study(settings, asked, sweep_dir)
    _take_up_lost(study, sweep_dir)
    at_once = launcher.at_once()
    console.print(f"{_done(study)} of {settings.trials} trials, {launcher.name}, into {sweep_dir}", soft_wrap=True)
    searching = _Search(asked, settings, launcher, sweep_dir, console, space(asked))
    try:
        while (left := settings.trials - _done(study)) > 0:
            before = _done(study)
            study.optimize(searching, n_trials=left, n_jobs=min(left, at_once), catch=(JobEnded,))
            if _done(study) == before:  # failed trials do not count, and a search in which everything fails has to end
                break
    finally:
        searching.stop.set()
        _write_best(study, settings, asked, sweep_dir)
    return searching.outcomes


class JobEnded(RuntimeError):
    """A job that failed or was interrupted: its trial does not count."""


class _Search:
    """The objective: a trial's parameters in, the lowest value of the metric out, with a job in between."""

    def __init__(
        self,
        asked: Sweep,
        settings: SearchSettings,
        launcher: Launcher,
        sweep_dir: Path,
        console: Console,
        space: dict[str, Any],
    ) -> None:
        self.asked, self.settings, self.launcher = asked, settings, launcher
        self.sweep_dir, self.console, self.space = sweep_dir, console, space
        self.stop = threading.Event()
        self.outcomes: list[Outcome] = []
        self._writing = threading.Lock()

    def __call__(self, trial: optuna.Trial) -> float:
        import optuna

        if self.stop.is_set():
            raise JobEnded("interrupted")
        work = self._work(trial)
        outcome = run_one(work, self.launcher, self.sweep_dir, self.stop, lambda: self.give_up(trial, work.directory))
        if DIVERGED in outcome.reason:
            outcome = replace(outcome, state="pruned")
        curve = learning_curve(work.directory / "metrics.csv", self.settings.metric)
        value = min(curve.values(), default=math.inf)
        with self._writing:
            self.outcomes.append(outcome)
            why = f" ({outcome.reason})" if outcome.reason else ""
            line = f"{work.name}: {outcome.state}{why}, {self.settings.metric} {value:.4g}  {trial.params}"
            self.console.print(line, markup=False, soft_wrap=True)
        if outcome.state == "pruned":
            raise optuna.TrialPruned
        if outcome.state != "finished" or not math.isfinite(value):
            raise JobEnded(outcome.reason or outcome.state)
        for epoch in curve.keys() - trial.study.trials[trial.number].intermediate_values.keys():
            trial.report(curve[epoch], epoch)
        return value

    def _work(self, trial: optuna.Trial) -> Work:
        """The job of a trial: new, or, after a kill, that of the trial it takes the place of."""
        name = trial.user_attrs.get("directory") or f"trial={trial.number:04d}"
        trial.set_user_attr("directory", name)
        drawn = {k: trial._suggest(k, d) for k, d in self.space.items()}
        job = job_of(self.asked, drawn, name)
        directory = self.sweep_dir / name
        directory.mkdir(parents=True, exist_ok=True)
        with self._writing:
            record(self.asked, [replace(job, values={k: _text(v) for k, v in drawn.items()})], self.sweep_dir)
        threads = self.launcher.threads_each()
        more = own_overrides(plain(composed("train", job.overrides)), self.asked.name, threads)
        return again(Work(name, directory, [*job.overrides, *more, f"run_dir='{directory}'"], threads))

    def give_up(self, trial: optuna.Trial, directory: Path) -> bool:
        """Report the epochs there are; whether the pruner wants no more of them."""
        known = trial.study.trials[trial.number].intermediate_values
        for epoch, value in learning_curve(directory / "metrics.csv", self.settings.metric).items():
            if epoch not in known:
                trial.report(value, epoch)
        return bool(trial.should_prune())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def learning_curve(path: Path, metric: str) -> dict[int, float]:
    """Epoch -> value in the whole rows of a metrics.csv that may be growing.

    Raises:
        UserError: for a metric that is no column of it.
    """
    try:
        text = path.read_text()
    except OSError:
        return {}
    rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
    if rows and metric not in rows[0]:
        raise UserError(f"no column '{metric}'", nearest(metric, rows[0]), "search.metric")
    values = {int(row["epoch"]): float(row[metric]) for row in rows if row.get(metric)}
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def _study(settings: SearchSettings, asked: Sweep, sweep_dir: Path) -> optuna.Study:
    """The study, found again by the name of the sweep's directory.

    Raises:
        UserError: for a storage that cannot be opened, or a study of something else.
    """
    import optuna

    url = settings.storage or f"sqlite:///{(sweep_dir / 'study.db').resolve()}"
    samplers: dict[str, Any] = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    patience = {"connect_args": {"timeout": SQLITE_TIMEOUT}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    pruner = (
        optuna.pruners.MedianPruner(settings.startup_trials, settings.warmup_epochs)
        if settings.pruner == "median"
        else optuna.pruners.NopPruner()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=patience, heartbeat_interval=HEARTBEAT)
            study = optuna.create_study(
                study_name=sweep_dir.name,
                storage=storage,
                pruner=pruner,
                load_if_exists=True,
            )
        except Exception as error:  # whatever the database's driver raises
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"cannot be opened ({reason})", "give a database URL", "search.storage") from error
    wanted = {"fixed": asked.fixed, "space": {k: str(d) for k, d in space(asked).items()}, "metric": settings.metric}
    if (there := study.user_attrs.get("asked")) not in (None, wanted):
        raise UserError("holds a search over something else", f"take another sweep_dir ({there})", url)
    study.set_user_attr("asked", wanted)
    # a search that goes on, or has company, must not draw again what has been drawn
    seed = settings.seed + len(study.get_trials(deepcopy=False)) if settings.storage is None else None
    study.sampler = samplers[settings.sampler](seed=seed)
    return study


def _done(study: optuna.Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _take_up_lost(study: optuna.Study, sweep_dir: Path) -> None:
    """Trials whose sweep was killed: the same parameters again, going on with the run they left here."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        name = trial.user_attrs.get("directory")
        if name and (sweep_dir / name).is_dir() and not is_locked(sweep_dir / name):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"directory": name})


def _write_best(study: optuna.Study, settings: SearchSettings, asked: Sweep, sweep_dir: Path) -> None:
    """best.yaml: the best trial, its overrides and the command that trains it again."""
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not finished:
        return
    best = min(finished, key=lambda t: t.value if t.value is not None else math.inf)
    job = job_of(asked, best.params, str(best.user_attrs.get("directory")))
    found = {"directory": job.name, settings.metric: best.value, "parameters": best.params}
    found |= {"command": " ".join(["python train.py", *[shlex.quote(o) for o in job.overrides]])}
    write_atomically(sweep_dir / BEST, yaml.safe_dump(found, sort_keys=False, width=10_000))
