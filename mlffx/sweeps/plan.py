"""What a sweep consists of: axes, their values, and the jobs of all combinations, each with a name that stays the same.

An axis is a key with several values (`model=painn,mace`, Hydra's grammar), or, in a sweep file, a name with several
sets of overrides that belong together. A job is named by its values on every axis: the name is its directory, by which
it is found again when the sweep is started once more.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from mlffx.compose import key_of, parsed
from mlffx.config import read_settings
from mlffx.errors import UserError, nearest

FILES = Path(__file__).resolve().parents[2] / "sweeps"
LONGEST_NAME = 120
SHARED = ("data.root", "cache_dir", "logger")  # what the references of a sweep take from its command line


@dataclass(frozen=True)
class Axis:
    """One dimension of a sweep.

    Attributes:
        name: shown in names of jobs and in tables.
        values: value as it is shown -> overrides it stands for.
    """

    name: str
    values: dict[str, list[str]]


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: of its directory below that of the sweep.
        values: axis -> value.
        overrides: of conf/train.yaml.
    """

    name: str
    values: dict[str, str]
    overrides: list[str]


@dataclass(frozen=True)
class Sweep:
    """Everything that is asked for.

    Attributes:
        name: of the sweep and of its directory.
        fixed: overrides of every job.
        axes: discrete dimensions.
        intervals: keys an optimiser draws from (`optimizer.lr=interval(1e-4,1e-2)`), as parsed.
        references: level -> overrides of one more job, against which the summary takes errors of phonons.
        common: overrides of the command line that the references share: where data and caches are.
    """

    name: str
    fixed: list[str]
    axes: list[Axis]
    intervals: dict[str, Override] = field(default_factory=dict)
    references: dict[str, list[str]] = field(default_factory=dict)
    common: list[str] = field(default_factory=list)

    def jobs(self) -> list[Job]:
        """All combinations; the last axis changes fastest."""
        return [
            self.job(dict(zip([a.name for a in self.axes], chosen, strict=True)))
            for chosen in itertools.product(*[a.values for a in self.axes])
        ]

    def job(self, values: Mapping[str, str]) -> Job:
        """The job with these values on the axes."""
        overrides = [o for axis in self.axes for o in axis.values[values[axis.name]]]
        given = {key_of(o) for o in overrides}
        return Job(job_name(values), dict(values), [*[o for o in self.fixed if key_of(o) not in given], *overrides])

    def reference_jobs(self) -> dict[str, Job]:
        """Level -> job; overrides that are the same for all jobs (`data.root`) are for these too."""
        found = {}
        for level, overrides in self.references.items():
            given = {key_of(o) for o in overrides}
            common = [o for o in self.common if key_of(o) not in given]
            found[level] = Job(f"reference={level}", {}, [*common, *overrides])
        return found

    def probes(self) -> list[Job]:
        """Jobs in which every value of every axis occurs, one at a time: what is checked as a whole at the start."""
        first = {axis.name: next(iter(axis.values)) for axis in self.axes}
        others = [first | {axis.name: v} for axis in self.axes for v in list(axis.values)[1:]]
        return [self.job(values) for values in (first, *others)]


@dataclass(frozen=True)
class SweepFile:
    """The schema of a file in sweeps/.

    Attributes:
        overrides: of conf/train.yaml, any of them with several values.
        axes: name -> value -> overrides that belong together.
        search: keys of `search` in conf/train.yaml; those of the command line come before them.
        references: level -> overrides of a job of their own, as in `Sweep`.
    """

    name: str | None = None
    overrides: list[str] = field(default_factory=list)
    axes: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    references: dict[str, list[str]] = field(default_factory=dict)


def read_sweep(file: str | None, overrides: Sequence[str]) -> Sweep:
    """The sweep of a file and of the command line, which may replace keys of the file and choose values of its axes.

    Args:
        file: name of a file in sweeps/, or a path; None: the command line is all.
        overrides: of the command line, without those of the sweep itself (launcher, sweep_dir...).

    Raises:
        UserError: for a file that is not there, an axis without values or a value it does not have.
    """
    declared = SweepFile() if file is None else read_file(file)
    named = {name: _named_axis(name, values, file) for name, values in declared.axes.items()}
    own = []
    for override in overrides:
        name, _, text = override.partition("=")
        if name in named:
            named[name] = _chosen(named[name], text)
        else:
            own.append(override)
    given = {key_of(o) for o in own}
    swept = {key_of(str(o.input_line)) for o in parsed(declared.overrides) if o.is_sweep_override()}
    lines = [*[o for o in declared.overrides if key_of(o) not in given], *own]
    axes, intervals, fixed = list(named.values()), {}, []
    for o in parsed(lines):
        key = str(o.get_key_element())
        if o.is_discrete_sweep():
            axes.append(Axis(key, {str(v): [f"{key}={v}"] for v in o.sweep_string_iterator()}))
        elif o.is_sweep_override():
            intervals[key] = o
        elif key_of(str(o.input_line)) in swept:  # an axis narrowed to one value: the names of its jobs stay
            value = o.get_value_element_as_str()
            axes.append(Axis(key, {value: [str(o.input_line)]}))
        else:
            fixed.append(str(o.input_line))
    axes = _short_names(axes)
    name = declared.name or (Path(file).stem if file else _name_of(axes, [*lines]))
    common = [o for o in fixed if key_of(o) in SHARED]
    return Sweep(name, fixed, axes, intervals, declared.references, common)


def read_file(file: str) -> SweepFile:
    path = next((p for p in (Path(file), FILES / file, FILES / f"{file}.yaml") if p.is_file()), None)
    if path is None:
        raise UserError(
            f"no sweep '{file}'",
            nearest(file, [p.stem for p in FILES.glob("*.yaml") if not p.stem.startswith("wandb")]),
            "sweep",
        )
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"is not YAML ({' '.join(str(error).split())})", where=path) from error
    if not isinstance(values, Mapping):
        raise UserError("holds no keys", "see sweeps/README.md", path)
    found = read_settings(SweepFile, values, str(path))
    for line in found.overrides:
        if not isinstance(line, str):
            raise UserError(f"'{line}' is no override", "write KEY=VALUE", f"{path}: overrides")
    return found


def _named_axis(name: str, values: Any, file: str | None) -> Axis:
    where = f"{file}: axes.{name}"
    if not isinstance(values, Mapping) or not values:
        raise UserError("has no values", "write VALUE: [KEY=VALUE, ...]", where)
    for value, lines in values.items():
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise UserError(f"'{lines}' is no list of overrides", "write VALUE: [KEY=VALUE, ...]", f"{where}.{value}")
    return Axis(name, {str(value): list(lines) for value, lines in values.items()})


def _chosen(axis: Axis, text: str) -> Axis:
    wanted = text.split(",")
    for value in wanted:
        if value not in axis.values:
            raise UserError(f"'{value}' is no value of this axis", nearest(value, axis.values), axis.name)
    return replace(axis, values={value: axis.values[value] for value in wanted})


def _short_names(axes: list[Axis]) -> list[Axis]:
    """`data.train_size` is called `train_size` where nothing else is."""
    last = [axis.name.lstrip("+~").split(".")[-1] for axis in axes]
    return [
        replace(axis, name=short if last.count(short) == 1 else axis.name)
        for axis, short in zip(axes, last, strict=True)
    ]


def job_name(values: Mapping[str, Any]) -> str:
    """`model=painn,seed=0`: the directory of a job; what a directory cannot be called is replaced, with a hash."""
    plain = ",".join(f"{key}={value}" for key, value in values.items()) or "single"
    name = re.sub(r"[^\w.+=,@-]+", "_", plain)
    if name == plain and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{_short_hash([plain])}"


def _name_of(axes: Iterable[Axis], lines: Sequence[str]) -> str:
    """The same command is the same sweep: its name holds its axes and a hash of everything that was asked for."""
    return "-".join([*[axis.name for axis in axes], _short_hash(sorted(lines))])


def _short_hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]
